// Draws the slots of one user; one object per thread, for its scratch memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "samplers/item_set.hpp"
#include "samplers/philox.hpp"
#include "samplers/uniform.hpp"

namespace fastkd {

struct RowResult {
    std::int64_t filled = 0;
    bool invalid_exclusion = false;
};

// The number of ids in the sorted list that lie at or before the item of free rank `rank`: rank + shift is that item.
template <class Id>
[[nodiscard]] std::uint32_t rank_shift(std::span<const Id> sorted, std::uint32_t rank) noexcept {
    std::size_t low = 0;
    std::size_t length = sorted.size();
    while (length > 0) {
        const std::size_t half = length / 2;
        const bool before = static_cast<std::uint64_t>(sorted[low + half]) - (low + half) <= rank;
        low = before ? low + half + 1 : low;
        length = before ? length - half - 1 : half;
    }
    return static_cast<std::uint32_t>(low);
}

template <class Id, class Out>
class RowSampler {
public:
    RowSampler(std::uint32_t num_items, std::uint64_t key) : num_items_(num_items), key_(key), taken_(num_items) {}

    // Slots 0 .. out.size()-1 of `user`; slots that cannot be filled are -1, at the end.
    RowResult draw(std::uint64_t user, std::span<const Id> history, const Exclusions& exclusions, std::int64_t row,
                   bool replacement, std::span<Out> out) {
        RowResult result;
        const auto slots = static_cast<std::uint64_t>(out.size());
        if (slots == 0) return result;
        const bool mark = exclusions.width > 0 || !replacement || slots * kMarkedPerDraw >= history.size();
        std::uint64_t seen = history.size();
        if (mark) {
            taken_.allocate();
            seen = take(history, exclusions, row, result);
        }
        const std::uint64_t left = num_items_ - seen;
        if (replacement) {
            result.filled = left > 0 ? static_cast<std::int64_t>(slots) : 0;
            if (left > 0) with_replacement(user, history, static_cast<std::uint32_t>(seen), mark, out);
        } else {
            result.filled = static_cast<std::int64_t>(std::min(slots, left));
            const auto filled = out.first(static_cast<std::size_t>(result.filled));
            without_replacement(user, static_cast<std::uint32_t>(seen), filled);
            for (const Out item : filled) taken_.clear_word_of(static_cast<std::uint32_t>(item));
        }
        if (mark) release(history, exclusions, row);
        std::fill(out.begin() + static_cast<std::ptrdiff_t>(result.filled), out.end(), Out{-1});
        return result;
    }

private:
    // Marking and clearing a history costs about this many ids per binary search saved. Speed only: the draws are equal.
    static constexpr std::uint64_t kMarkedPerDraw = 16;
    static constexpr std::uint64_t kTileSlots = 64;

    [[nodiscard]] bool valid(std::int64_t item) const noexcept {
        return item >= 0 && item < static_cast<std::int64_t>(num_items_);
    }

    std::uint64_t take(std::span<const Id> history, const Exclusions& exclusions, std::int64_t row,
                       RowResult& result) noexcept {
        std::uint64_t seen = history.size();
        for (const Id item : history) taken_.insert(static_cast<std::uint32_t>(item));
        for (std::int64_t c = 0; c < exclusions.width; ++c) {
            const std::int64_t item = exclusions.at(row, c);
            if (valid(item)) {
                seen += taken_.insert(static_cast<std::uint32_t>(item));
            } else if (item != -1) {
                result.invalid_exclusion = true;
            }
        }
        return seen;
    }

    void release(std::span<const Id> history, const Exclusions& exclusions, std::int64_t row) noexcept {
        for (const Id item : history) taken_.clear_word_of(static_cast<std::uint32_t>(item));
        for (std::int64_t c = 0; c < exclusions.width; ++c) {
            const std::int64_t item = exclusions.at(row, c);
            if (valid(item)) taken_.clear_word_of(static_cast<std::uint32_t>(item));
        }
    }

