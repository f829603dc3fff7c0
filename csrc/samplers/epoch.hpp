// One training epoch: an order of all interactions, and their users, items and negatives laid out in that order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "samplers/csr.hpp"

namespace fastkd {

// Past this numpy draws from 64-bit words.
inline constexpr std::int64_t kMaxEntries = (std::int64_t{1} << 32) - 1;

// order = a permutation of 0 .. order.size()-1, every one equally likely over keys: the one that numpy makes with
// Generator(Philox(key=key)).permutation(size), bit for bit. Fisher-Yates from the last place down; the place to change
// with is the low bits of a word, as many as i has, the first word for which they are at most i. The words are the
// 32-bit halves, low first, of Philox4x64-10 at counters 1, 2, ... Sequential, so the number of threads cannot enter;
// places are drawn ahead and fetched before they change.
template <class Index>
void shuffled_order(std::uint64_t key, std::span<Index> order) noexcept;

// Which user each entry of a CSR belongs to, without an array as long as the entries: the users of every 64th.
class EntryUsers {
public:
    explicit EntryUsers(std::span<const std::int64_t> indptr);

    // `entry` in [0, nnz).
    [[nodiscard]] std::int64_t of(std::int64_t entry) const noexcept {
        const auto block = static_cast<std::size_t>(entry >> kShift);
        std::int64_t low = first_[block];
        std::int64_t length = first_[block + 1] - low;  // the answer is in [low, low + length]
        while (length > 0) {
            const std::int64_t half = (length + 1) / 2;
            const bool later = indptr_[static_cast<std::size_t>(low + half)] <= entry;
            low = later ? low + half : low;
            length = later ? length - half : half - 1;
        }
        return low;
    }

    void prefetch(std::int64_t entry) const noexcept {
        __builtin_prefetch(&first_[static_cast<std::size_t>(entry >> kShift)]);
    }

private:
    static constexpr int kShift = 6;
    std::span<const std::int64_t> indptr_;
    std::vector<std::int64_t> first_;
};

// What is written for each entry, in the order of `entries`: users[i], positives[i], negatives[i * n + j].
template <class Out>
struct EpochColumns {
    Out* users = nullptr;
    Out* positives = nullptr;
    Out* negatives = nullptr;
};

// Looks `entries` up: their user, their item and row `entry` of drawn[nnz, n]. Returns the first place that holds an
// entry outside [0, nnz), where nothing is written, or -1.
template <class Id, class Out>
std::int64_t gather_entries(const Csr<Id>& csr, const EntryUsers& owner, std::span<const Out> entries, const Id* drawn,
                            std::int64_t n, const EpochColumns<Out>& out, int threads);

}  // namespace fastkd
