#include "samplers/uniform.hpp"

#include "bindings/module.hpp"
#include "bindings/sampler.hpp"

namespace fastkd::bindings {
namespace {

class UniformSampler : public Sampler {
public:
    using Sampler::Sampler;

protected:
    [[nodiscard]] bool draws_without_replacement() const override { return true; }
    DrawReport draw(const Request& request, std::int32_t* narrow, std::int64_t* wide) const override {
        return dispatch(narrow, wide, [&](const auto& csr, auto* out) { return sample_uniform(csr, request, out); });
    }
};

}  // namespace

void register_uniform(py::module_& module) {
    py::class_<UniformSampler, Sampler>(module, "UniformSampler", "Uniform draws from the items a user has not seen.")
        .def(py::init<py::array, py::array, std::int64_t>(), py::arg("indptr"), py::arg("indices"),
             py::arg("num_items"), "Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them.");
}

}  // namespace fastkd::bindings
