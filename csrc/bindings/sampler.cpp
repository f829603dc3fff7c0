#include "bindings/sampler.hpp"

#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/module.hpp"
#include "bindings/table.hpp"

namespace fastkd::bindings {
namespace {

py::array array_of(const py::object& given, const char* name) {
    if (!py::isinstance<py::array>(given)) {
        throw py::type_error(std::string(name) + " must be a numpy array or None, got " +
                             py::str(py::type::of(given)).cast<std::string>());
    }
    return py::reinterpret_borrow<py::array>(given);
}

void require_ids(const py::array& array, const char* name, py::ssize_t dimensions) {
    if (is_int32(array)) {
        require<std::int32_t>(array, name, dimensions);
    } else {
        require<std::int64_t>(array, name, dimensions);
    }
}

void require_rows(const py::array& array, const char* name, py::ssize_t rows) {
    if (array.shape(0) != rows) {
        throw py::value_error(std::string(name) + " has " + std::to_string(array.shape(0)) + " rows for " +
                              std::to_string(rows) + " users");
    }
}

Exclusions exclusions_of(const py::object& given, py::ssize_t rows) {
    if (given.is_none()) return {};
    const py::array lists = array_of(given, "exclude_lists");
    require_ids(lists, "exclude_lists", 2);
    require_rows(lists, "exclude_lists", rows);
    return {lists.data(), !is_int32(lists), lists.shape(1)};
}

float* log_prob_of(const py::object& given, const py::array& out) {
    if (given.is_none()) return nullptr;
    py::array array = array_of(given, "log_prob");
    require<float>(array, "log_prob", 2);
    if (array.shape(0) != out.shape(0) || array.shape(1) != out.shape(1)) {
        throw py::value_error("log_prob must have the shape of out");
    }
    return target<float>(array, "log_prob");
}

}  // namespace

Sampler::Sampler(py::array indptr, py::array indices, std::int64_t num_items)
    : indptr_(std::move(indptr)), indices_(std::move(indices)), num_items_(num_items), narrow_(is_int32(indices_)) {
    require<std::int64_t>(indptr_, "indptr", 1);
    require_ids(indices_, "indices", 1);
    if (num_items < 0 || num_items > kMaxItems) {
        throw py::value_error("num_items must be in [0, " + std::to_string(kMaxItems) + "], got " +
                              std::to_string(num_items));
    }
    const CsrCheck result = with_csr([](const auto& table) { return check(table); });
    if (result.fault != CsrFault::kNone) {
        throw py::value_error(std::string(describe(result.fault)) + " (row " + std::to_string(result.row) + ")");
    }
}

template <class Id>
Csr<Id> Sampler::csr() const {
    return {view<std::int64_t>(indptr_), view<Id>(indices_), num_items_};
}
template Csr<std::int32_t> Sampler::csr() const;
template Csr<std::int64_t> Sampler::csr() const;

void Sampler::check_slots(std::int64_t n) const {
    if (n > kMaxSlots / slots_per_draw())
        throw py::value_error("a row would take more than 2**32 slots at n=" + std::to_string(n));
}

DrawReport Sampler::run(const Request& request, py::array& out) const {
    std::int32_t* narrow = is_int32(out) ? target<std::int32_t>(out, "out") : nullptr;
    std::int64_t* wide = narrow == nullptr && !is_int32(out) ? target<std::int64_t>(out, "out") : nullptr;
    if (is_int32(out) && num_items_ > std::int64_t{1} << 31) {
        throw py::type_error("out must be int64 for " + std::to_string(num_items_) + " items, got int32");
    }
    if (out.size() == 0) return {};
    const py::gil_scoped_release unlocked;
    return draw(request, narrow, wide);
}

std::int64_t Sampler::sample(const py::array& users, std::uint64_t key, py::array out, const py::object& exclude_lists,
                             bool replacement, int threads, const py::object& first_slots,
                             const py::object& log_prob) const {
    require<std::int64_t>(users, "users", 1);
    require_ids(out, "out", 2);
    require_rows(out, "out", users.shape(0));
    if (!replacement && !draws_without_replacement()) {
        throw py::value_error("only uniform and popularity samplers draw without replacement");
    }
    Request request;
    request.users = view<std::int64_t>(users);
    request.n = out.shape(1);
    check_slots(request.n);
    for (const std::int64_t user : request.users) {
        if (user < 0 || user >= num_users()) {
            throw py::value_error("user " + std::to_string(user) + " is out of range [0, " +
                                  std::to_string(num_users()) + ")");
        }
    }
    if (!first_slots.is_none()) {
        const py::array firsts = array_of(first_slots, "first_slots");
        require<std::int64_t>(firsts, "first_slots", 1);
        require_rows(firsts, "first_slots", users.shape(0));
        if (!replacement) throw py::value_error("first_slots are for draws with replacement");
        request.first_slots = view<std::int64_t>(firsts);
        const std::int64_t past = kMaxSlots / slots_per_draw() - request.n;
        for (const std::int64_t first : request.first_slots) {
            if (first < 0 || first > past) {
                throw py::value_error("first slot " + std::to_string(first) + " is out of range [0, " +
                                      std::to_string(past) + "]");
            }
        }
    }
    request.exclusions = exclusions_of(exclude_lists, users.shape(0));
    request.options = {key, replacement, threads};
    request.log_prob = log_prob_of(log_prob, out);
    if (request.log_prob != nullptr && !knows_probabilities()) {
        throw py::value_error("this sampler does not know the probability of a draw");
    }
    const DrawReport report = run(request, out);
    if (report.invalid_row >= 0) {
        throw py::value_error("exclude_lists holds an item outside [-1, " + std::to_string(num_items_) + ") in row " +
                              std::to_string(report.invalid_row));
    }
    return report.short_row;
}

std::int64_t Sampler::sample_epoch(std::uint64_t key, py::array out, int threads, const py::object& indptr) const {
    require_ids(out, "out", 2);
    const py::array rows = indptr.is_none() ? indptr_ : array_of(indptr, "indptr");
    require<std::int64_t>(rows, "indptr", 1);
    Request request;
    request.entries = view<std::int64_t>(rows);
    request.n = out.shape(1);
    request.options = {key, true, threads};
    if (rows.shape(0) != indptr_.shape(0)) {
        throw py::value_error("indptr has " + std::to_string(rows.shape(0) - 1) + " rows for " +
                              std::to_string(num_users()) + " users");
    }
    const auto pointers = request.entries;
    if (pointers.front() != 0 || pointers.back() != out.shape(0)) {
        throw py::value_error("out has " + std::to_string(out.shape(0)) + " rows for " +
                              std::to_string(pointers.back()) + " interactions");
    }
    check_slots(request.n);
    for (std::size_t user = 0; user + 1 < pointers.size(); ++user) {
        const std::int64_t degree = pointers[user + 1] - pointers[user];
        if (degree < 0) throw py::value_error("indptr decreases (row " + std::to_string(user) + ")");
        if (request.n > 0 && degree > kMaxSlots / slots_per_draw() / request.n) {
            throw py::value_error("user " + std::to_string(user) + " would take more than 2**32 slots");
        }
    }
    return run(request, out).short_row;
}

void register_sampler(py::module_& module) {
    py::class_<Sampler>(module, "Sampler", "What the samplers share; reads the CSR arrays in place.")
        .def("sample", &Sampler::sample, py::arg("users"), py::arg("key"), py::arg("out"),
             py::arg("exclude_lists") = py::none(), py::arg("replacement") = true, py::arg("threads") = 1,
             py::arg("first_slots") = py::none(), py::arg("log_prob") = py::none(),
             "Fill out[B, n] (int32 or int64); return the first row with fewer items left than slots (-1 padded), or "
             "-1.")
        .def("sample_epoch", &Sampler::sample_epoch, py::arg("key"), py::arg("out"), py::arg("threads") = 1,
             py::arg("indptr") = py::none(),
             "Fill out[nnz, n] (int32 or int64); return the first user with no item left (-1 padded), or -1.")
        .def_property_readonly("num_users", &Sampler::num_users, "Number of rows.")
        .def_property_readonly("num_items", &Sampler::num_items, "Number of items in the catalogue.")
        .def_property_readonly("nbytes", &Sampler::bytes, "Bytes held now, beside the arrays it was built from.");
}

}  // namespace fastkd::bindings
