#include "samplers/philox.hpp"

#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#define FASTKD_PHILOX_AVX2 1
#include <immintrin.h>
#endif

namespace fastkd {

void philox_fill_portable(std::uint64_t key, std::uint64_t user, std::uint64_t first_block, std::size_t blocks,
                          std::uint32_t* words) noexcept {
    for (std::size_t i = 0; i < blocks; ++i) {
        const Words drawn = philox4x32(slot_counter(user, first_block + i, 0), key);
        std::memcpy(words + 4 * i, drawn.data(), sizeof(drawn));
    }
}

#ifdef FASTKD_PHILOX_AVX2
namespace {

// Four counters at a time, each 32-bit word in the low half of a 64-bit lane: the 32x32->64 multiply reads only the low
// halves, so what the high halves hold between rounds does not matter.
__attribute__((target("avx2"))) void philox_fill_avx2(std::uint64_t key, std::uint64_t user,
                                                      std::uint64_t first_block, std::size_t blocks,
                                                      std::uint32_t* words) noexcept {
    const __m256i m0 = _mm256_set1_epi64x(kPhiloxMultiplier0);
    const __m256i m1 = _mm256_set1_epi64x(kPhiloxMultiplier1);
    const __m256i low = _mm256_set1_epi64x(0xFFFFFFFFll);
    const __m256i lanes = _mm256_set_epi64x(3, 2, 1, 0);
    for (std::size_t i = 0; i < blocks; i += kPhiloxBatch) {
        __m256i c0 = _mm256_set1_epi64x(static_cast<long long>(user & 0xFFFFFFFFu));
        __m256i c1 = _mm256_set1_epi64x(static_cast<long long>(user >> 32));
        __m256i c2 = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(first_block + i)), lanes);
        __m256i c3 = _mm256_setzero_si256();
        auto k0 = static_cast<std::uint32_t>(key);
        auto k1 = static_cast<std::uint32_t>(key >> 32);
        for (int round = 0; round < kPhiloxRounds; ++round) {
            const __m256i p0 = _mm256_mul_epu32(m0, c0);
            const __m256i p1 = _mm256_mul_epu32(m1, c2);
            c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1), _mm256_set1_epi64x(k0));
            c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3), _mm256_set1_epi64x(k1));
            c1 = p1;
            c3 = p0;
            k0 += kPhiloxWeyl0;
            k1 += kPhiloxWeyl1;
        }
        const __m256i w01 = _mm256_or_si256(_mm256_and_si256(c0, low), _mm256_slli_epi64(c1, 32));
        const __m256i w23 = _mm256_or_si256(_mm256_and_si256(c2, low), _mm256_slli_epi64(c3, 32));
        const __m256i even = _mm256_unpacklo_epi64(w01, w23);  // blocks 0, 2
        const __m256i odd = _mm256_unpackhi_epi64(w01, w23);   // blocks 1, 3
        auto* target = reinterpret_cast<__m256i*>(words + 4 * i);
        _mm256_storeu_si256(target, _mm256_permute2x128_si256(even, odd, 0x20));
        _mm256_storeu_si256(target + 1, _mm256_permute2x128_si256(even, odd, 0x31));
    }
}

}  // namespace

void philox_fill(std::uint64_t key, std::uint64_t user, std::uint64_t first_block, std::size_t blocks,
                 std::uint32_t* words) noexcept {
    static const bool avx2 = __builtin_cpu_supports("avx2") != 0;
    // One block costs less in scalar registers than a vector of which three quarters are thrown away.
    if (avx2 && blocks > 1) {
        philox_fill_avx2(key, user, first_block, blocks, words);
    } else {
        philox_fill_portable(key, user, first_block, blocks, words);
    }
}
#else
void philox_fill(std::uint64_t key, std::uint64_t user, std::uint64_t first_block, std::size_t blocks,
                 std::uint32_t* words) noexcept {
    philox_fill_portable(key, user, first_block, blocks, words);
}
#endif

}  // namespace fastkd
