// A catalogue whose items are drawn in proportion to integer masses: alias table (Walker 1977) and cumulative masses.
//
// Masses are integers that sum to N * 2^32, so that a bucket of the table holds 2^32 and nothing is rounded: item i
// comes with probability masses[i] / (N * 2^32) exactly. The table is filled in one sweep over the items
// (Huebschle-Schneider and Sanders 2019), without stacks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "samplers/lazy.hpp"

namespace fastkd {

// N * 2^32 and twice that fit 64 bits.
inline constexpr std::int64_t kMaxWeighted = std::int64_t{1} << 30;

class MassTable {
public:
    struct Bucket {
        std::uint32_t kept = 0;   // a coin below this stays with the bucket's own item
        std::uint32_t alias = 0;  // else this item
    };

    // `masses` must sum to masses.size() * 2^32; see masses_sum_up.
    explicit MassTable(std::span<const std::uint64_t> masses);

    [[nodiscard]] std::uint32_t num_items() const noexcept { return static_cast<std::uint32_t>(buckets_.size()); }
    [[nodiscard]] std::uint64_t total() const noexcept { return std::uint64_t{buckets_.size()} << 32; }
    [[nodiscard]] std::uint64_t mass(std::uint32_t item) const {
        const Masses& sums = cumulative();
        return sums[item + 1] - sums[item];
    }
    // The mass of the items before this one.
    [[nodiscard]] std::uint64_t before(std::uint32_t item) const { return cumulative()[item]; }
    // Has the cumulative masses ready: another 8 bytes per item, which rows drawn by rejection alone do not need.
    void prepare() const { static_cast<void>(cumulative()); }

    [[gnu::always_inline]] void prefetch(std::uint32_t bucket) const noexcept {
        __builtin_prefetch(buckets_.data() + bucket);
    }
    [[nodiscard]] std::uint32_t pick(std::uint32_t bucket, std::uint32_t coin) const noexcept {
        const Bucket at = buckets_[bucket];
        // Without a branch, which half of the coins would take by surprise.
        const std::uint32_t stays = 0u - static_cast<std::uint32_t>(coin < at.kept);
        return at.alias ^ ((bucket ^ at.alias) & stays);
    }

    // Memory held: 8 bytes per item, and as much again once the cumulative masses are there.
    [[nodiscard]] std::uint64_t bytes() const noexcept {
        return sizeof(Bucket) * buckets_.size() + (sums_.made() ? sizeof(std::uint64_t) * (buckets_.size() + 1) : 0);
    }

    // The item x with before(x) <= mass < before(x + 1).
    [[nodiscard]] std::uint32_t at(std::uint64_t mass) const {
        const Masses& sums = cumulative();
        return static_cast<std::uint32_t>(std::upper_bound(sums.begin(), sums.end(), mass) - sums.begin() - 1);
    }

private:
    using Masses = std::vector<std::uint64_t>;

    [[nodiscard]] const Masses& cumulative() const {
        return sums_.get([this] { return sums_of_buckets(); });
    }
    [[nodiscard]] Masses sums_of_buckets() const;

    std::vector<Bucket> buckets_;
    Lazy<Masses> sums_;
};

[[nodiscard]] bool masses_sum_up(std::span<const std::uint64_t> masses) noexcept;

// Draws by mass among the items that are not left out: exact, without rejection.
class MassRanks {
public:
    // `left_out`: ascending, each once.
    void assign(const MassTable& table, std::span<const std::uint32_t> left_out) {
        starts_.clear();
        removed_.assign(1, 0);
        for (const std::uint32_t item : left_out) {
            starts_.push_back(table.before(item) - removed_.back());
            removed_.push_back(removed_.back() + table.mass(item));
        }
    }

    // The item at this offset into the masses of the items left, ascending.
    [[nodiscard]] std::uint32_t at(const MassTable& table, std::uint64_t offset) const {
        const auto passed = std::upper_bound(starts_.begin(), starts_.end(), offset) - starts_.begin();
        return table.at(offset + removed_[static_cast<std::size_t>(passed)]);
    }

private:
    std::vector<std::uint64_t> starts_;   // offset at which each item left out would begin
    std::vector<std::uint64_t> removed_;  // mass of the items left out before it
};

}  // namespace fastkd
