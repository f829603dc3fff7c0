// The random words of one user's slots. The layout of counters is in csrc/README.md.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "samplers/bounded.hpp"
#include "samplers/philox.hpp"
#include "samplers/tile.hpp"

namespace fastkd {

// `kSlots` slots share a block of four words: 4, 2 or 1.
template <std::uint64_t kSlots>
class Stream {
public:
    static constexpr std::uint64_t kWords = 4 / kSlots;  // words of one slot
    static constexpr std::uint64_t kTileSlots = kTile / kWords;

    explicit Stream(std::uint64_t key) noexcept : key_(key) {}

    // Word `w` of a slot at an attempt.
    [[nodiscard]] std::uint32_t word(std::uint64_t user, std::uint64_t slot, std::uint32_t attempt,
                                     std::uint64_t w = 0) const noexcept {
        return philox4x32(slot_counter(user, slot / kSlots, attempt), key_)[kWords * (slot % kSlots) + w];
    }

    // The words of one slot at an attempt, from the first one.
    [[nodiscard]] std::array<std::uint32_t, kWords> words(std::uint64_t user, std::uint64_t slot,
                                                          std::uint32_t attempt) const noexcept {
        const Words block = philox4x32(slot_counter(user, slot / kSlots, attempt), key_);
        std::array<std::uint32_t, kWords> found;
        std::copy_n(block.begin() + static_cast<std::ptrdiff_t>(kWords * (slot % kSlots)), kWords, found.begin());
        return found;
    }

    // For slots first .. last-1: use(base, from, to, words) tile by tile, where word w of slot s at attempt 0 is
    // words[kWords * (s - base) + w] and from <= s < to.
    template <class Use>
    void tiles(std::uint64_t user, std::uint64_t first, std::uint64_t last, Use use) const {
        alignas(64) std::array<std::uint32_t, kTile> words;
        for (std::uint64_t base = first / kSlots * kSlots; base < last; base += kTileSlots) {
            const std::uint64_t end = std::min(last, base + kTileSlots);
            const std::uint64_t blocks = (end - base + kSlots - 1) / kSlots;
            philox_fill(key_, user, base / kSlots, static_cast<std::size_t>(blocks), words.data());
            use(base, std::max(base, first), end, words.data());
        }
    }

private:
    std::uint64_t key_;
};

// The bits of slots from .. to-1 of a tile that begins at `base`.
[[nodiscard]] constexpr std::uint64_t slot_bits(std::uint64_t base, std::uint64_t from, std::uint64_t to) noexcept {
    const std::uint64_t below = to - base >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (to - base)) - 1;
    return below & (~std::uint64_t{0} << (from - base));
}

}  // namespace fastkd
