#include "samplers/popularity.hpp"

#include "samplers/instantiate.hpp"
#include "samplers/popularity_row.hpp"
#include "samplers/run_rows.hpp"

namespace fastkd {

template <class Id, class Out>
DrawReport sample_popularity(const Csr<Id>& csr, const MassTable& table, const SeenMass& seen,
                             const Request& request, Out* out) {
    const History history(csr, table, seen, request);
    return run_rows(csr, request, out, [&] { return PopularityRow<Id, Out>(table, history, request.options.key); });
}

#define FASTKD_POPULARITY(Id, Out) \
    template DrawReport sample_popularity(const Csr<Id>&, const MassTable&, const SeenMass&, const Request&, Out*);
FASTKD_FOR_EACH_ID_AND_OUT(FASTKD_POPULARITY)

}  // namespace fastkd
