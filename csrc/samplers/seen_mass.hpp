// How much of the catalogue's mass each user has seen.
//
// A row drawn by rejection asks one bit of its user: whether the history holds more than half of the mass. Bits are all
// that is kept, and only where a user has one set; what reads exact masses has them summed on first use.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "samplers/alias.hpp"
#include "samplers/csr.hpp"
#include "samplers/lazy.hpp"

namespace fastkd {

// A number of items such that no more than these hold over half of the mass: rows as short are not looked at.
[[nodiscard]] std::int64_t items_below_half(std::span<const std::uint64_t> mass_of) noexcept;

class SeenMass {
public:
    // `mass_of`: of each item, as the table was made of; read during the call only.
    template <class Id>
    SeenMass(const Csr<Id>& csr, std::span<const std::uint64_t> mass_of, int threads);

    // Whether the user's history holds more than half of the mass.
    [[nodiscard]] bool most(std::uint64_t user) const noexcept {
        return !most_.empty() && ((most_[static_cast<std::size_t>(user >> 6)] >> (user & 63)) & 1u) != 0;
    }
    void prefetch(std::uint64_t user) const noexcept {
        if (!most_.empty()) __builtin_prefetch(most_.data() + (user >> 6));
    }

    // The mass of each user's history, 8 bytes a user; kept from then on.
    template <class Id>
    [[nodiscard]] std::span<const std::uint64_t> exact(const Csr<Id>& csr, const MassTable& table, int threads) const;

    // Memory held.
    [[nodiscard]] std::uint64_t bytes() const noexcept;

private:
    std::vector<std::uint64_t> most_;  // one bit per user; empty: no user
    Lazy<std::vector<std::uint64_t>> exact_;
    std::uint64_t rows_ = 0;
};

}  // namespace fastkd
