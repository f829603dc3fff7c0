// Negatives in proportion to a mass per item, such as count^alpha. The definition is in csrc/README.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "samplers/alias.hpp"
#include "samplers/csr.hpp"
#include "samplers/request.hpp"

namespace fastkd {

// The mass of each user's history; `mass_of`: of each item.
template <class Id>
[[nodiscard]] std::vector<std::uint64_t> history_masses(const Csr<Id>& csr, std::span<const std::uint64_t> mass_of,
                                                        int threads);

template <class Id, class Out>
DrawReport sample_popularity(const Csr<Id>& csr, const MassTable& table, std::span<const std::uint64_t> seen_mass,
                             const Request& request, Out* out);

}  // namespace fastkd
