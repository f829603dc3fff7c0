// Draws by mass for the slots of one user; one object per thread, for its scratch memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "samplers/alias.hpp"
#include "samplers/excluded.hpp"
#include "samplers/item_set.hpp"
#include "samplers/request.hpp"
#include "samplers/seen_mass.hpp"
#include "samplers/stream.hpp"

namespace fastkd {

// Whether a call reads the mass of single items; a row drawn by rank does too, but not every call has one.
[[nodiscard]] inline bool needs_masses(const Request& request) noexcept {
    return request.log_prob != nullptr || !request.options.replacement || request.exclusions.width > 0;
}

// The masses of histories as one call sees them: exact where it reads masses at all.
class History {
public:
    template <class Id>
    History(const Csr<Id>& csr, const MassTable& table, const SeenMass& seen, const Request& request)
        : table_(table), seen_(seen) {
        if (!needs_masses(request)) return;
        table.prepare();
        exact_ = seen.exact(csr, table, request.options.threads);
    }

    void prefetch(std::int64_t user) const noexcept {
        seen_.prefetch(static_cast<std::uint64_t>(user));
        if (!exact_.empty()) __builtin_prefetch(exact_.data() + user);
    }

    // The mass that a row may draw from. Where nothing is exact, that of a user with at least half of it left is given
    // as all of it: such a row is drawn by rejection, which asks for no more.
    template <class Id>
    [[nodiscard]] std::uint64_t mass_left(std::uint64_t user, const Excluded<Id>& excluded) const {
        std::uint64_t gone = 0;
        if (!exact_.empty()) {
            gone = exact_[static_cast<std::size_t>(user)];
        } else if (seen_.most(user)) {
            for (const Id item : excluded.history()) gone += table_.mass(static_cast<std::uint32_t>(item));
        }
        for (const std::uint32_t item : excluded.extra()) gone += table_.mass(item);
        return table_.total() - gone;
    }

private:
    const MassTable& table_;
    const SeenMass& seen_;
    std::span<const std::uint64_t> exact_;
};

[[nodiscard]] inline double log_mass(std::uint64_t mass) { return std::log(static_cast<double>(mass)); }

[[nodiscard]] constexpr std::uint64_t wide_word(std::uint32_t low, std::uint32_t high) noexcept {
    return (std::uint64_t{high} << 32) | low;
}

template <class Id, class Out>
class PopularityRow {
public:
    PopularityRow(const MassTable& table, const History& history, std::uint64_t key)
        : table_(table), history_(history), catalogue_(table.num_items()), key_(key), stream_(key),
          excluded_(table.num_items()), taken_(table.num_items()) {}

    void prefetch(std::int64_t user) const noexcept { history_.prefetch(user); }

    // The table is far away: the buckets of a row's first tile are on their way while the rows before it are drawn.
    static constexpr std::int64_t kRowsAhead = 3;
    void begin(const Row<Id, Out>& row, bool replacement) noexcept {
        Tile& tile = tiles_[begun_++ % tiles_.size()];
        if (replacement && !row.out.empty()) begin_tile(tile, row.user, first_tile(row), row.first + row.out.size());
    }

    // Fills row.out; slots that find no mass left are -1, at the end.
    RowResult draw(const Row<Id, Out>& row, const Exclusions& exclusions, bool replacement) {
        Tile& tile = tiles_[drawn_++ % tiles_.size()];
        const auto slots = static_cast<std::uint64_t>(row.out.size());
        if (slots == 0) return {};
        excluded_.assign(row.history, exclusions, row.index, replacement ? slots : kAlwaysFilter, replacement);
        const std::uint64_t left = history_.mass_left(row.user, excluded_);
        std::uint64_t filled = 0;
        if (!replacement) {
            filled = without_replacement(row, left);
        } else if (left > 0) {
            filled = slots;
            if (left >= table_.total() - left) {
                rejecting(row, tile);
            } else {
                ranking(row, left);
            }
            for (std::uint64_t j = 0; row.log_prob != nullptr && j < slots; ++j)
                row.log_prob[j] = log_prob(row.out[j], left);
        }
        std::fill(row.out.begin() + static_cast<std::ptrdiff_t>(filled), row.out.end(), Out{-1});
        if (row.log_prob != nullptr) {
            std::fill(row.log_prob + filled, row.log_prob + slots, -std::numeric_limits<float>::infinity());
        }
        return {static_cast<std::int64_t>(filled), excluded_.invalid()};
    }

private:
    static constexpr std::uint64_t kAlwaysFilter = std::numeric_limits<std::uint32_t>::max();
    using Pair = std::array<std::uint32_t, 2>;

