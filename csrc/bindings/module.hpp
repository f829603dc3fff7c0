// What module.cpp registers.
#pragma once

#include <pybind11/pybind11.h>

namespace fastkd::bindings {

void register_epoch(pybind11::module_& module);
void register_in_batch(pybind11::module_& module);
void register_philox(pybind11::module_& module);
void register_sampler(pybind11::module_& module);
void register_uniform(pybind11::module_& module);
void register_weighted(pybind11::module_& module);
void register_stratified(pybind11::module_& module);
void register_hard(pybind11::module_& module);

}  // namespace fastkd::bindings
