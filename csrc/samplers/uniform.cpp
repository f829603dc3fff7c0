#include "samplers/uniform.hpp"

#include "samplers/instantiate.hpp"
#include "samplers/run_rows.hpp"
#include "samplers/uniform_row.hpp"

namespace fastkd {

template <class Id, class Out>
DrawReport sample_uniform(const Csr<Id>& csr, const Request& request, Out* out) {
    return run_rows(csr, request, out, [&] {
        return UniformRow<Id, Out>(static_cast<std::uint32_t>(csr.num_columns), request.options.key);
    });
}

#define FASTKD_UNIFORM(Id, Out) template DrawReport sample_uniform(const Csr<Id>&, const Request&, Out*);
FASTKD_FOR_EACH_ID_AND_OUT(FASTKD_UNIFORM)

}  // namespace fastkd