    static constexpr std::uint64_t kTileSlots = kTile / 2;
    struct Tile {
        alignas(64) std::array<std::uint32_t, kTile> words{};
        std::array<std::uint32_t, kTile> items{};  // buckets, then what they gave
    };

    [[nodiscard]] static std::uint64_t first_tile(const Row<Id, Out>& row) noexcept {
        return row.first & ~std::uint64_t{1};
    }

    // Draws the words of the slots from `base` on, one tile at most, and has their buckets fetched.
    void begin_tile(Tile& tile, std::uint64_t user, std::uint64_t base, std::uint64_t last) const noexcept {
        const std::uint64_t count = std::min(last - base, kTileSlots);
        philox_fill(key_, user, base / 2, static_cast<std::size_t>((count + 1) / 2), tile.words.data());
        for (std::size_t j = 0; j < count; ++j) {
            tile.items[j] = catalogue_.scale(tile.words[2 * j]);
            table_.prefetch(tile.items[j]);
        }
    }

    void rejecting(const Row<Id, Out>& row, Tile& first) {
        const std::uint64_t last = row.first + row.out.size();
        Tile* tile = &first;
        Tile* next = &spare_;
        for (std::uint64_t base = first_tile(row); base < last; base += kTileSlots) {
            if (base + kTileSlots < last) begin_tile(*next, row.user, base + kTileSlots, last);
            finish_tile(row, *tile, base, std::min(last, base + kTileSlots));
            std::swap(tile, next);
        }
    }

    void finish_tile(const Row<Id, Out>& row, Tile& tile, std::uint64_t base, std::uint64_t to) const {
        auto& [words, items] = tile;
        const std::uint64_t from = std::max(base, row.first);
        const auto count = static_cast<std::size_t>(to - base);
        const auto open = [&](std::uint32_t item) { return !excluded_.holds(item); };
        std::uint64_t flags = 0;
        for (std::size_t j = 0; j < count; ++j) {
            items[j] = table_.pick(items[j], words[2 * j + 1]);
            flags |= std::uint64_t{!catalogue_.even(words[2 * j])} << j;
        }
        flags |= excluded_.flags(items.data(), count);
        for (flags &= slot_bits(base, from, to); flags != 0; flags &= flags - 1) {
            const auto j = static_cast<std::size_t>(std::countr_zero(flags));
            if (catalogue_.even(words[2 * j]) && open(items[j])) continue;
            items[j] = settle(row.user, base + j, stream_.words(row.user, base + j, 1), 2, open);
        }
        Out* out = row.out.data() + (from - row.first);
        const std::uint32_t* found = items.data() + (from - base);
        for (std::uint64_t j = 0; j < to - from; ++j) out[j] = static_cast<Out>(found[j]);
    }

    void ranking(const Row<Id, Out>& row, std::uint64_t left) {
        const WideBound bound(left);
        ranks_.assign(table_, excluded_.sorted());
        each_slot(row, [&](std::uint64_t slot, Pair words) {
            row.out[slot - row.first] =
                static_cast<Out>(settle_rank(row.user, slot, words, bound, [](auto) { return true; }));
            return true;
        });
    }

