#include "samplers/seen_mass.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

#include "samplers/parallel_for.hpp"

namespace fastkd {
namespace {

constexpr std::int64_t kRowsPerChunk = 1024;  // whole words of bits, so that no two threads write one

template <class Id, class MassOf>
[[nodiscard]] std::uint64_t sum_of(std::span<const Id> history, MassOf mass_of) {
    std::uint64_t sum = 0;
    for (const Id item : history) sum += mass_of(static_cast<std::uint32_t>(item));
    return sum;
}

}  // namespace

// Heaviest items first, all those whose mass has the same number of bits at once, each as heavy as the heaviest of
// them.
std::int64_t items_below_half(std::span<const std::uint64_t> mass_of) noexcept {
    struct Group {
        std::uint64_t items = 0;
        std::uint64_t heaviest = 0;
        std::uint64_t sum = 0;
    };
    std::array<Group, 65> groups;
    for (const std::uint64_t mass : mass_of) {
        Group& group = groups[static_cast<std::size_t>(std::bit_width(mass))];
        ++group.items;
        group.heaviest = std::max(group.heaviest, mass);
        group.sum += mass;
    }
    std::uint64_t room = (std::uint64_t{mass_of.size()} << 32) / 2;
    std::uint64_t items = 0;
    for (std::size_t bits = groups.size() - 1; bits > 0; --bits) {
        const Group& group = groups[bits];
        if (group.sum > room) return static_cast<std::int64_t>(items + room / group.heaviest);
        room -= group.sum;
        items += group.items;
    }
    return static_cast<std::int64_t>(mass_of.size());
}

template <class Id>
SeenMass::SeenMass(const Csr<Id>& csr, std::span<const std::uint64_t> mass_of, int threads)
    : rows_(static_cast<std::uint64_t>(csr.num_rows())) {
    const std::int64_t few = items_below_half(mass_of);
    const std::uint64_t half = (std::uint64_t{mass_of.size()} << 32) / 2;
    const auto longer = [few](std::span<const Id> history) { return static_cast<std::int64_t>(history.size()) > few; };
    bool any = false;
    for (std::int64_t user = 0; !any && user < csr.num_rows(); ++user) any = longer(csr.row(user));
    if (!any) return;
    most_.resize(static_cast<std::size_t>(csr.num_rows() + 63) / 64);
    parallel_for(csr.num_rows(), threads, kRowsPerChunk, [&] {
        return [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t user = begin; user < end; ++user) {
                const std::span<const Id> history = csr.row(user);
                if (!longer(history)) continue;
                const std::uint64_t seen = sum_of(history, [&](std::uint32_t item) { return mass_of[item]; });
                if (seen > half) most_[static_cast<std::size_t>(user) >> 6] |= std::uint64_t{1} << (user & 63);
            }
        };
    });
    if (std::ranges::none_of(most_, [](std::uint64_t word) { return word != 0; })) {
        std::vector<std::uint64_t>().swap(most_);
    }
}

template <class Id>
std::span<const std::uint64_t> SeenMass::exact(const Csr<Id>& csr, const MassTable& table, int threads) const {
    return exact_.get([&] {
        std::vector<std::uint64_t> sums(static_cast<std::size_t>(csr.num_rows()));
        parallel_for(csr.num_rows(), threads, kRowsPerChunk, [&] {
            return [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t user = begin; user < end; ++user) {
                    sums[static_cast<std::size_t>(user)] =
                        sum_of(csr.row(user), [&](std::uint32_t item) { return table.mass(item); });
                }
            };
        });
        return sums;
    });
}

std::uint64_t SeenMass::bytes() const noexcept {
    return sizeof(std::uint64_t) * (most_.size() + (exact_.made() ? rows_ : 0));
}

template SeenMass::SeenMass(const Csr<std::int32_t>&, std::span<const std::uint64_t>, int);
template SeenMass::SeenMass(const Csr<std::int64_t>&, std::span<const std::uint64_t>, int);
template std::span<const std::uint64_t> SeenMass::exact(const Csr<std::int32_t>&, const MassTable&, int) const;
template std::span<const std::uint64_t> SeenMass::exact(const Csr<std::int64_t>&, const MassTable&, int) const;

}  // namespace fastkd
