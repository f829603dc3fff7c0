// What the samplers share at the border: the table, the checks of a call, the release of the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

#include "samplers/csr.hpp"
#include "samplers/request.hpp"

namespace fastkd::bindings {

namespace py = pybind11;

// Holds the arrays it was built from and reads them in place; they must not change afterwards. Calls change nothing, so
// any number of threads may make them at once.
class Sampler {
public:
    Sampler(py::array indptr, py::array indices, std::int64_t num_items);
    virtual ~Sampler() = default;
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    std::int64_t sample(const py::array& users, std::uint64_t key, py::array out, const py::object& exclude_lists,
                        bool replacement, int threads, const py::object& first_slots, const py::object& log_prob) const;
    std::int64_t sample_epoch(std::uint64_t key, py::array out, int threads, const py::object& indptr) const;

    [[nodiscard]] std::int64_t num_users() const { return indptr_.shape(0) - 1; }
    [[nodiscard]] std::int64_t num_items() const { return num_items_; }
    // Memory held beside the arrays given.
    [[nodiscard]] virtual std::uint64_t bytes() const { return 0; }

protected:
    // What a slot takes from the 2^32 that a user has, if more than one.
    [[nodiscard]] virtual std::int64_t slots_per_draw() const { return 1; }
    [[nodiscard]] virtual bool draws_without_replacement() const { return false; }
    [[nodiscard]] virtual bool knows_probabilities() const { return true; }

    // Draws with the GIL released. One of the two kinds of `out` is null.
    virtual DrawReport draw(const Request& request, std::int32_t* narrow, std::int64_t* wide) const = 0;

    // call(csr, out) for the types at hand.
    template <class Call>
    DrawReport dispatch(std::int32_t* narrow, std::int64_t* wide, Call call) const {
        if (narrow_) return narrow != nullptr ? call(csr<std::int32_t>(), narrow) : call(csr<std::int32_t>(), wide);
        return narrow != nullptr ? call(csr<std::int64_t>(), narrow) : call(csr<std::int64_t>(), wide);
    }

    template <class Call>
    auto with_csr(Call call) const {
        return narrow_ ? call(csr<std::int32_t>()) : call(csr<std::int64_t>());
    }

private:
    template <class Id>
    [[nodiscard]] Csr<Id> csr() const;
    void check_slots(std::int64_t n) const;
    DrawReport run(const Request& request, py::array& out) const;

    py::array indptr_;
    py::array indices_;
    std::int64_t num_items_;
    bool narrow_;
};

}  // namespace fastkd::bindings
