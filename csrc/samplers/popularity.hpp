// Negatives in proportion to a mass per item, such as count^alpha. The definition is in csrc/README.md.
#pragma once

#include "samplers/alias.hpp"
#include "samplers/csr.hpp"
#include "samplers/request.hpp"
#include "samplers/seen_mass.hpp"

namespace fastkd {

template <class Id, class Out>
DrawReport sample_popularity(const Csr<Id>& csr, const MassTable& table, const SeenMass& seen,
                             const Request& request, Out* out);

}  // namespace fastkd
