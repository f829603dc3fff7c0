#include "bindings/module.hpp"

PYBIND11_MODULE(_native, module) {
    module.doc() = "C++ samplers. Arrays are checked and never cast or copied; the GIL is released while drawing.";
    fastkd::bindings::register_philox(module);
    fastkd::bindings::register_uniform(module);
}
