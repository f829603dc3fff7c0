// The rows of a request, on threads: what every sampler has in common.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <utility>

#include "samplers/csr.hpp"
#include "samplers/parallel_for.hpp"
#include "samplers/request.hpp"

namespace fastkd {

class SmallestRow {
public:
    void offer(std::int64_t row) noexcept {
        std::int64_t held = row_.load();
        while ((held < 0 || row < held) && !row_.compare_exchange_weak(held, row)) {
        }
    }
    [[nodiscard]] std::int64_t get() const noexcept { return row_.load(); }

private:
    std::atomic<std::int64_t> row_{-1};
};

template <class Id, class Out>
[[nodiscard]] Row<Id, Out> row_of(const Csr<Id>& csr, const Request& request, std::int64_t index, Out* out) noexcept {
    const auto at = static_cast<std::size_t>(index);
    Row<Id, Out> row;
    row.index = index;
    std::int64_t begin = index * request.n;
    std::int64_t slots = request.n;
    if (!request.entries.empty()) {
        row.user = static_cast<std::uint64_t>(index);
        begin = request.entries[at] * request.n;
        slots = request.entries[at + 1] * request.n - begin;
    } else {
        row.user = static_cast<std::uint64_t>(request.users[at]);
        row.first = request.first_slots.empty() ? 0 : static_cast<std::uint64_t>(request.first_slots[at]);
    }
    row.history = csr.row(static_cast<std::int64_t>(row.user));
    row.out = {out + begin, static_cast<std::size_t>(slots)};
    row.log_prob = request.log_prob == nullptr ? nullptr : request.log_prob + begin;
    return row;
}

// Rows of a batch are far apart in memory: what row `index` needs is fetched while the rows before it are drawn. A
// sampler that reads more of a user than the history has prefetch(user).
//
// Inlined by force: GCC takes a function that does nothing but prefetch for one without effect, and drops calls to it.
template <class Id, class Sampler>
[[gnu::always_inline]] inline void prefetch_row(const Csr<Id>& csr, const Request& request, std::int64_t index,
                                                const Sampler& sampler) noexcept {
    constexpr std::int64_t ahead = 4;
    constexpr std::int64_t far_ahead = 12;
    const auto rows = static_cast<std::int64_t>(request.users.size());
    if (index + far_ahead < rows) {
        const std::int64_t user = request.users[static_cast<std::size_t>(index + far_ahead)];
        __builtin_prefetch(csr.indptr.data() + user);
        if constexpr (requires { sampler.prefetch(user); }) sampler.prefetch(user);
    }
    if (index + ahead < rows) {
        const std::int64_t user = request.users[static_cast<std::size_t>(index + ahead)];
        const std::span<const Id> history = csr.row(user);
        constexpr std::size_t per_line = 64 / sizeof(Id);
        for (std::size_t k = 0; k < std::min<std::size_t>(history.size(), 16 * per_line); k += per_line) {
            __builtin_prefetch(history.data() + k);
        }
    }
}

// `make_sampler` is called once on each thread; what it returns has draw(row, exclusions, replacement). A sampler with
// kRowsAhead also has begin(row, replacement), called that many rows before draw(row) and in the same order.
template <class Id, class Out, class MakeSampler>
DrawReport run_rows(const Csr<Id>& csr, const Request& request, Out* out, MakeSampler make_sampler) {
    // Below this much work a second thread costs more than it brings.
    constexpr std::int64_t work_per_thread = 32768;
    constexpr std::int64_t chunks_per_thread = 16;
    const bool by_entry = !request.entries.empty();
    const auto rows = static_cast<std::int64_t>(by_entry ? request.entries.size() - 1 : request.users.size());
    const std::int64_t work =
        by_entry ? request.entries.back() * request.n : rows * (request.n + request.exclusions.width);
    const auto useful = 1 + work / work_per_thread;
    const int threads = static_cast<int>(std::clamp<std::int64_t>(useful, 1, std::max(request.options.threads, 1)));
    const std::int64_t chunk = std::clamp<std::int64_t>(rows / (threads * chunks_per_thread), 1, 4096);
    SmallestRow short_row;
    SmallestRow invalid_row;
    parallel_for(rows, threads, chunk, [&] {
        return [&, sampler = make_sampler()](std::int64_t begin, std::int64_t end) mutable {
            using Sampler = decltype(sampler);
            if constexpr (requires { Sampler::kRowsAhead; }) {
                for (std::int64_t index = begin; index < std::min(begin + Sampler::kRowsAhead, end); ++index) {
                    sampler.begin(row_of(csr, request, index, out), request.options.replacement);
                }
            }
            for (std::int64_t index = begin; index < end; ++index) {
                if (!by_entry) prefetch_row(csr, request, index, sampler);
                if constexpr (requires { Sampler::kRowsAhead; }) {
                    const std::int64_t later = index + Sampler::kRowsAhead;
                    if (later < end) sampler.begin(row_of(csr, request, later, out), request.options.replacement);
                }
                const Row<Id, Out> row = row_of(csr, request, index, out);
                const RowResult result = sampler.draw(row, request.exclusions, request.options.replacement);
                if (result.filled < static_cast<std::int64_t>(row.out.size())) short_row.offer(index);
                if (result.invalid_exclusion) invalid_row.offer(index);
            }
        };
    });
    return {short_row.get(), invalid_row.get()};
}

}  // namespace fastkd
