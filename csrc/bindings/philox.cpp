#include "samplers/philox.hpp"

#include <algorithm>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/module.hpp"

namespace fastkd::bindings {
namespace {

void philox_words(std::uint64_t key, std::uint64_t user, std::uint64_t first_block, py::array out, bool portable) {
    require<std::uint32_t>(out, "out", 2);
    if (out.shape(1) != 4)
        throw py::value_error("out must be [blocks, 4], got " + std::to_string(out.shape(1)) + " columns");
    auto* words = target<std::uint32_t>(out, "out");
    const auto blocks = static_cast<std::size_t>(out.shape(0));
    const py::gil_scoped_release unlocked;
    if (portable) {
        philox_fill_portable(key, user, first_block, blocks, words);
        return;
    }
    const std::size_t whole = blocks / kPhiloxBatch * kPhiloxBatch;
    philox_fill(key, user, first_block, whole, words);
    std::vector<std::uint32_t> rest(4 * kPhiloxBatch);
    philox_fill(key, user, first_block + whole, blocks - whole, rest.data());
    std::copy_n(rest.begin(), 4 * (blocks - whole), words + 4 * whole);
}

}  // namespace

void register_philox(py::module_& module) {
    module.def("philox_words", &philox_words, py::arg("key"), py::arg("user"), py::arg("first_block"), py::arg("out"),
               py::arg("portable") = false,
               "Write the words of slots 4 * first_block .. of a user at attempt 0 to out, uint32[blocks, 4].");
}

}  // namespace fastkd::bindings
