// Uniform draws for the slots of one user; one object per thread, for its scratch memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "samplers/excluded.hpp"
#include "samplers/item_set.hpp"
#include "samplers/request.hpp"
#include "samplers/stream.hpp"

namespace fastkd {

inline constexpr float kNoLogProb = -std::numeric_limits<float>::infinity();

template <class Id, class Out>
class UniformRow {
public:
    UniformRow(std::uint32_t num_items, std::uint64_t key)
        : num_items_(num_items), catalogue_(num_items), stream_(key), excluded_(num_items), taken_(num_items) {}

    // Fills row.out; slots that find no item left are -1, at the end.
    RowResult draw(const Row<Id, Out>& row, const Exclusions& exclusions, bool replacement) {
        const auto slots = static_cast<std::uint64_t>(row.out.size());
        if (slots == 0) return {};
        excluded_.assign(row.history, exclusions, row.index, replacement ? slots : kAlwaysFilter, replacement);
        const std::uint64_t left = num_items_ - excluded_.count();
        std::uint64_t filled = left > 0 ? slots : 0;
        if (!replacement) {
            filled = std::min(slots, left);
            without_replacement(row.user, row.history, row.out.first(static_cast<std::size_t>(filled)));
        } else if (filled > 0 && excluded_.count() <= left) {
            rejecting(row);
        } else if (filled > 0) {
            ranking(row, static_cast<std::uint32_t>(left));
        }
        std::fill(row.out.begin() + static_cast<std::ptrdiff_t>(filled), row.out.end(), Out{-1});
        if (row.log_prob != nullptr) log_probabilities(row, left, filled, replacement);
        return {static_cast<std::int64_t>(filled), excluded_.invalid()};
    }

private:
    static constexpr std::uint64_t kAlwaysFilter = std::numeric_limits<std::uint32_t>::max();
    // Listing what is left costs about as much as this many items per rank searched for. Speed only.
    static constexpr std::uint64_t kListedPerDraw = 16;

    void rejecting(const Row<Id, Out>& row) {
        const FilterView filter = excluded_.filter();
        const bool filtered = excluded_.filtered();
        stream_.tiles(row.user, row.first, row.first + row.out.size(),
                      [&](std::uint64_t base, std::uint64_t from, std::uint64_t to, const std::uint32_t* words) {
                          const auto count = static_cast<std::size_t>(to - base);
                          std::uint64_t flags = draw_tile(words, count, catalogue_, filter, items_.data());
                          if (!filtered) flags |= excluded_.flags(items_.data(), count);
                          flags &= slot_bits(base, from, to);
                          for (; flags != 0; flags &= flags - 1) {
                              const auto j = static_cast<std::size_t>(std::countr_zero(flags));
                              items_[j] = settle(row.user, base + j, words[j], catalogue_,
                                                 [&](std::uint32_t item) { return !excluded_.holds(item); });
                          }
                          Out* out = row.out.data() + (from - row.first);
                          const std::uint32_t* items = items_.data() + (from - base);
                          for (std::uint64_t j = 0; j < to - from; ++j) out[j] = static_cast<Out>(items[j]);
                      });
    }

    void ranking(const Row<Id, Out>& row, std::uint32_t left) {
        const Bound bound(left);
        const bool listed = row.out.size() * kListedPerDraw >= num_items_;
        if (listed) excluded_.list_left(left_);
        fill(row.user, row.first, row.first + row.out.size(), [&](std::uint64_t) { return bound; },
             [&](std::uint64_t slot, std::uint32_t rank) {
                 row.out[slot - row.first] = static_cast<Out>(listed ? left_[rank] : excluded_.at_rank(rank));
                 return true;
             });
    }

    void without_replacement(std::uint64_t user, std::span<const Id> history, std::span<Out> out) {
        const std::uint32_t seen = excluded_.count();
        const std::uint64_t slots = out.size();
        taken_.allocate();
        for (const Id item : history) taken_.insert(static_cast<std::uint32_t>(item));
        for (const std::uint32_t item : excluded_.extra()) taken_.insert(item);
        // Slot j may retry while seen + j is at most half of the catalogue.
        const std::uint64_t retrying = num_items_ / 2 >= seen ? num_items_ / 2 - seen + 1 : 0;
        const std::uint64_t first = std::min(slots, retrying);
        fill(user, 0, first, [this](std::uint64_t) { return catalogue_; },
             [&](std::uint64_t slot, std::uint32_t item) {
                 if (taken_.insert(item) == 0) return false;
                 out[slot] = static_cast<Out>(item);
                 return true;
             });
        if (first < slots) {
            taken_.list_absent(left_);
            // Fisher-Yates: the item drawn changes places with the first one not drawn yet.
            fill(user, first, slots,
                 [&](std::uint64_t slot) { return Bound(static_cast<std::uint32_t>(left_.size() - (slot - first))); },
                 [&](std::uint64_t slot, std::uint32_t rank) {
                     const auto at = static_cast<std::size_t>(slot - first);
                     std::swap(left_[at], left_[at + rank]);
                     out[slot] = static_cast<Out>(left_[at]);
                     return true;
                 });
        }
        for (const Out item : out) taken_.clear_word_of(static_cast<std::uint32_t>(item));
        for (const Id item : history) taken_.clear_word_of(static_cast<std::uint32_t>(item));
        for (const std::uint32_t item : excluded_.extra()) taken_.clear_word_of(item);
    }

    // Given the slots before it, each item left is equally likely.
    void log_probabilities(const Row<Id, Out>& row, std::uint64_t left, std::uint64_t filled, bool replacement) {
        for (std::uint64_t j = 0; j < row.out.size(); ++j) {
            const auto choices = static_cast<double>(replacement ? left : left - j);
            row.log_prob[j] = j < filled ? static_cast<float>(-std::log(choices)) : kNoLogProb;
        }
    }

    // For slots first..last-1 in order: the first attempt whose word is even below bound(slot) and is accepted.
    template <class BoundOf, class Accept>
    void fill(std::uint64_t user, std::uint64_t first, std::uint64_t last, BoundOf bound_of, Accept accept) {
        stream_.tiles(user, first, last,
                      [&](std::uint64_t base, std::uint64_t from, std::uint64_t to, const std::uint32_t* words) {
                          for (std::uint64_t slot = from; slot < to; ++slot) {
                              settle(user, slot, words[slot - base], bound_of(slot),
                                     [&](std::uint32_t value) { return accept(slot, value); });
                          }
                      });
    }

    template <class Accept>
    std::uint32_t settle(std::uint64_t user, std::uint64_t slot, std::uint32_t word, const Bound& bound,
                         Accept accept) {
        for (std::uint32_t attempt = 1; !(bound.even(word) && accept(bound.scale(word))); ++attempt) {
            word = stream_.word(user, slot, attempt);
        }
        return bound.scale(word);
    }

    std::uint32_t num_items_;
    Bound catalogue_;
    Stream<4> stream_;
    Excluded<Id> excluded_;
    ItemSet taken_;
    std::vector<std::uint32_t> left_;
    std::array<std::uint32_t, kTile> items_{};
};

}  // namespace fastkd
