#include "samplers/in_batch.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

#include "samplers/parallel_for.hpp"

namespace fastkd {
namespace {

constexpr std::int64_t kRowsPerChunk = 64;
constexpr std::int64_t kWorkPerThread = 32768;

// The batch's items, sorted, with their columns; a hashed bit per item turns most look-ups away in the first cache.
class SortedBatch {
public:
    explicit SortedBatch(std::span<const std::int64_t> positives) {
        const std::size_t count = positives.size();
        std::vector<std::int32_t> order(count);
        for (std::size_t c = 0; c < count; ++c) order[c] = static_cast<std::int32_t>(c);
        std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
            const auto x = positives[static_cast<std::size_t>(a)];
            const auto y = positives[static_cast<std::size_t>(b)];
            return x != y ? x < y : a < b;
        });
        for (std::size_t at = 0; at < count; ++at) {
            const std::int64_t item = positives[static_cast<std::size_t>(order[at])];
            if (items_.empty() || items_.back() != item) {
                items_.push_back(item);
                starts_.push_back(at);
            }
        }
        starts_.push_back(count);
        columns_ = std::move(order);
        shift_ = 64 - std::countr_zero(std::bit_ceil(std::max<std::size_t>(kBitsPerItem * count, 64)));
        bits_.assign((std::size_t{1} << (64 - shift_)) / 64, 0);
        for (const std::int64_t item : items_) bits_[slot(item) >> 6] |= std::uint64_t{1} << (slot(item) & 63);
    }

    // Appends the columns that hold `item`.
    void append(std::int64_t item, std::vector<std::int32_t>& columns) const {
        const std::uint64_t bit = slot(item);
        if (!((bits_[bit >> 6] >> (bit & 63)) & 1u)) return;
        const auto found = std::lower_bound(items_.begin(), items_.end(), item);
        if (found == items_.end() || *found != item) return;
        const auto at = static_cast<std::size_t>(found - items_.begin());
        for (std::size_t k = starts_[at]; k < starts_[at + 1]; ++k) columns.push_back(columns_[k]);
    }

private:
    static constexpr std::size_t kBitsPerItem = 16;

    [[nodiscard]] std::uint64_t slot(std::int64_t item) const noexcept {
        return (static_cast<std::uint64_t>(item) * 0x9E3779B97F4A7C15u) >> shift_;
    }

    std::vector<std::int64_t> items_;
    std::vector<std::size_t> starts_;
    std::vector<std::int32_t> columns_;
    std::vector<std::uint64_t> bits_;
    int shift_ = 58;
};

struct Chunk {
    std::vector<std::int64_t> counts;
    std::vector<std::int32_t> columns;
};

}  // namespace

template <class Id>
LeftOut left_out_columns(const Csr<Id>& csr, std::span<const std::int64_t> users,
                         std::span<const std::int64_t> positives, int threads) {
    const auto rows = static_cast<std::int64_t>(users.size());
    LeftOut out;
    out.indptr.assign(1, 0);
    if (rows == 0) return out;
    const SortedBatch batch(positives);
    std::int64_t work = rows;
    for (const std::int64_t user : users) work += static_cast<std::int64_t>(csr.row(user).size());
    const int useful = static_cast<int>(std::clamp<std::int64_t>(1 + work / kWorkPerThread, 1, std::max(threads, 1)));
    std::vector<Chunk> chunks(static_cast<std::size_t>((rows - 1) / kRowsPerChunk + 1));
    parallel_for(rows, useful, kRowsPerChunk, [&] {
        return [&](std::int64_t begin, std::int64_t end) {
            Chunk& chunk = chunks[static_cast<std::size_t>(begin / kRowsPerChunk)];
            for (std::int64_t row = begin; row < end; ++row) {
                const auto at = static_cast<std::size_t>(row);
                const auto before = static_cast<std::ptrdiff_t>(chunk.columns.size());
                const auto history = csr.row(users[at]);
                for (const Id item : history) batch.append(static_cast<std::int64_t>(item), chunk.columns);
                const std::int64_t own = positives[at];
                if (!std::binary_search(history.begin(), history.end(), static_cast<Id>(own)))
                    batch.append(own, chunk.columns);
                std::sort(chunk.columns.begin() + before, chunk.columns.end());
                chunk.counts.push_back(static_cast<std::int64_t>(chunk.columns.size()) - before);
            }
        };
    });
    out.indptr.reserve(static_cast<std::size_t>(rows) + 1);
    std::size_t total = 0;
    for (const Chunk& chunk : chunks) total += chunk.columns.size();
    out.columns.reserve(total);
    for (const Chunk& chunk : chunks) {
        for (const std::int64_t count : chunk.counts) out.indptr.push_back(out.indptr.back() + count);
        out.columns.insert(out.columns.end(), chunk.columns.begin(), chunk.columns.end());
    }
    return out;
}

template LeftOut left_out_columns(const Csr<std::int32_t>&, std::span<const std::int64_t>,
                                  std::span<const std::int64_t>, int);
template LeftOut left_out_columns(const Csr<std::int64_t>&, std::span<const std::int64_t>,
                                  std::span<const std::int64_t>, int);

}  // namespace fastkd
