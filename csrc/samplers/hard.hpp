// Hard negatives: of m uniform draws, the one that scores best. The definition is in csrc/README.md.
#pragma once

#include <cstdint>

#include "samplers/csr.hpp"
#include "samplers/request.hpp"

namespace fastkd {

// The score of an item for a user: the inner product of their vectors, summed in float64 in order, rounded to float32.
struct Vectors {
    const float* users = nullptr;  // [num_users, width]
    const float* items = nullptr;  // [num_items, width]
    std::int64_t width = 0;
};

// Slot s takes the best of the uniform draws of slots s * candidates .. + candidates - 1; equal scores go to the lower
// id, NaN counts as the lowest. With replacement only, no log-probabilities.
template <class Id, class Out>
DrawReport sample_hard(const Csr<Id>& csr, const Vectors& vectors, std::int64_t candidates, const Request& request,
                       Out* out);

}  // namespace fastkd
