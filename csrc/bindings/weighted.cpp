#include <span>
#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/module.hpp"
#include "bindings/sampler.hpp"
#include "samplers/mixed.hpp"
#include "samplers/popularity.hpp"

namespace fastkd::bindings {
namespace {

MassTable table_of(const py::array& masses, std::int64_t num_items) {
    require<std::uint64_t>(masses, "masses", 1);
    if (masses.shape(0) != num_items) {
        throw py::value_error("masses has " + std::to_string(masses.shape(0)) + " entries for " +
                              std::to_string(num_items) + " items");
    }
    if (num_items > kMaxWeighted) {
        throw py::value_error("weighted draws are from at most 2**30 items, got " + std::to_string(num_items));
    }
    const auto values = view<std::uint64_t>(masses);
    const py::gil_scoped_release unlocked;
    if (!masses_sum_up(values)) throw py::value_error("masses must sum to num_items * 2**32");
    return MassTable(values);
}

class PopularitySampler : public Sampler {
public:
    PopularitySampler(py::array indptr, py::array indices, std::int64_t num_items, const py::array& masses, int threads)
        : Sampler(std::move(indptr), std::move(indices), num_items), table_(table_of(masses, num_items)),
          seen_(with_csr([&](const auto& csr) {
              const auto mass_of = view<std::uint64_t>(masses);
              const py::gil_scoped_release unlocked;
              return SeenMass(csr, mass_of, threads);
          })) {}

    [[nodiscard]] std::uint64_t bytes() const override { return table_.bytes() + seen_.bytes(); }

protected:
    [[nodiscard]] bool draws_without_replacement() const override { return true; }
    DrawReport draw(const Request& request, std::int32_t* narrow, std::int64_t* wide) const override {
        return dispatch(narrow, wide, [&](const auto& csr, auto* out) {
            return sample_popularity(csr, table_, seen_, request, out);
        });
    }

    MassTable table_;
    SeenMass seen_;
};

class MixedSampler : public PopularitySampler {
public:
    MixedSampler(py::array indptr, py::array indices, std::int64_t num_items, const py::array& masses,
                 std::uint64_t share, int threads)
        : PopularitySampler(std::move(indptr), std::move(indices), num_items, masses, threads), share_(share) {
        if (share > std::uint64_t{1} << 32)
            throw py::value_error("share must be in [0, 2**32], got " + std::to_string(share));
    }

protected:
    [[nodiscard]] bool draws_without_replacement() const override { return false; }
    DrawReport draw(const Request& request, std::int32_t* narrow, std::int64_t* wide) const override {
        return dispatch(narrow, wide, [&](const auto& csr, auto* out) {
            return sample_mixed(csr, table_, seen_, share_, request, out);
        });
    }

private:
    std::uint64_t share_;
};

}  // namespace

void register_weighted(py::module_& module) {
    py::class_<PopularitySampler, Sampler>(module, "PopularitySampler", "Draws in proportion to a mass per item.")
        .def(py::init<py::array, py::array, std::int64_t, const py::array&, int>(), py::arg("indptr"),
             py::arg("indices"), py::arg("num_items"), py::arg("masses"), py::arg("threads") = 1,
             "Check and keep the CSR arrays; masses, uint64[num_items], sum to num_items * 2**32.");
    py::class_<MixedSampler, Sampler>(module, "MixedSampler",
                                      "A share of uniform draws, the rest in proportion to a mass.")
        .def(py::init<py::array, py::array, std::int64_t, const py::array&, std::uint64_t, int>(), py::arg("indptr"),
             py::arg("indices"), py::arg("num_items"), py::arg("masses"), py::arg("share"), py::arg("threads") = 1,
             "As PopularitySampler; share of 2**32 is the probability that a slot is uniform.");
}

}  // namespace fastkd::bindings
