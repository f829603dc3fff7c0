// What a call asks for: which rows, which slots of them, what to leave out and where the draws go.
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

// Two shapes of call. With `entries` (an indptr of one row per user): n slots for every entry; the entry at position p
// of user u's row takes slots p*n .. p*n+n-1 of u. Without: slots first_slots[r] .. +n-1 of users[r] (from 0 where
// first_slots is empty).
struct Request {
    std::span<const std::int64_t> users;
    std::span<const std::int64_t> first_slots;
    std::span<const std::int64_t> entries;
    std::int64_t n = 0;
    Exclusions exclusions;
    DrawOptions options;
    float* log_prob = nullptr;  // beside the ids, or null
};

// One row of a request.
template <class Id, class Out>
struct Row {
    std::int64_t index = 0;  // in the call
    std::uint64_t user = 0;
    std::uint64_t first = 0;  // slot of out[0]
    std::span<const Id> history;
    std::span<Out> out;
    float* log_prob = nullptr;
};

struct RowResult {
    std::int64_t filled = 0;
    bool invalid_exclusion = false;
};

// The smallest row of its kind, or -1: the same for every number of threads.
struct DrawReport {
    std::int64_t short_row = -1;    // fewer items left than slots; the rest of the row is -1
    std::int64_t invalid_row = -1;  // an exclusion outside [-1, num_items); it was ignored
};

}  // namespace fastkd
