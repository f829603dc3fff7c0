// The items that one row leaves out: the user's history and the row's extra list. Scratch memory of one thread.
//
// A filter made for the row and held in the nearest cache answers most questions, and a binary search the others. It
// costs one write per excluded item, no memory beside the CSR and no time to build the sampler; where the bits of the
// whole catalogue are no more than the filter would have, it is those bits, and exact.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "samplers/request.hpp"
#include "samplers/tile.hpp"

namespace fastkd {

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

template <class Id>
class Excluded {
public:
    explicit Excluded(std::uint32_t num_items) : num_items_(num_items) {}

    // Takes a row of which about `slots` draws will be looked up, by flags() if `tiles`, else one by one.
    void assign(std::span<const Id> history, const Exclusions& exclusions, std::int64_t row, std::uint64_t slots,
                bool tiles = false) {
        history_ = history;
        extra_.clear();
        invalid_ = false;
        merged_ = false;
        const auto width = static_cast<std::uint64_t>(exclusions.width);
        filtered_ = width > 0 || (!history.empty() && filter_pays(slots, history.size(), tiles));
        if (!filtered_) return;
        make_filter(history.size() + width);
        for (const Id item : history) insert(static_cast<std::uint32_t>(item));
        for (std::int64_t c = 0; c < exclusions.width; ++c) add(exclusions.at(row, c));
    }

    // The number of different items left out.
    [[nodiscard]] std::uint32_t count() const noexcept {
        return static_cast<std::uint32_t>(history_.size() + extra_.size());
    }
    // Whether the row's list held an item outside [-1, num_items).
    [[nodiscard]] bool invalid() const noexcept { return invalid_; }
    [[nodiscard]] std::span<const Id> history() const noexcept { return history_; }
    // Items of the row's list that are not in the history, each once.
    [[nodiscard]] std::span<const std::uint32_t> extra() const noexcept { return extra_; }
    // Bit j is set when values[j] may be left out, and must be asked of holds(). Values have room for kTile.
    [[nodiscard]] std::uint64_t flags(const std::uint32_t* values, std::size_t count) const noexcept {
        return filtered_ ? filter_tile(values, count, filter()) : search_tile(values, count, history_);
    }
    // False when so few draws are asked of so long a history that they are best searched for: then filter() knows
    // nothing.
    [[nodiscard]] bool filtered() const noexcept { return filtered_ || history_.empty(); }
    [[nodiscard]] FilterView filter() const noexcept {
        return filtered_ ? FilterView{words_.data(), multiplier_, shift_} : FilterView{};
    }

    [[nodiscard]] bool holds(std::uint32_t item) const noexcept {
        if (!filtered_) return in_history(item);
        if (!filter().maybe(item)) return false;
        return shift_ == 0 || in_history(item) || in_extra(item);
    }

    // What is left out, ascending.
    [[nodiscard]] const std::vector<std::uint32_t>& sorted() {
        if (!merged_) {
            std::sort(extra_.begin(), extra_.end());
            sorted_.resize(count());
            std::merge(history_.begin(), history_.end(), extra_.begin(), extra_.end(), sorted_.begin(),
                       [](auto a, auto b) { return static_cast<std::uint64_t>(a) < static_cast<std::uint64_t>(b); });
            merged_ = true;
        }
        return sorted_;
    }

    // The item of this rank among those left, ascending.
    [[nodiscard]] std::uint32_t at_rank(std::uint32_t rank) {
        if (extra_.empty()) return rank + rank_shift(history_, rank);
        return rank + rank_shift(std::span<const std::uint32_t>(sorted()), rank);
    }

    // The items left, ascending.
    void list_left(std::vector<std::uint32_t>& left) {
        left.clear();
        left.reserve(num_items_ - count());
        std::uint32_t next = 0;
        for (const std::uint32_t item : sorted()) {
            for (; next < item; ++next) left.push_back(next);
            next = item + 1;
        }
        for (; next < num_items_; ++next) left.push_back(next);
    }

private:
    // Whether writing a history into the filter costs less than the binary searches that it saves. Searches of a tile
    // of 32-bit ids run eight side by side. Speed only.
    [[nodiscard]] static bool filter_pays(std::uint64_t slots, std::uint64_t items, bool tiles) noexcept {
        constexpr std::uint64_t writes_per_search = 16;
        constexpr std::uint64_t short_list = 32;
        if (!tiles || sizeof(Id) > 4 || items <= short_list) return slots * writes_per_search >= items;
        return slots * static_cast<std::uint64_t>(std::bit_width(items)) >= 2 * items;
    }
    static constexpr std::uint64_t kBitsPerItem = 16;
    static constexpr std::uint64_t kLeastBits = 512;  // one cache line

    void make_filter(std::uint64_t items) {
        std::uint64_t bits = std::bit_ceil(std::max(items * kBitsPerItem, kLeastBits));
        if (bits >= num_items_) {
            bits = std::uint64_t{num_items_} / kLeastBits * kLeastBits + kLeastBits;
            multiplier_ = 1;
            shift_ = 0;
        } else {
            multiplier_ = 0x9E3779B1u;
            shift_ = 32 - std::countr_zero(bits);
        }
        if (words_.size() < bits / 32) words_.resize(bits / 32);
        std::memset(words_.data(), 0, bits / 8);
    }

    void insert(std::uint32_t item) noexcept {
        const std::uint32_t bit = (item * multiplier_) >> shift_;
        words_[bit >> 5] |= 1u << (bit & 31);
    }

    void add(std::int64_t item) {
        if (item < 0 || item >= static_cast<std::int64_t>(num_items_)) {
            invalid_ = invalid_ || item != -1;
            return;
        }
        const auto id = static_cast<std::uint32_t>(item);
        if (holds(id)) return;
        insert(id);
        extra_.push_back(id);
    }

    [[nodiscard]] bool in_history(std::uint32_t item) const noexcept {
        return search_tile_portable(&item, 1, history_) != 0;
    }

    [[nodiscard]] bool in_extra(std::uint32_t item) const noexcept {
        return std::find(extra_.begin(), extra_.end(), item) != extra_.end();
    }

    std::uint32_t num_items_;
    std::span<const Id> history_;
    std::vector<std::uint32_t> words_;
    std::vector<std::uint32_t> extra_;
    std::vector<std::uint32_t> sorted_;
    std::uint32_t multiplier_ = 1;
    int shift_ = 0;
    bool filtered_ = false;
    bool merged_ = false;
    bool invalid_ = false;
};

}  // namespace fastkd
