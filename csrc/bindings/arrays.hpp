// Checks at the border: a numpy array is taken as it lies in memory or refused by name; nothing is cast or copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>

namespace fastkd::bindings {

namespace py = pybind11;

[[nodiscard]] inline std::string describe(const py::array& array) {
    return py::str(array.dtype()).cast<std::string>() + "[" + std::to_string(array.ndim()) + "-d]";
}

// Refuses, with TypeError, anything but an aligned C-contiguous array of this element type and number of dimensions.
template <class T>
void require(const py::array& array, const char* name, py::ssize_t dimensions) {
    if (!py::isinstance<py::array_t<T>>(array)) {
        throw py::type_error(std::string(name) + " must be " + py::str(py::dtype::of<T>()).cast<std::string>() +
                             ", got " + describe(array));
    }
    if (array.ndim() != dimensions) {
        throw py::type_error(std::string(name) + " must have " + std::to_string(dimensions) + " dimension(s), got " +
                             describe(array));
    }
    const int wanted = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & wanted) != wanted) {
        throw py::type_error(std::string(name) + " must be C-contiguous and aligned, got strides " +
                             py::repr(array.attr("strides")).cast<std::string>());
    }
}

template <class T>
[[nodiscard]] std::span<const T> view(const py::array& array) {
    return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

// The memory of an output array; read-only arrays are refused.
template <class T>
[[nodiscard]] T* target(py::array& array, const char* name) {
    if (!array.writeable()) throw py::type_error(std::string(name) + " must be writeable, got a read-only array");
    return static_cast<T*>(array.mutable_data());
}

[[nodiscard]] inline bool is_int32(const py::array& array) { return py::isinstance<py::array_t<std::int32_t>>(array); }

}  // namespace fastkd::bindings
