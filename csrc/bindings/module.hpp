// What module.cpp registers.
#pragma once

#include <pybind11/pybind11.h>

namespace fastkd::bindings {

void register_philox(pybind11::module_& module);
void register_uniform(pybind11::module_& module);

}  // namespace fastkd::bindings
