// Negatives of which a stated share is uniform and the rest in proportion to a mass. The definition is in
// csrc/README.md.
#pragma once

#include <cstdint>

#include "samplers/alias.hpp"
#include "samplers/csr.hpp"
#include "samplers/request.hpp"
#include "samplers/seen_mass.hpp"

namespace fastkd {

// `share` of 2^32 is the probability that a slot is uniform. With replacement only.
template <class Id, class Out>
DrawReport sample_mixed(const Csr<Id>& csr, const MassTable& table, const SeenMass& seen, std::uint64_t share,
                        const Request& request, Out* out);

}  // namespace fastkd
