// Philox4x32-10 counter-based random bits (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
//
// Equal, word for word, to fastkd/core/philox.py. How a draw maps to counter and word is in csrc/README.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastkd {

using Words = std::array<std::uint32_t, 4>;

inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

// Four words of one counter (least significant word first); the low half of `key` is the first key word.
[[nodiscard]] constexpr Words philox4x32(Words counter, std::uint64_t key) noexcept {
    auto k0 = static_cast<std::uint32_t>(key);
    auto k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const std::uint64_t p0 = std::uint64_t{kPhiloxMultiplier0} * counter[0];
        const std::uint64_t p1 = std::uint64_t{kPhiloxMultiplier1} * counter[2];
        counter = {static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ k0, static_cast<std::uint32_t>(p1),
                   static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ k1, static_cast<std::uint32_t>(p0)};
        k0 += kPhiloxWeyl0;
        k1 += kPhiloxWeyl1;
    }
    return counter;
}

// The counter of slots 4 * block .. 4 * block + 3 of a user at an attempt; slot s takes word s % 4.
[[nodiscard]] constexpr Words slot_counter(std::uint64_t user, std::uint64_t block, std::uint32_t attempt) noexcept {
    return {static_cast<std::uint32_t>(user), static_cast<std::uint32_t>(user >> 32),
            static_cast<std::uint32_t>(block), attempt};
}

// words[4 * i + w] = word w of (user, first_block + i, attempt 0) for i < blocks; may write up to the next multiple of
// kPhiloxBatch blocks. Runs with AVX2 where the processor has it; the words are the same.
inline constexpr std::size_t kPhiloxBatch = 4;
void philox_fill(std::uint64_t key, std::uint64_t user, std::uint64_t first_block, std::size_t blocks,
                 std::uint32_t* words) noexcept;

// The same in portable code; tests compare the two.
void philox_fill_portable(std::uint64_t key, std::uint64_t user, std::uint64_t first_block, std::size_t blocks,
                          std::uint32_t* words) noexcept;

}  // namespace fastkd
