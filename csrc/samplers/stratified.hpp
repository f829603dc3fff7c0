// Negatives of which each stratum of the catalogue has a stated share, even within it. The definition is in
// csrc/README.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "samplers/csr.hpp"
#include "samplers/request.hpp"

namespace fastkd {

inline constexpr std::size_t kMaxStrata = 256;

// Which items each stratum holds, and the share of each in 2^32; shares sum to 2^32.
class Strata {
public:
    // `stratum_of[item]` < shares.size() <= kMaxStrata.
    Strata(std::span<const std::uint8_t> stratum_of, std::span<const std::uint64_t> shares);

    [[nodiscard]] std::uint32_t num_items() const noexcept { return static_cast<std::uint32_t>(stratum_of_.size()); }
    [[nodiscard]] std::size_t size() const noexcept { return shares_.size(); }
    [[nodiscard]] std::uint8_t of(std::uint32_t item) const noexcept { return stratum_of_[item]; }
    [[nodiscard]] std::uint64_t share(std::size_t stratum) const noexcept { return shares_[stratum]; }
    // Ascending.
    [[nodiscard]] std::span<const std::uint32_t> items(std::size_t stratum) const noexcept {
        return std::span(items_).subspan(begins_[stratum], begins_[stratum + 1] - begins_[stratum]);
    }

    // Memory held: 5 bytes per item, and the few of each stratum.
    [[nodiscard]] std::uint64_t bytes() const noexcept {
        return stratum_of_.size() + 4 * items_.size() + 8 * (shares_.size() + begins_.size());
    }

private:
    std::vector<std::uint8_t> stratum_of_;
    std::vector<std::uint64_t> shares_;
    std::vector<std::size_t> begins_;
    std::vector<std::uint32_t> items_;
};

// With replacement only.
template <class Id, class Out>
DrawReport sample_stratified(const Csr<Id>& csr, const Strata& strata, const Request& request, Out* out);

}  // namespace fastkd
