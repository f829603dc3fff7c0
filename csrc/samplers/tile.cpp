#include "samplers/tile.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define FASTKD_TILE_AVX2 1
#include <immintrin.h>
#endif

namespace fastkd {

std::uint64_t draw_tile_portable(const std::uint32_t* words, std::size_t count, const Bound& bound,
                                 const FilterView& filter, std::uint32_t* values) noexcept {
    std::uint64_t flags = 0;
    for (std::size_t j = 0; j < count; ++j) {
        values[j] = bound.scale(words[j]);
        const bool flag = !bound.even(words[j]) || (filter.words != nullptr && filter.maybe(values[j]));
        flags |= std::uint64_t{flag} << j;
    }
    return flags;
}

std::uint64_t filter_tile_portable(const std::uint32_t* values, std::size_t count, const FilterView& filter) noexcept {
    std::uint64_t flags = 0;
    if (filter.words == nullptr) return flags;
    for (std::size_t j = 0; j < count; ++j) flags |= std::uint64_t{filter.maybe(values[j])} << j;
    return flags;
}

#ifdef FASTKD_TILE_AVX2
namespace {

[[nodiscard]] constexpr std::uint64_t first_bits(std::size_t count) noexcept {
    return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

// Bit 31 of each lane: the filter's bit of the value in that lane.
__attribute__((target("avx2"), always_inline)) inline __m256i look_up(__m256i values,
                                                                      const FilterView& filter) noexcept {
    const __m256i hashed =
        _mm256_srl_epi32(_mm256_mullo_epi32(values, _mm256_set1_epi32(static_cast<int>(filter.multiplier))),
                         _mm_cvtsi32_si128(filter.shift));
    const __m256i held =
        _mm256_i32gather_epi32(reinterpret_cast<const int*>(filter.words), _mm256_srli_epi32(hashed, 5), 4);
    // Shifting left by 31 - (bit mod 32) brings the bit to the top.
    const __m256i places = _mm256_andnot_si256(hashed, _mm256_set1_epi32(31));
    return _mm256_sllv_epi32(held, places);
}

[[nodiscard]] __attribute__((target("avx2"), always_inline)) inline std::uint64_t top_bits(__m256i lanes) noexcept {
    return static_cast<std::uint64_t>(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes))));
}

__attribute__((target("avx2"))) std::uint64_t draw_tile_avx2(const std::uint32_t* words, std::size_t count,
                                                             const Bound& bound, const FilterView& filter,
                                                             std::uint32_t* values) noexcept {
    const __m256i limit = _mm256_set1_epi32(static_cast<int>(bound.limit()));
    const __m256i least = _mm256_set1_epi32(static_cast<int>(bound.turned_away()));
    std::uint64_t flags = 0;
    for (std::size_t j = 0; j < count; j += 8) {
        const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + j));
        const __m256i even = _mm256_mul_epu32(word, limit);
        const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(word, 32), limit);
        const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
        const __m256i low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + j), high);
        // low >= least, unsigned, is max(low, least) == low.
        const __m256i kept = _mm256_cmpeq_epi32(_mm256_max_epu32(low, least), low);
        std::uint64_t flag = top_bits(kept) ^ 0xFFu;
        if (filter.words != nullptr) flag |= top_bits(look_up(high, filter));
        flags |= flag << j;
    }
    return flags & first_bits(count);
}

__attribute__((target("avx2"))) std::uint64_t filter_tile_avx2(const std::uint32_t* values, std::size_t count,
                                                               const FilterView& filter) noexcept {
    std::uint64_t flags = 0;
    if (filter.words == nullptr) return flags;
    const std::size_t whole = count / 8 * 8;
    for (std::size_t j = 0; j < whole; j += 8) {
        const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + j));
        flags |= top_bits(look_up(value, filter)) << j;
    }
    for (std::size_t j = whole; j < count; ++j) flags |= std::uint64_t{filter.maybe(values[j])} << j;
    return flags;
}