    void with_replacement(std::uint64_t user, std::span<const Id> history, std::uint32_t seen, bool mark,
                          std::span<Out> out) {
        const std::uint64_t slots = out.size();
        const std::uint32_t left = num_items_ - seen;
        const auto put = [&](std::uint64_t slot, std::uint32_t item) {
            out[slot] = static_cast<Out>(item);
            return true;
        };
        if (2 * std::uint64_t{seen} <= num_items_) {
            const auto all = [this](std::uint64_t) { return num_items_; };
            if (mark) {
                fill(user, 0, slots, all, [&](std::uint64_t slot, std::uint32_t item) {
                    return !taken_.contains(item) && put(slot, item);
                });
            } else {
                fill(user, 0, slots, all, [&](std::uint64_t slot, std::uint32_t item) {
                    return !std::binary_search(history.begin(), history.end(), static_cast<Id>(item)) && put(slot, item);
                });
            }
            return;
        }
        const auto rest = [left](std::uint64_t) { return left; };
        if (mark) {
            taken_.list_absent(absent_);
            fill(user, 0, slots, rest, [&](std::uint64_t slot, std::uint32_t rank) { return put(slot, absent_[rank]); });
        } else {
            fill(user, 0, slots, rest, [&](std::uint64_t slot, std::uint32_t rank) {
                return put(slot, rank + rank_shift(history, rank));
            });
        }
    }

    void without_replacement(std::uint64_t user, std::uint32_t seen, std::span<Out> out) {
        const std::uint64_t slots = out.size();
        // Slot j may retry while seen + j is at most half of the catalogue.
        const std::uint64_t retrying = num_items_ / 2 >= seen ? num_items_ / 2 - seen + 1 : 0;
        const std::uint64_t first = std::min(slots, retrying);
        fill(user, 0, first, [this](std::uint64_t) { return num_items_; },
             [&](std::uint64_t slot, std::uint32_t item) {
                 if (taken_.insert(item) == 0) return false;
                 out[slot] = static_cast<Out>(item);
                 return true;
             });
        if (first == slots) return;
        taken_.list_absent(absent_);
        // Fisher-Yates: the item drawn changes places with the first one not drawn yet.
        fill(user, first, slots,
             [&](std::uint64_t slot) { return static_cast<std::uint32_t>(absent_.size() - (slot - first)); },
             [&](std::uint64_t slot, std::uint32_t rank) {
                 const std::size_t at = static_cast<std::size_t>(slot - first);
                 std::swap(absent_[at], absent_[at + rank]);
                 out[slot] = static_cast<Out>(absent_[at]);
                 return true;
             });
    }

    // For slots first..last-1 in order: the first attempt whose word is even over [0, bound(slot)) and is accepted.
    template <class Bound, class Accept>
    void fill(std::uint64_t user, std::uint64_t first, std::uint64_t last, Bound bound, Accept accept) {
        alignas(32) std::array<std::uint32_t, kTileSlots> words;
        for (std::uint64_t base = first & ~std::uint64_t{3}; base < last; base += kTileSlots) {
            const std::uint64_t end = std::min(last, base + kTileSlots);
            philox_fill(key_, user, base / 4, static_cast<std::size_t>((end - base + 3) / 4), words.data());
            for (std::uint64_t slot = std::max(base, first); slot < end; ++slot) {
                const std::uint32_t limit = bound(slot);
                std::uint32_t word = words[static_cast<std::size_t>(slot - base)];
                for (std::uint32_t attempt = 1; !(even(word, limit) && accept(slot, scale(word, limit))); ++attempt) {
                    word = philox4x32(slot_counter(user, slot / 4, attempt), key_)[slot % 4];
                }
            }
        }
    }

    // Lemire, "Fast random integer generation in an interval" (2019): words below 2^32 mod limit in the low half of the
    // product would make some values likelier than others.
    [[nodiscard]] static bool even(std::uint32_t word, std::uint32_t limit) noexcept {
        const auto low = static_cast<std::uint32_t>(std::uint64_t{word} * limit);
        return low >= limit || low >= (0u - limit) % limit;
    }

    [[nodiscard]] static std::uint32_t scale(std::uint32_t word, std::uint32_t limit) noexcept {
        return static_cast<std::uint32_t>((std::uint64_t{word} * limit) >> 32);
    }

    std::uint32_t num_items_;
    std::uint64_t key_;
    ItemSet taken_;
    std::vector<std::uint32_t> absent_;
};

}  // namespace fastkd
