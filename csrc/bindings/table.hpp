// The interactions a sampler was built from: numpy's CSR arrays, checked once, kept alive and read in place.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "bindings/arrays.hpp"
#include "samplers/csr.hpp"

namespace fastkd::bindings {

[[nodiscard]] inline const char* describe(CsrFault fault) {
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

class Table {
public:
    Table(py::array indptr, py::array indices, std::int64_t num_items, std::int64_t max_items)
        : indptr_(std::move(indptr)), indices_(std::move(indices)), num_items_(num_items), narrow_(is_int32(indices_)) {
        require<std::int64_t>(indptr_, "indptr", 1);
        if (narrow_) {
            require<std::int32_t>(indices_, "indices", 1);
        } else {
            require<std::int64_t>(indices_, "indices", 1);
        }
        if (num_items < 0 || num_items > max_items) {
            throw py::value_error("num_items must be in [0, " + std::to_string(max_items) + "], got " +
                                  std::to_string(num_items));
        }
        const CsrCheck result = narrow_ ? check(csr<std::int32_t>()) : check(csr<std::int64_t>());
        if (result.fault != CsrFault::kNone) {
            throw py::value_error(std::string(describe(result.fault)) + " (row " + std::to_string(result.row) + ")");
        }
    }

    template <class Id>
    [[nodiscard]] Csr<Id> csr() const {
        return {view<std::int64_t>(indptr_), view<Id>(indices_), num_items_};
    }

    // Calls f with the CSR in the type of its ids.
    template <class F>
    decltype(auto) visit(F&& f) const {
        return narrow_ ? f(csr<std::int32_t>()) : f(csr<std::int64_t>());
    }

    [[nodiscard]] std::span<const std::int64_t> indptr() const { return view<std::int64_t>(indptr_); }
    [[nodiscard]] bool narrow() const noexcept { return narrow_; }
    [[nodiscard]] std::int64_t num_users() const { return indptr_.shape(0) - 1; }
    [[nodiscard]] std::int64_t num_items() const noexcept { return num_items_; }
    [[nodiscard]] std::int64_t nnz() const { return indices_.shape(0); }

private:
    py::array indptr_;
    py::array indices_;
    std::int64_t num_items_;
    bool narrow_;
};

}  // namespace fastkd::bindings