    // Stage 0 draws from the whole catalogue; a stage ends when less than half of the mass it began with is left, and
    // the next one draws from what is left then.
    std::uint64_t without_replacement(const Row<Id, Out>& row, std::uint64_t left) {
        taken_.allocate();
        const std::vector<std::uint32_t> excluded = excluded_.sorted();
        for (const std::uint32_t item : excluded) taken_.insert(item);
        std::uint64_t began_with = table_.total();
        bool whole = true;
        std::uint64_t filled = 0;
        const auto fresh = [&](std::uint32_t item) { return taken_.insert(item) != 0; };
        each_slot(row, [&](std::uint64_t slot, Pair words) {
            if (left == 0) return false;
            if (left < began_with - left) {
                whole = false;
                began_with = left;
                gone_.assign(excluded.begin(), excluded.end());
                for (std::uint64_t j = 0; j < filled; ++j) gone_.push_back(static_cast<std::uint32_t>(row.out[j]));
                std::sort(gone_.begin(), gone_.end());
                ranks_.assign(table_, gone_);
            }
            const std::uint32_t item = whole ? settle(row.user, slot, words, 1, fresh)
                                             : settle_rank(row.user, slot, words, WideBound(began_with), fresh);
            row.out[filled] = static_cast<Out>(item);
            if (row.log_prob != nullptr) row.log_prob[filled] = log_prob(row.out[filled], left);
            left -= table_.mass(item);
            ++filled;
            return true;
        });
        for (const std::uint32_t item : excluded) taken_.clear_word_of(item);
        for (std::uint64_t j = 0; j < filled; ++j) taken_.clear_word_of(static_cast<std::uint32_t>(row.out[j]));
        return filled;
    }

    [[nodiscard]] float log_prob(Out item, std::uint64_t left) const {
        return static_cast<float>(log_mass(table_.mass(static_cast<std::uint32_t>(item))) - log_mass(left));
    }

    // use(slot, its words at attempt 0) in order, until one returns false.
    template <class Use>
    void each_slot(const Row<Id, Out>& row, Use use) const {
        bool more = true;
        stream_.tiles(row.user, row.first, row.first + row.out.size(),
                      [&](std::uint64_t base, std::uint64_t from, std::uint64_t to, const std::uint32_t* words) {
                          for (std::uint64_t slot = from; more && slot < to; ++slot) {
                              more = use(slot, Pair{words[2 * (slot - base)], words[2 * (slot - base) + 1]});
                          }
                      });
    }

    template <class Accept>
    std::uint32_t settle(std::uint64_t user, std::uint64_t slot, Pair words, std::uint32_t next, Accept accept) const {
        for (std::uint32_t attempt = next;; ++attempt) {
            if (catalogue_.even(words[0])) {
                const std::uint32_t item = table_.pick(catalogue_.scale(words[0]), words[1]);
                if (accept(item)) return item;
            }
            words = stream_.words(user, slot, attempt);
        }
    }

    template <class Accept>
    std::uint32_t settle_rank(std::uint64_t user, std::uint64_t slot, Pair words, const WideBound& bound,
                              Accept accept) const {
        for (std::uint32_t attempt = 1;; ++attempt) {
            const std::uint64_t word = wide_word(words[0], words[1]);
            if (bound.even(word)) {
                const std::uint32_t item = ranks_.at(table_, bound.scale(word));
                if (accept(item)) return item;
            }
            words = stream_.words(user, slot, attempt);
        }
    }

    const MassTable& table_;
    const History& history_;
    Bound catalogue_;
    std::uint64_t key_;
    Stream<2> stream_;
    Excluded<Id> excluded_;
    ItemSet taken_;
    MassRanks ranks_;
    std::vector<std::uint32_t> gone_;
    std::array<Tile, kRowsAhead + 1> tiles_{};
    Tile spare_{};
    std::uint64_t begun_ = 0;
    std::uint64_t drawn_ = 0;
};

}  // namespace fastkd
