#include "bindings/module.hpp"

// Samplers are never changed by a call and hold no global state, so free-threaded Python needs no lock here.
PYBIND11_MODULE(_native, module, pybind11::mod_gil_not_used()) {
    module.doc() = "C++ samplers. Arrays are checked and never cast or copied; the GIL is released while drawing.";
    fastkd::bindings::register_epoch(module);
    fastkd::bindings::register_in_batch(module);
    fastkd::bindings::register_philox(module);
    fastkd::bindings::register_sampler(module);
    fastkd::bindings::register_uniform(module);
    fastkd::bindings::register_weighted(module);
    fastkd::bindings::register_stratified(module);
    fastkd::bindings::register_hard(module);
}
