// Negatives from the batch itself: the items of the other rows.
//
// Column c of a batch is the positive item of row c. It is no negative of row b when c = b, when both rows hold the
// same item, or when the user of row b has that item in the history. The columns left out of each row form a CSR over
// the columns, and a draw for row b is a draw of `sample_rows` for "user" b over that CSR: the stream is the uniform
// one with rows for users and columns for items.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "samplers/csr.hpp"

namespace fastkd {

inline constexpr std::int64_t kMaxBatch = 0x7FFFFFFF;

// Columns that are no negatives, row by row, ascending.
struct LeftOut {
    std::vector<std::int64_t> indptr;
    std::vector<std::int32_t> columns;

    [[nodiscard]] Csr<std::int32_t> csr() const noexcept {
        return {indptr, columns, static_cast<std::int64_t>(indptr.size()) - 1};
    }
};

// `users` in [0, csr.num_rows()), `positives` in [0, csr.num_columns), of one length, at most kMaxBatch.
template <class Id>
[[nodiscard]] LeftOut left_out_columns(const Csr<Id>& csr, std::span<const std::int64_t> users,
                                       std::span<const std::int64_t> positives, int threads);

}  // namespace fastkd
