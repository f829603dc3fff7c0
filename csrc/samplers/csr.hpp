// A view of interactions in CSR form: which items each user touched. Owns nothing.
#pragma once

#include <cstdint>
#include <span>

namespace fastkd {

template <class Id>
struct Csr {
    std::span<const std::int64_t> indptr;  // [num_rows + 1]
    std::span<const Id> indices;           // [nnz], each row strictly increasing, in [0, num_columns)
    std::int64_t num_columns = 0;

    [[nodiscard]] std::int64_t num_rows() const noexcept { return static_cast<std::int64_t>(indptr.size()) - 1; }

    [[nodiscard]] std::span<const Id> row(std::int64_t r) const noexcept {
        const auto at = static_cast<std::size_t>(r);
        const auto begin = static_cast<std::size_t>(indptr[at]);
        return indices.subspan(begin, static_cast<std::size_t>(indptr[at + 1]) - begin);
    }
};

// What is wrong with a CSR, and in which row; everything may be read once the answer is kNone.
enum class CsrFault { kNone, kNoRows, kFirstPointer, kDecreasing, kLastPointer, kOutOfRange, kNotIncreasing };

struct CsrCheck {
    CsrFault fault = CsrFault::kNone;
    std::int64_t row = -1;
};

template <class Id>
[[nodiscard]] CsrCheck check(const Csr<Id>& csr) noexcept {
    if (csr.indptr.empty()) return {CsrFault::kNoRows, -1};
    if (csr.indptr.front() != 0) return {CsrFault::kFirstPointer, 0};
    for (std::size_t r = 0; r + 1 < csr.indptr.size(); ++r) {
        if (csr.indptr[r + 1] < csr.indptr[r]) return {CsrFault::kDecreasing, static_cast<std::int64_t>(r)};
    }
    if (csr.indptr.back() != static_cast<std::int64_t>(csr.indices.size())) {
        return {CsrFault::kLastPointer, csr.num_rows() - 1};
    }
    for (std::int64_t r = 0; r < csr.num_rows(); ++r) {
        std::int64_t before = -1;
        for (const Id id : csr.row(r)) {
            if (id < 0 || static_cast<std::int64_t>(id) >= csr.num_columns) return {CsrFault::kOutOfRange, r};
            if (static_cast<std::int64_t>(id) <= before) return {CsrFault::kNotIncreasing, r};
            before = id;
        }
    }
    return {};
}

}  // namespace fastkd
