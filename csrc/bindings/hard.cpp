#include "samplers/hard.hpp"

#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/module.hpp"
#include "bindings/sampler.hpp"

namespace fastkd::bindings {
namespace {

class HardSampler : public Sampler {
public:
    HardSampler(py::array indptr, py::array indices, std::int64_t num_items, py::array user_vectors,
                py::array item_vectors, std::int64_t candidates)
        : Sampler(std::move(indptr), std::move(indices), num_items), users_(std::move(user_vectors)),
          items_(std::move(item_vectors)), candidates_(candidates) {
        require<float>(users_, "user_vectors", 2);
        require<float>(items_, "item_vectors", 2);
        if (users_.shape(0) != num_users() || items_.shape(0) != num_items || users_.shape(1) != items_.shape(1)) {
            throw py::value_error("vectors of " + std::to_string(num_users()) + " users and " +
                                  std::to_string(num_items) + " items of one width are needed, got [" +
                                  std::to_string(users_.shape(0)) + ", " + std::to_string(users_.shape(1)) + "] and [" +
                                  std::to_string(items_.shape(0)) + ", " + std::to_string(items_.shape(1)) + "]");
        }
        if (candidates < 1 || candidates > kMaxCandidates) {
            throw py::value_error("candidates must be in [1, " + std::to_string(kMaxCandidates) + "], got " +
                                  std::to_string(candidates));
        }
    }

protected:
    [[nodiscard]] std::int64_t slots_per_draw() const override { return candidates_; }
    [[nodiscard]] bool knows_probabilities() const override { return false; }
    DrawReport draw(const Request& request, std::int32_t* narrow, std::int64_t* wide) const override {
        const Vectors vectors{static_cast<const float*>(users_.data()), static_cast<const float*>(items_.data()),
                              items_.shape(1)};
        return dispatch(narrow, wide, [&](const auto& csr, auto* out) {
            return sample_hard(csr, vectors, candidates_, request, out);
        });
    }

private:
    static constexpr std::int64_t kMaxCandidates = 65536;
    py::array users_;
    py::array items_;
    std::int64_t candidates_;
};

}  // namespace

void register_hard(py::module_& module) {
    py::class_<HardSampler, Sampler>(module, "HardSampler",
                                     "Of a number of uniform draws, the one whose vectors score best.")
        .def(py::init<py::array, py::array, std::int64_t, py::array, py::array, std::int64_t>(), py::arg("indptr"),
             py::arg("indices"), py::arg("num_items"), py::arg("user_vectors"), py::arg("item_vectors"),
             py::arg("candidates"),
             "Check and keep the CSR arrays and both tables, float32, which are read in place at each call.");
}

}  // namespace fastkd::bindings
