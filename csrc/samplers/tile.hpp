// The inner loop of every sampler that rejects: a tile of words becomes values and a bit for each that needs a second
// look.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "samplers/bounded.hpp"

namespace fastkd {

inline constexpr std::size_t kTile = 64;

// Bits of a set of items. Item i is looked up at bit (i * multiplier mod 2^32) >> shift. With multiplier 1 and shift 0
// a set bit says that the item is in the set; otherwise that it may be. No words: nothing is in the set.
struct FilterView {
    const std::uint32_t* words = nullptr;
    std::uint32_t multiplier = 1;
    int shift = 0;

    [[nodiscard]] std::uint32_t bit_of(std::uint32_t item) const noexcept { return (item * multiplier) >> shift; }
    [[nodiscard]] bool maybe(std::uint32_t item) const noexcept {
        const std::uint32_t bit = bit_of(item);
        return (words[bit >> 5] >> (bit & 31)) & 1u;
    }
};

// values[j] = bound.scale(words[j]) for j < count. Bit j of the result is set when words[j] is turned away or the
// filter may hold the value. Arrays have room for kTile; what lies past `count` is undefined, its bits are 0.
std::uint64_t draw_tile(const std::uint32_t* words, std::size_t count, const Bound& bound, const FilterView& filter,
                        std::uint32_t* values) noexcept;

// Bit j is set when the filter may hold values[j].
std::uint64_t filter_tile(const std::uint32_t* values, std::size_t count, const FilterView& filter) noexcept;

// Bit j is set when `sorted`, strictly increasing and not negative, holds values[j]: binary searches side by side,
// which need no memory but the list. Values are below 2^31 where the ids are 32 bits wide.
std::uint64_t search_tile(const std::uint32_t* values, std::size_t count,
                          std::span<const std::int32_t> sorted) noexcept;
std::uint64_t search_tile(const std::uint32_t* values, std::size_t count,
                          std::span<const std::int64_t> sorted) noexcept;

// The same in portable code; tests compare the two.
template <class Id>
std::uint64_t search_tile_portable(const std::uint32_t* values, std::size_t count,
                                   std::span<const Id> sorted) noexcept {
    std::uint64_t flags = 0;
    if (sorted.empty()) return flags;
    for (std::size_t j = 0; j < count; ++j) {
        // Without branches: where a search goes is not to be foreseen.
        const Id* at = sorted.data();
        const auto wanted = static_cast<Id>(values[j]);
        for (std::size_t length = sorted.size(); length > 1; length -= length / 2) {
            const std::size_t half = length / 2;
            at += half & (std::size_t{0} - static_cast<std::size_t>(at[half - 1] < wanted));
        }
        flags |= std::uint64_t{*at == wanted} << j;
    }
    return flags;
}
std::uint64_t draw_tile_portable(const std::uint32_t* words, std::size_t count, const Bound& bound,
                                 const FilterView& filter, std::uint32_t* values) noexcept;
std::uint64_t filter_tile_portable(const std::uint32_t* values, std::size_t count, const FilterView& filter) noexcept;

}  // namespace fastkd
