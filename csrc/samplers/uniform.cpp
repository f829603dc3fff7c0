#include "samplers/uniform.hpp"

#include <algorithm>
#include <atomic>

#include "samplers/parallel_for.hpp"
#include "samplers/row_sampler.hpp"

namespace fastkd {
namespace {

// Below this much work a second thread costs more than it brings.
constexpr std::int64_t kWorkPerThread = 32768;
constexpr std::int64_t kChunksPerThread = 16;

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

// `place` tells of a row: its user and where its slots go.
template <class Id, class Out, class Place>
DrawReport run(const Csr<Id>& csr, std::int64_t rows, std::int64_t work, const Exclusions& exclusions,
               const DrawOptions& options, Place place) {
    const auto useful = 1 + work / kWorkPerThread;
    const int threads = static_cast<int>(std::clamp<std::int64_t>(useful, 1, std::max(options.threads, 1)));
    const std::int64_t chunk = std::clamp<std::int64_t>(rows / (threads * kChunksPerThread), 1, 4096);
    SmallestRow short_row;
    SmallestRow invalid_row;
    parallel_for(rows, threads, chunk, [&] {
        RowSampler<Id, Out> sampler(static_cast<std::uint32_t>(csr.num_columns), options.key);
        return [&, sampler = std::move(sampler)](std::int64_t begin, std::int64_t end) mutable {
            for (std::int64_t row = begin; row < end; ++row) {
                const auto [user, out] = place(row);
                const RowResult result = sampler.draw(static_cast<std::uint64_t>(user), csr.row(user), exclusions, row,
                                                      options.replacement, out);
                if (result.filled < static_cast<std::int64_t>(out.size())) short_row.offer(row);
                if (result.invalid_exclusion) invalid_row.offer(row);
            }
        };
    });
    return {short_row.get(), invalid_row.get()};
}

template <class Out>
struct RowPlace {
    std::int64_t user;
    std::span<Out> out;
};

}  // namespace

template <class Id>
DrawReport sample_rows(const Csr<Id>& csr, std::span<const std::int64_t> users, std::int64_t n,
                       const Exclusions& exclusions, const DrawOptions& options, std::int64_t* out) {
    const auto rows = static_cast<std::int64_t>(users.size());
    const std::int64_t work = rows * (n + exclusions.width);
    return run<Id, std::int64_t>(csr, rows, work, exclusions, options, [&](std::int64_t row) {
        return RowPlace<std::int64_t>{users[static_cast<std::size_t>(row)],
                                      {out + row * n, static_cast<std::size_t>(n)}};
    });
}

template <class Id>
DrawReport sample_entries(const Csr<Id>& csr, std::int64_t n, const DrawOptions& options, Id* out) {
    DrawOptions with_replacement = options;
    with_replacement.replacement = true;
    const auto work = static_cast<std::int64_t>(csr.indices.size()) * n;
    return run<Id, Id>(csr, csr.num_rows(), work, Exclusions{}, with_replacement, [&](std::int64_t user) {
        const std::int64_t begin = csr.indptr[static_cast<std::size_t>(user)];
        const std::int64_t end = csr.indptr[static_cast<std::size_t>(user) + 1];
        return RowPlace<Id>{user, {out + begin * n, static_cast<std::size_t>((end - begin) * n)}};
    });
}

template DrawReport sample_rows(const Csr<std::int32_t>&, std::span<const std::int64_t>, std::int64_t,
                                const Exclusions&, const DrawOptions&, std::int64_t*);
template DrawReport sample_rows(const Csr<std::int64_t>&, std::span<const std::int64_t>, std::int64_t,
                                const Exclusions&, const DrawOptions&, std::int64_t*);
template DrawReport sample_entries(const Csr<std::int32_t>&, std::int64_t, const DrawOptions&, std::int32_t*);
template DrawReport sample_entries(const Csr<std::int64_t>&, std::int64_t, const DrawOptions&, std::int64_t*);

}  // namespace fastkd
