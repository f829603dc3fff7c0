#include "samplers/epoch.hpp"

#include <limits>
#include <utility>

#include "bindings/module.hpp"
#include "bindings/table.hpp"

namespace fastkd::bindings {
namespace {

template <class Out>
void require_length(const py::array& array, const char* name, py::ssize_t dimensions, std::int64_t rows) {
    require<Out>(array, name, dimensions);
    if (array.shape(0) != rows) {
        throw py::value_error(std::string(name) + " has " + std::to_string(array.shape(0)) + " rows for " +
                              std::to_string(rows) + " entries");
    }
}

void shuffled(std::uint64_t key, py::array out) {
    if (out.ndim() == 1 && out.shape(0) > kMaxEntries) {
        throw py::value_error("an order holds at most " + std::to_string(kMaxEntries) + " entries, got " +
                              std::to_string(out.shape(0)));
    }
    if (is_int32(out)) {
        require<std::int32_t>(out, "out", 1);
        if (out.shape(0) > std::numeric_limits<std::int32_t>::max()) {
            throw py::value_error("out must be int64 to hold an order of " + std::to_string(out.shape(0)) + " entries");
        }
        const std::span order(target<std::int32_t>(out, "out"), static_cast<std::size_t>(out.shape(0)));
        const py::gil_scoped_release unlocked;
        shuffled_order(key, order);
        return;
    }
    require<std::int64_t>(out, "out", 1);
    const std::span order(target<std::int64_t>(out, "out"), static_cast<std::size_t>(out.shape(0)));
    const py::gil_scoped_release unlocked;
    shuffled_order(key, order);
}

class EpochTable {
public:
    EpochTable(py::array indptr, py::array indices, std::int64_t num_items)
        : table_(std::move(indptr), std::move(indices), num_items, std::numeric_limits<std::int64_t>::max()),
          owner_(table_.indptr()) {}

    void gather(const py::array& entries, const py::array& drawn, py::array users, py::array positives,
                py::array negatives, int threads) const {
        const bool narrow = is_int32(entries);
        const bool fits = table_.narrow() && table_.num_users() <= std::numeric_limits<std::int32_t>::max();
        if (narrow && !fits)
            throw py::type_error("entries must be int64 where users or items are past int32, got int32");
        const std::int64_t wrong =
            narrow ? run<std::int32_t, std::int32_t>(entries, drawn, users, positives, negatives, threads)
            : table_.narrow() ? run<std::int32_t, std::int64_t>(entries, drawn, users, positives, negatives, threads)
                              : run<std::int64_t, std::int64_t>(entries, drawn, users, positives, negatives, threads);
        if (wrong >= 0) {
            throw py::value_error("entries holds one outside [0, " + std::to_string(table_.nnz()) + ") at place " +
                                  std::to_string(wrong));
        }
    }

private:
    template <class Id, class Out>
    std::int64_t run(const py::array& entries, const py::array& drawn, py::array& users, py::array& positives,
                     py::array& negatives, int threads) const {
        require<Out>(entries, "entries", 1);
        const std::int64_t rows = entries.shape(0);
        require_length<Id>(drawn, "drawn", 2, table_.nnz());
        require_length<Out>(users, "users", 1, rows);
        require_length<Out>(positives, "positives", 1, rows);
        require_length<Out>(negatives, "negatives", 2, rows);
        const std::int64_t n = drawn.shape(1);
        if (negatives.shape(1) != n) {
            throw py::value_error("negatives has " + std::to_string(negatives.shape(1)) + " columns for " +
                                  std::to_string(n) + " drawn");
        }
        const EpochColumns<Out> out{target<Out>(users, "users"), target<Out>(positives, "positives"),
                                    target<Out>(negatives, "negatives")};
        const auto wanted = view<Out>(entries);
        const auto* ids = static_cast<const Id*>(drawn.data());
        const auto csr = table_.csr<Id>();
        const py::gil_scoped_release unlocked;
        return gather_entries(csr, owner_, wanted, ids, n, out, threads);
    }

    Table table_;
    EntryUsers owner_;
};

}  // namespace

void register_epoch(py::module_& module) {
    module.def("shuffled", &shuffled, py::arg("key"), py::arg("out"),
               "Fill out, int32 or int64 [nnz], with the order numpy's Generator(Philox(key=key)).permutation makes.");
    py::class_<EpochTable>(module, "EpochTable",
                           "Users, items and negatives of interactions in any order; reads the CSR arrays in place.")
        .def(py::init<py::array, py::array, std::int64_t>(), py::arg("indptr"), py::arg("indices"),
             py::arg("num_items"), "Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them.")
        .def("gather", &EpochTable::gather, py::arg("entries"), py::arg("drawn"), py::arg("users"),
             py::arg("positives"), py::arg("negatives"), py::arg("threads") = 1,
             "Fill users[B], positives[B], negatives[B, n] (dtype of entries) from entries[B] and drawn[nnz, n].");
}

}  // namespace fastkd::bindings
