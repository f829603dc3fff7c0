#include "samplers/alias.hpp"

#include <cstddef>

namespace fastkd {
namespace {
constexpr std::uint64_t kFull = std::uint64_t{1} << 32;
}

bool masses_sum_up(std::span<const std::uint64_t> masses) noexcept {
    const std::uint64_t total = std::uint64_t{masses.size()} << 32;
    std::uint64_t sum = 0;
    for (const std::uint64_t mass : masses) {
        if (mass > total - sum) return false;
        sum += mass;
    }
    return sum == total;
}

MassTable::MassTable(std::span<const std::uint64_t> masses) : buckets_(masses.size()) {
    const std::size_t size = masses.size();
    const auto next = [&](std::size_t from, bool light) {
        while (from < size && (masses[from] < kFull) != light) ++from;
        return from;
    };
    // Light items fill their own bucket in part and the rest of it from the heavy item in hand; a heavy item that has
    // given away all but less than a bucket is light itself and is topped up by the next heavy one.
    std::size_t light = next(0, true);
    std::size_t heavy = next(0, false);
    std::uint64_t rest = heavy < size ? masses[heavy] : 0;
    while (heavy < size) {
        if (rest < kFull) {
            const std::size_t other = next(heavy + 1, false);
            buckets_[heavy] = {static_cast<std::uint32_t>(rest), static_cast<std::uint32_t>(other)};
            rest = masses[other] - (kFull - rest);
            heavy = other;
        } else if (light < size) {
            buckets_[light] = {static_cast<std::uint32_t>(masses[light]), static_cast<std::uint32_t>(heavy)};
            rest -= kFull - masses[light];
            light = next(light + 1, true);
        } else {
            buckets_[heavy] = {0, static_cast<std::uint32_t>(heavy)};
            heavy = next(heavy + 1, false);
            rest = heavy < size ? masses[heavy] : 0;
        }
    }
}

// A bucket gives what it keeps to its own item and the rest of 2^32 to its alias: the masses that the table was made
// of.
MassTable::Masses MassTable::sums_of_buckets() const {
    Masses sums(buckets_.size() + 1);
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
        sums[i + 1] += buckets_[i].kept;
        sums[std::size_t{buckets_[i].alias} + 1] += kFull - buckets_[i].kept;
    }
    for (std::size_t i = 0; i < buckets_.size(); ++i) sums[i + 1] += sums[i];
    return sums;
}

}  // namespace fastkd
