#include "samplers/uniform.hpp"

#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/module.hpp"

namespace fastkd::bindings {
namespace {

const char* describe(CsrFault fault) {
    switch (fault) {
        case CsrFault::kNoRows: return "indptr is empty, it needs one entry more than there are rows";
        case CsrFault::kFirstPointer: return "indptr does not start with 0";
        case CsrFault::kDecreasing: return "indptr decreases";
        case CsrFault::kLastPointer: return "indptr does not end at the number of indices";
        case CsrFault::kOutOfRange: return "an item is outside [0, num_items)";
        case CsrFault::kNotIncreasing: return "items are not strictly increasing";
        case CsrFault::kNone: break;
    }
    return "no fault";
}

Exclusions exclusions_of(const py::object& given, py::ssize_t rows) {
    if (given.is_none()) return {};
    if (!py::isinstance<py::array>(given)) {
        throw py::type_error("exclude_lists must be a numpy array or None, got " +
                             py::str(py::type::of(given)).cast<std::string>());
    }
    const auto lists = py::reinterpret_borrow<py::array>(given);
    const bool wide = !is_int32(lists);
    if (wide) {
        require<std::int64_t>(lists, "exclude_lists", 2);
    } else {
        require<std::int32_t>(lists, "exclude_lists", 2);
    }
    if (lists.shape(0) != rows) {
        throw py::value_error("exclude_lists has " + std::to_string(lists.shape(0)) + " rows for " +
                              std::to_string(rows) + " users");
    }
    return {lists.data(), wide, lists.shape(1)};
}

// Holds the arrays it was built from and reads them in place; they must not change afterwards.
class UniformSampler {
public:
    UniformSampler(py::array indptr, py::array indices, std::int64_t num_items)
        : indptr_(std::move(indptr)), indices_(std::move(indices)), num_items_(num_items), narrow_(is_int32(indices_)) {
        require<std::int64_t>(indptr_, "indptr", 1);
        if (narrow_) {
            require<std::int32_t>(indices_, "indices", 1);
        } else {
            require<std::int64_t>(indices_, "indices", 1);
        }
        if (num_items < 0 || num_items > kMaxItems) {
            throw py::value_error("num_items must be in [0, " + std::to_string(kMaxItems) + "], got " +
                                  std::to_string(num_items));
        }
        const CsrCheck result = narrow_ ? check(csr<std::int32_t>()) : check(csr<std::int64_t>());
        if (result.fault != CsrFault::kNone) {
            throw py::value_error(std::string(describe(result.fault)) + " (row " + std::to_string(result.row) + ")");
        }
    }

    std::int64_t sample(const py::array& users, std::uint64_t key, py::array out,
                        const py::object& exclude_lists, bool replacement, int threads) const {
        require<std::int64_t>(users, "users", 1);
        require<std::int64_t>(out, "out", 2);
        if (out.shape(0) != users.shape(0)) {
            throw py::value_error("out has " + std::to_string(out.shape(0)) + " rows for " +
                                  std::to_string(users.shape(0)) + " users");
        }
        const std::int64_t n = out.shape(1);
        check_slots(n);
        const auto ids = view<std::int64_t>(users);
        for (const std::int64_t user : ids) {
            if (user < 0 || user >= num_users()) {
                throw py::value_error("user " + std::to_string(user) + " is out of range [0, " +
                                      std::to_string(num_users()) + ")");
            }
        }
        const Exclusions exclusions = exclusions_of(exclude_lists, users.shape(0));
        const DrawOptions options{key, replacement, threads};
        auto* drawn = target<std::int64_t>(out, "out");
        DrawReport report;
        {
            const py::gil_scoped_release unlocked;
            report = narrow_ ? sample_rows(csr<std::int32_t>(), ids, n, exclusions, options, drawn)
                             : sample_rows(csr<std::int64_t>(), ids, n, exclusions, options, drawn);
        }
        if (report.invalid_row >= 0) {
            throw py::value_error("exclude_lists holds an item outside [-1, " + std::to_string(num_items_) +
                                  ") in row " + std::to_string(report.invalid_row));
        }
        return report.short_row;
    }

    std::int64_t sample_epoch(std::uint64_t key, py::array out, int threads) const {
        if (narrow_) {
            require<std::int32_t>(out, "out", 2);
        } else {
            require<std::int64_t>(out, "out", 2);
        }
        if (out.shape(0) != indices_.shape(0)) {
            throw py::value_error("out has " + std::to_string(out.shape(0)) + " rows for " +
                                  std::to_string(indices_.shape(0)) + " interactions");
        }
        const std::int64_t n = out.shape(1);
        check_slots(n);
        const auto pointers = view<std::int64_t>(indptr_);
        for (std::size_t user = 0; user + 1 < pointers.size(); ++user) {
            if (n > 0 && pointers[user + 1] - pointers[user] > kMaxSlots / n) {
                throw py::value_error("user " + std::to_string(user) + " would take more than 2**32 slots");
            }
        }
        const DrawOptions options{key, true, threads};
        void* drawn = narrow_ ? static_cast<void*>(target<std::int32_t>(out, "out"))
                              : static_cast<void*>(target<std::int64_t>(out, "out"));
        const py::gil_scoped_release unlocked;
        const DrawReport report =
            narrow_ ? fastkd::sample_entries(csr<std::int32_t>(), n, options, static_cast<std::int32_t*>(drawn))
                    : fastkd::sample_entries(csr<std::int64_t>(), n, options, static_cast<std::int64_t*>(drawn));
        return report.short_row;
    }

    [[nodiscard]] std::int64_t num_users() const { return indptr_.shape(0) - 1; }
    [[nodiscard]] std::int64_t num_items() const { return num_items_; }

private:
    template <class Id>
    [[nodiscard]] Csr<Id> csr() const {
        return {view<std::int64_t>(indptr_), view<Id>(indices_), num_items_};
    }

    static void check_slots(std::int64_t n) {
        if (n > kMaxSlots) throw py::value_error("n must be at most 2**32, got " + std::to_string(n));
    }

    py::array indptr_;
    py::array indices_;
    std::int64_t num_items_;
    bool narrow_;
};

}  // namespace

void register_uniform(py::module_& module) {
    py::class_<UniformSampler>(module, "UniformSampler",
                               "Uniform draws from the items a user has not seen; reads the CSR arrays in place.")
        .def(py::init<py::array, py::array, std::int64_t>(), py::arg("indptr"), py::arg("indices"),
             py::arg("num_items"), "Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them.")
        .def("sample", &UniformSampler::sample, py::arg("users"), py::arg("key"), py::arg("out"),
             py::arg("exclude_lists") = py::none(), py::arg("replacement") = true, py::arg("threads") = 1,
             "Fill out, int64[B, n]; return the first row with fewer items left than slots (-1 padded), or -1.")
        .def("sample_epoch", &UniformSampler::sample_epoch, py::arg("key"), py::arg("out"), py::arg("threads") = 1,
             "Fill out[nnz, n] (dtype of indices); return the first user with no item left (-1 padded), or -1.")
        .def_property_readonly("num_users", &UniformSampler::num_users, "Number of rows.")
        .def_property_readonly("num_items", &UniformSampler::num_items, "Number of items in the catalogue.");
}

}  // namespace fastkd::bindings
