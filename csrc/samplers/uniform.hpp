// Uniform negatives: items drawn evenly from those a user has not seen. The definition is in csrc/README.md.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "samplers/csr.hpp"

namespace fastkd {

// Items must be countable in 32 bits, with one value to spare.
inline constexpr std::int64_t kMaxItems = std::numeric_limits<std::uint32_t>::max();
// Slots of one user must be countable in 32 bits.
inline constexpr std::int64_t kMaxSlots = std::int64_t{1} << 32;

// Further items to leave out, row by row: int32 or int64 [rows, width], -1 = none, any order, repeats allowed.
struct Exclusions {
    const void* ids = nullptr;
    bool wide = true;  // int64, else int32
    std::int64_t width = 0;

    [[nodiscard]] std::int64_t at(std::int64_t row, std::int64_t column) const noexcept {
        const std::int64_t offset = row * width + column;
        return wide ? static_cast<const std::int64_t*>(ids)[offset] : static_cast<const std::int32_t*>(ids)[offset];
    }
};

struct DrawOptions {
    std::uint64_t key = 0;
    bool replacement = true;
    int threads = 1;
};

// The smallest row of its kind, or -1: the same for every number of threads.
struct DrawReport {
    std::int64_t short_row = -1;    // fewer items left than slots; the rest of the row is -1
    std::int64_t invalid_row = -1;  // an exclusion outside [-1, num_items); it was ignored
};

// Slots 0..n-1 of each user: out[row * n + slot]. `users` in [0, csr.num_rows()).
template <class Id>
DrawReport sample_rows(const Csr<Id>& csr, std::span<const std::int64_t> users, std::int64_t n,
                       const Exclusions& exclusions, const DrawOptions& options, std::int64_t* out);

// n slots for every entry of the CSR, with replacement: entry at position p of its row takes slots p*n .. p*n+n-1 of
// its user, out[entry * n + j].
template <class Id>
DrawReport sample_entries(const Csr<Id>& csr, std::int64_t n, const DrawOptions& options, Id* out);

}  // namespace fastkd
