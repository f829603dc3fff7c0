#include "samplers/stratified.hpp"

#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/module.hpp"
#include "bindings/sampler.hpp"

namespace fastkd::bindings {
namespace {

Strata strata_of(const py::array& stratum_of, const py::array& shares, std::int64_t num_items) {
    require<std::uint8_t>(stratum_of, "stratum_of", 1);
    require<std::uint64_t>(shares, "shares", 1);
    if (stratum_of.shape(0) != num_items) {
        throw py::value_error("stratum_of has " + std::to_string(stratum_of.shape(0)) + " entries for " +
                              std::to_string(num_items) + " items");
    }
    const auto parts = view<std::uint64_t>(shares);
    if (parts.size() > kMaxStrata) throw py::value_error("at most 256 strata, got " + std::to_string(parts.size()));
    const std::uint64_t whole = std::uint64_t{1} << 32;
    std::uint64_t sum = 0;
    for (const std::uint64_t part : parts) sum += part <= whole ? part : 2 * whole;
    if (sum != whole) throw py::value_error("shares must sum to 2**32");
    for (const std::uint8_t stratum : view<std::uint8_t>(stratum_of)) {
        if (stratum >= parts.size()) {
            throw py::value_error("stratum " + std::to_string(stratum) + " is out of range [0, " +
                                  std::to_string(parts.size()) + ")");
        }
    }
    return {view<std::uint8_t>(stratum_of), parts};
}

class StratifiedSampler : public Sampler {
public:
    StratifiedSampler(py::array indptr, py::array indices, std::int64_t num_items, const py::array& stratum_of,
                      const py::array& shares)
        : Sampler(std::move(indptr), std::move(indices), num_items),
          strata_(strata_of(stratum_of, shares, num_items)) {}

    [[nodiscard]] std::uint64_t bytes() const override { return strata_.bytes(); }

protected:
    DrawReport draw(const Request& request, std::int32_t* narrow, std::int64_t* wide) const override {
        return dispatch(narrow, wide, [&](const auto& csr, auto* out) {
            return sample_stratified(csr, strata_, request, out);
        });
    }

private:
    Strata strata_;
};

}  // namespace

void register_stratified(py::module_& module) {
    py::class_<StratifiedSampler, Sampler>(module, "StratifiedSampler",
                                           "A share of the draws from each stratum, even within it.")
        .def(py::init<py::array, py::array, std::int64_t, const py::array&, const py::array&>(), py::arg("indptr"),
             py::arg("indices"), py::arg("num_items"), py::arg("stratum_of"), py::arg("shares"),
             "Check and keep the CSR arrays; stratum_of is uint8[num_items], shares uint64[strata] sum to 2**32.");
}

}  // namespace fastkd::bindings
