// Uniform negatives: items drawn evenly from those a user has not seen. The definition is in csrc/README.md.
#pragma once

#include "samplers/csr.hpp"
#include "samplers/request.hpp"

namespace fastkd {

// `out`: [rows, n], or [entries, n]; `Out` is int32 or int64. Users and slots are trusted to be in range.
template <class Id, class Out>
DrawReport sample_uniform(const Csr<Id>& csr, const Request& request, Out* out);

}  // namespace fastkd