// `kVectors` vectors of eight searches each: a step waits for memory, so more than one must be under way.
template <int kVectors>
__attribute__((target("avx2"), always_inline)) inline std::uint64_t search_avx2(
    const std::uint32_t* values, std::span<const std::int32_t> sorted) noexcept {
    __m256i wanted[kVectors];
    __m256i before[kVectors];  // ids known to lie before what is wanted
    for (int v = 0; v < kVectors; ++v) {
        wanted[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + 8 * v));
        before[v] = _mm256_setzero_si256();
    }
    for (std::size_t length = sorted.size(); length > 1; length -= length / 2) {
        const std::size_t half = length / 2;
        const int* middle = sorted.data() + half - 1;
        const __m256i step = _mm256_set1_epi32(static_cast<int>(half));
        for (int v = 0; v < kVectors; ++v) {
            const __m256i less = _mm256_cmpgt_epi32(wanted[v], _mm256_i32gather_epi32(middle, before[v], 4));
            before[v] = _mm256_add_epi32(before[v], _mm256_and_si256(less, step));
        }
    }
    std::uint64_t flags = 0;
    for (int v = 0; v < kVectors; ++v) {
        flags |= top_bits(_mm256_cmpeq_epi32(wanted[v], _mm256_i32gather_epi32(sorted.data(), before[v], 4)))
                 << (8 * v);
    }
    return flags;
}

__attribute__((target("avx2"))) std::uint64_t search_tile_avx2(const std::uint32_t* values, std::size_t count,
                                                               std::span<const std::int32_t> sorted) noexcept {
    std::uint64_t flags = 0;
    std::size_t j = 0;
    for (; j + 24 < count; j += 32) flags |= search_avx2<4>(values + j, sorted) << j;
    for (; j + 8 < count; j += 16) flags |= search_avx2<2>(values + j, sorted) << j;
    for (; j < count; j += 8) flags |= search_avx2<1>(values + j, sorted) << j;
    return flags & first_bits(count);
}

[[nodiscard]] bool has_avx2() noexcept {
    static const bool found = __builtin_cpu_supports("avx2") != 0;
    return found;
}

}  // namespace

std::uint64_t draw_tile(const std::uint32_t* words, std::size_t count, const Bound& bound, const FilterView& filter,
                        std::uint32_t* values) noexcept {
    if (has_avx2()) return draw_tile_avx2(words, count, bound, filter, values);
    return draw_tile_portable(words, count, bound, filter, values);
}

std::uint64_t filter_tile(const std::uint32_t* values, std::size_t count, const FilterView& filter) noexcept {
    if (has_avx2()) return filter_tile_avx2(values, count, filter);
    return filter_tile_portable(values, count, filter);
}

std::uint64_t search_tile(const std::uint32_t* values, std::size_t count,
                          std::span<const std::int32_t> sorted) noexcept {
    // A few searches of so few steps cost less one by one than a vector of them; offsets of a vector are 31 bits wide.
    const bool vectors = count > 2 && sorted.size() < (std::size_t{1} << 31) && !sorted.empty();
    if (vectors && has_avx2()) return search_tile_avx2(values, count, sorted);
    return search_tile_portable(values, count, sorted);
}
#else
std::uint64_t draw_tile(const std::uint32_t* words, std::size_t count, const Bound& bound, const FilterView& filter,
                        std::uint32_t* values) noexcept {
    return draw_tile_portable(words, count, bound, filter, values);
}

std::uint64_t filter_tile(const std::uint32_t* values, std::size_t count, const FilterView& filter) noexcept {
    return filter_tile_portable(values, count, filter);
}

std::uint64_t search_tile(const std::uint32_t* values, std::size_t count,
                          std::span<const std::int32_t> sorted) noexcept {
    return search_tile_portable(values, count, sorted);
}
#endif

std::uint64_t search_tile(const std::uint32_t* values, std::size_t count,
                          std::span<const std::int64_t> sorted) noexcept {
    return search_tile_portable(values, count, sorted);
}

}  // namespace fastkd
