#include "samplers/epoch.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <numeric>
#include <utility>

#include "samplers/parallel_for.hpp"

namespace fastkd {
namespace {

__extension__ using Wide = unsigned __int128;

// The 32-bit words of numpy's Philox: Philox4x64-10, counter increased before each block, each word low half first.
class NumpyPhilox {
public:
    explicit NumpyPhilox(std::uint64_t key) noexcept : key_(key) {}

    std::uint32_t next() noexcept {
        if (at_ == words_.size()) refill();
        return words_[at_++];
    }

private:
    void refill() noexcept {
        std::array<std::uint64_t, 4> c{++block_, 0, 0, 0};
        std::uint64_t k0 = key_;
        std::uint64_t k1 = 0;
        for (int round = 0; round < 10; ++round) {
            const Wide p0 = Wide{0xD2E7470EE14C6C93u} * c[0];
            const Wide p1 = Wide{0xCA5A826395121157u} * c[2];
            c = {static_cast<std::uint64_t>(p1 >> 64) ^ c[1] ^ k0, static_cast<std::uint64_t>(p1),
                 static_cast<std::uint64_t>(p0 >> 64) ^ c[3] ^ k1, static_cast<std::uint64_t>(p0)};
            k0 += 0x9E3779B97F4A7C15u;
            k1 += 0xBB67AE8584CAA73Bu;
        }
        for (std::size_t w = 0; w < 4; ++w) {
            words_[2 * w] = static_cast<std::uint32_t>(c[w]);
            words_[2 * w + 1] = static_cast<std::uint32_t>(c[w] >> 32);
        }
        at_ = 0;
    }

    std::uint64_t key_;
    std::uint64_t block_ = 0;
    std::array<std::uint32_t, 8> words_{};
    std::size_t at_ = 8;
};

// Places in flight: enough to hide a miss of every cache, few enough to stay in the first one.
constexpr std::int64_t kAhead = 64;
constexpr std::int64_t kWorkPerThread = 16384;
constexpr std::int64_t kChunk = 4096;

}  // namespace

template <class Index>
void shuffled_order(std::uint64_t key, std::span<Index> order) noexcept {
    std::iota(order.begin(), order.end(), Index{0});
    NumpyPhilox words(key);
    std::array<std::size_t, kAhead> places{};
    for (auto last = static_cast<std::int64_t>(order.size()) - 1; last > 0; last -= kAhead) {
        const std::int64_t count = std::min(kAhead, last);
        for (std::int64_t t = 0; t < count;) {
            const auto at = static_cast<std::uint32_t>(last - t);
            const std::uint32_t place = words.next() & (~0u >> std::countl_zero(at));
            places[static_cast<std::size_t>(t)] = place;
            __builtin_prefetch(&order[std::min(place, at)], 1);
            t += place <= at ? 1 : 0;  // else the next word tries; without a branch, since half of the words may
        }
        for (std::int64_t t = 0; t < count; ++t) {
            std::swap(order[static_cast<std::size_t>(last - t)], order[places[static_cast<std::size_t>(t)]]);
        }
    }
}

EntryUsers::EntryUsers(std::span<const std::int64_t> indptr) : indptr_(indptr) {
    const std::int64_t rows = static_cast<std::int64_t>(indptr.size()) - 1;
    const std::int64_t entries = rows >= 0 ? indptr.back() : 0;
    first_.reserve(static_cast<std::size_t>(entries >> kShift) + 2);
    std::int64_t user = 0;
    for (std::int64_t entry = 0; entry < entries; entry += std::int64_t{1} << kShift) {
        while (indptr[static_cast<std::size_t>(user) + 1] <= entry) ++user;
        first_.push_back(user);
    }
    first_.push_back(std::max<std::int64_t>(rows - 1, 0));
}

template <class Id, class Out>
std::int64_t gather_entries(const Csr<Id>& csr, const EntryUsers& owner, std::span<const Out> entries, const Id* drawn,
                            std::int64_t n, const EpochColumns<Out>& out, int threads) {
    const auto rows = static_cast<std::int64_t>(entries.size());
    const auto nnz = static_cast<std::int64_t>(csr.indices.size());
    const auto inside = [nnz](std::int64_t entry) { return entry >= 0 && entry < nnz; };
    const int useful =
        static_cast<int>(std::clamp<std::int64_t>(1 + rows * (n + 2) / kWorkPerThread, 1, std::max(threads, 1)));
    std::atomic<std::int64_t> wrong{rows};
    parallel_for(rows, useful, kChunk, [&] {
        return [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t tile = begin; tile < end; tile += kAhead) {
                const std::int64_t stop = std::min(tile + kAhead, end);
                for (std::int64_t i = tile; i < stop; ++i) {
                    const auto entry = static_cast<std::int64_t>(entries[static_cast<std::size_t>(i)]);
                    if (!inside(entry)) continue;
                    owner.prefetch(entry);
                    __builtin_prefetch(&csr.indices[static_cast<std::size_t>(entry)]);
                    if (n > 0) __builtin_prefetch(drawn + entry * n);
                }
                for (std::int64_t i = tile; i < stop; ++i) {
                    const auto entry = static_cast<std::int64_t>(entries[static_cast<std::size_t>(i)]);
                    if (!inside(entry)) {
                        std::int64_t held = wrong.load();
                        while (i < held && !wrong.compare_exchange_weak(held, i)) {
                        }
                        continue;
                    }
                    out.users[i] = static_cast<Out>(owner.of(entry));
                    out.positives[i] = static_cast<Out>(csr.indices[static_cast<std::size_t>(entry)]);
                    for (std::int64_t j = 0; j < n; ++j)
                        out.negatives[i * n + j] = static_cast<Out>(drawn[entry * n + j]);
                }
            }
        };
    });
    return wrong.load() == rows ? -1 : wrong.load();
}

template void shuffled_order(std::uint64_t, std::span<std::int32_t>) noexcept;
template void shuffled_order(std::uint64_t, std::span<std::int64_t>) noexcept;
template std::int64_t gather_entries(const Csr<std::int32_t>&, const EntryUsers&, std::span<const std::int32_t>,
                                     const std::int32_t*, std::int64_t, const EpochColumns<std::int32_t>&, int);
template std::int64_t gather_entries(const Csr<std::int32_t>&, const EntryUsers&, std::span<const std::int64_t>,
                                     const std::int32_t*, std::int64_t, const EpochColumns<std::int64_t>&, int);
template std::int64_t gather_entries(const Csr<std::int64_t>&, const EntryUsers&, std::span<const std::int64_t>,
                                     const std::int64_t*, std::int64_t, const EpochColumns<std::int64_t>&, int);

}  // namespace fastkd
