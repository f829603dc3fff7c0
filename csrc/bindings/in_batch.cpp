#include "samplers/in_batch.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "bindings/module.hpp"
#include "bindings/table.hpp"

namespace fastkd::bindings {
namespace {

void check_range(std::span<const std::int64_t> ids, std::int64_t bound, const char* name) {
    for (const std::int64_t id : ids) {
        if (id < 0 || id >= bound) {
            throw py::value_error(std::string(name) + " " + std::to_string(id) + " is out of range [0, " +
                                  std::to_string(bound) + ")");
        }
    }
}

template <class T>
py::array_t<T> copied(const std::vector<T>& values) {
    py::array_t<T> array(static_cast<py::ssize_t>(values.size()));
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

class InBatch {
public:
    InBatch(py::array indptr, py::array indices, std::int64_t num_items)
        : table_(std::move(indptr), std::move(indices), num_items, std::numeric_limits<std::int64_t>::max()) {}

    [[nodiscard]] py::tuple left_out(const py::array& users, const py::array& positives, int threads) const {
        require<std::int64_t>(users, "users", 1);
        require<std::int64_t>(positives, "positives", 1);
        if (users.shape(0) != positives.shape(0)) {
            throw py::value_error("positives has " + std::to_string(positives.shape(0)) + " rows for " +
                                  std::to_string(users.shape(0)) + " users");
        }
        if (users.shape(0) > kMaxBatch) {
            throw py::value_error("a batch holds at most " + std::to_string(kMaxBatch) + " rows, got " +
                                  std::to_string(users.shape(0)));
        }
        const auto rows = view<std::int64_t>(users);
        const auto items = view<std::int64_t>(positives);
        check_range(rows, table_.num_users(), "user");
        check_range(items, table_.num_items(), "positive");
        const LeftOut found = [&] {
            const py::gil_scoped_release unlocked;
            return table_.visit([&](const auto& csr) { return left_out_columns(csr, rows, items, threads); });
        }();
        return py::make_tuple(copied(found.indptr), copied(found.columns));
    }

private:
    Table table_;
};

}  // namespace

void register_in_batch(py::module_& module) {
    py::class_<InBatch>(module, "InBatch", "Which rows of a batch may serve as each other's negatives.")
        .def(py::init<py::array, py::array, std::int64_t>(), py::arg("indptr"), py::arg("indices"),
             py::arg("num_items"), "Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them.")
        .def("left_out", &InBatch::left_out, py::arg("users"), py::arg("positives"), py::arg("threads") = 1,
             "Return (indptr, columns) of the columns that are no negatives of each row: itself, its item, its "
             "history.");
}

}  // namespace fastkd::bindings
