#include "samplers/popularity.hpp"

#include "samplers/instantiate.hpp"
#include "samplers/parallel_for.hpp"
#include "samplers/popularity_row.hpp"
#include "samplers/run_rows.hpp"

namespace fastkd {

template <class Id>
std::vector<std::uint64_t> history_masses(const Csr<Id>& csr, std::span<const std::uint64_t> mass_of, int threads) {
    std::vector<std::uint64_t> masses(static_cast<std::size_t>(csr.num_rows()));
    parallel_for(csr.num_rows(), threads, 1024, [&] {
        return [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t user = begin; user < end; ++user) {
                std::uint64_t sum = 0;
                for (const Id item : csr.row(user)) sum += mass_of[static_cast<std::size_t>(item)];
                masses[static_cast<std::size_t>(user)] = sum;
            }
        };
    });
    return masses;
}

template <class Id, class Out>
DrawReport sample_popularity(const Csr<Id>& csr, const MassTable& table, std::span<const std::uint64_t> seen_mass,
                             const Request& request, Out* out) {
    if (needs_masses(request)) table.prepare();
    return run_rows(csr, request, out, [&] { return PopularityRow<Id, Out>(table, seen_mass, request.options.key); });
}

template std::vector<std::uint64_t> history_masses(const Csr<std::int32_t>&, std::span<const std::uint64_t>, int);
template std::vector<std::uint64_t> history_masses(const Csr<std::int64_t>&, std::span<const std::uint64_t>, int);

#define FASTKD_POPULARITY(Id, Out)                                                                          \
    template DrawReport sample_popularity(const Csr<Id>&, const MassTable&, std::span<const std::uint64_t>, \
                                          const Request&, Out*);
FASTKD_FOR_EACH_ID_AND_OUT(FASTKD_POPULARITY)

}  // namespace fastkd
