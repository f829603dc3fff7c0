#include "samplers/mixed.hpp"

#include "samplers/instantiate.hpp"
#include "samplers/popularity_row.hpp"
#include "samplers/run_rows.hpp"
#include "samplers/uniform_row.hpp"

namespace fastkd {
namespace {

constexpr std::uint64_t kAll = std::uint64_t{1} << 32;

template <class Id, class Out>
class MixedRow {
public:
    MixedRow(const MassTable& table, const History& history, std::uint64_t share, std::uint64_t key)
        : table_(table), history_(history), share_(share), catalogue_(table.num_items()), stream_(key),
          excluded_(table.num_items()) {}

    void prefetch(std::int64_t user) const noexcept { history_.prefetch(user); }

    RowResult draw(const Row<Id, Out>& row, const Exclusions& exclusions, bool) {
        const auto slots = static_cast<std::uint64_t>(row.out.size());
        if (slots == 0) return {};
        excluded_.assign(row.history, exclusions, row.index, slots);
        items_left_ = table_.num_items() - excluded_.count();
        mass_left_ = history_.mass_left(row.user, excluded_);
        // Where no mass is left, what would be drawn by mass is drawn uniformly, if anything is to be.
        const std::uint64_t share = mass_left_ > 0 ? share_ : share_ > 0 ? kAll : 0;
        if (items_left_ == 0 || (mass_left_ == 0 && share == 0)) {
            std::fill(row.out.begin(), row.out.end(), Out{-1});
            if (row.log_prob != nullptr) std::fill_n(row.log_prob, slots, kNoLogProb);
            return {0, excluded_.invalid()};
        }
        if (mass_left_ < table_.total() - mass_left_) ranks_.assign(table_, excluded_.sorted());
        stream_.tiles(row.user, row.first, row.first + slots,
                      [&](std::uint64_t base, std::uint64_t from, std::uint64_t to, const std::uint32_t* words) {
                          for (std::uint64_t slot = from; slot < to; ++slot) {
                              const std::uint32_t* at = words + 4 * (slot - base);
                              const Words block{at[0], at[1], at[2], at[3]};
                              const std::uint32_t item =
                                  block[0] < share ? uniform(row.user, slot, block) : weighted(row.user, slot, block);
                              row.out[slot - row.first] = static_cast<Out>(item);
                              if (row.log_prob != nullptr) row.log_prob[slot - row.first] = log_prob(item, share);
                          }
                      });
        return {static_cast<std::int64_t>(slots), excluded_.invalid()};
    }

private:
    std::uint32_t uniform(std::uint64_t user, std::uint64_t slot, Words block) {
        const bool rejecting = excluded_.count() <= items_left_;
        const Bound bound = rejecting ? catalogue_ : Bound(static_cast<std::uint32_t>(items_left_));
        for (std::uint32_t attempt = 1;; ++attempt) {
            if (bound.even(block[1])) {
                const std::uint32_t value = bound.scale(block[1]);
                if (!rejecting) return excluded_.at_rank(value);
                if (!excluded_.holds(value)) return value;
            }
            block = stream_.words(user, slot, attempt);
        }
    }

    std::uint32_t weighted(std::uint64_t user, std::uint64_t slot, Words block) const {
        const bool rejecting = mass_left_ >= table_.total() - mass_left_;
        const WideBound bound(mass_left_);
        for (std::uint32_t attempt = 1;; ++attempt) {
            const std::uint64_t word = wide_word(block[1], block[2]);
            if (!rejecting && bound.even(word)) return ranks_.at(table_, bound.scale(word));
            if (rejecting && catalogue_.even(block[1])) {
                const std::uint32_t item = table_.pick(catalogue_.scale(block[1]), block[2]);
                if (!excluded_.holds(item)) return item;
            }
            block = stream_.words(user, slot, attempt);
        }
    }

    [[nodiscard]] float log_prob(std::uint32_t item, std::uint64_t share) const {
        const double even = static_cast<double>(share) / static_cast<double>(kAll);
        const double by_count = even / static_cast<double>(items_left_);
        const double by_mass =
            mass_left_ == 0 ? 0.0
                            : (1.0 - even) * (static_cast<double>(table_.mass(item)) / static_cast<double>(mass_left_));
        return static_cast<float>(std::log(by_count + by_mass));
    }

    const MassTable& table_;
    const History& history_;
    std::uint64_t share_;
    Bound catalogue_;
    Stream<1> stream_;
    Excluded<Id> excluded_;
    MassRanks ranks_;
    std::uint64_t items_left_ = 0;
    std::uint64_t mass_left_ = 0;
};

}  // namespace

template <class Id, class Out>
DrawReport sample_mixed(const Csr<Id>& csr, const MassTable& table, const SeenMass& seen, std::uint64_t share,
                        const Request& request, Out* out) {
    const History history(csr, table, seen, request);
    return run_rows(csr, request, out, [&] { return MixedRow<Id, Out>(table, history, share, request.options.key); });
}

#define FASTKD_MIXED(Id, Out)                                                                                       \
    template DrawReport sample_mixed(const Csr<Id>&, const MassTable&, const SeenMass&, std::uint64_t, const Request&, \
                                     Out*);
FASTKD_FOR_EACH_ID_AND_OUT(FASTKD_MIXED)

}  // namespace fastkd
