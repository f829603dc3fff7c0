#include "samplers/stratified.hpp"

#include <array>

#include "samplers/instantiate.hpp"
#include "samplers/run_rows.hpp"
#include "samplers/uniform_row.hpp"

namespace fastkd {

Strata::Strata(std::span<const std::uint8_t> stratum_of, std::span<const std::uint64_t> shares)
    : stratum_of_(stratum_of.begin(), stratum_of.end()), shares_(shares.begin(), shares.end()),
      begins_(shares.size() + 1), items_(stratum_of.size()) {
    for (const std::uint8_t stratum : stratum_of_) ++begins_[std::size_t{stratum} + 1];
    for (std::size_t s = 0; s < shares_.size(); ++s) begins_[s + 1] += begins_[s];
    std::vector<std::size_t> at(begins_.begin(), begins_.end() - 1);
    for (std::size_t item = 0; item < stratum_of_.size(); ++item) {
        items_[at[stratum_of_[item]]++] = static_cast<std::uint32_t>(item);
    }
}

namespace {

template <class Id, class Out>
class StratifiedRow {
public:
    StratifiedRow(const Strata& strata, std::uint64_t key)
        : strata_(strata), stream_(key), excluded_(strata.num_items()), left_in_(strata.size()) {}

    RowResult draw(const Row<Id, Out>& row, const Exclusions& exclusions, bool) {
        const auto slots = static_cast<std::uint64_t>(row.out.size());
        if (slots == 0) return {};
        excluded_.assign(row.history, exclusions, row.index, slots);
        open(row.history);
        if (share_left_ == 0) {
            std::fill(row.out.begin(), row.out.end(), Out{-1});
            if (row.log_prob != nullptr) std::fill_n(row.log_prob, slots, kNoLogProb);
            return {0, excluded_.invalid()};
        }
        stream_.tiles(row.user, row.first, row.first + slots,
                      [&](std::uint64_t base, std::uint64_t from, std::uint64_t to, const std::uint32_t* words) {
                          for (std::uint64_t slot = from; slot < to; ++slot) {
                              const std::uint32_t* at = words + 4 * (slot - base);
                              const std::size_t stratum = stratum_of_slot(row.user, slot, at[0]);
                              row.out[slot - row.first] = static_cast<Out>(within(row.user, slot, at[1], stratum));
                              if (row.log_prob != nullptr) row.log_prob[slot - row.first] = log_prob(stratum);
                          }
                      });
        return {static_cast<std::int64_t>(slots), excluded_.invalid()};
    }

private:
    // Counts what is left in each stratum; strata without an item left lose their share to the others, in proportion.
    void open(std::span<const Id> history) {
        for (std::size_t s = 0; s < strata_.size(); ++s) left_in_[s] = strata_.items(s).size();
        for (const Id item : history) --left_in_[strata_.of(static_cast<std::uint32_t>(item))];
        for (const std::uint32_t item : excluded_.extra()) --left_in_[strata_.of(item)];
        share_left_ = 0;
        for (std::size_t s = 0; s < strata_.size(); ++s) share_left_ += left_in_[s] > 0 ? strata_.share(s) : 0;
        listed_.fill(false);
    }

    std::size_t stratum_of_slot(std::uint64_t user, std::uint64_t slot, std::uint32_t word) const {
        std::uint64_t coin = word;
        if (share_left_ < std::uint64_t{1} << 32) {
            const Bound bound(static_cast<std::uint32_t>(share_left_));
            for (std::uint32_t attempt = 1; !bound.even(word); ++attempt) word = stream_.words(user, slot, attempt)[0];
            coin = bound.scale(word);
        }
        for (std::size_t s = 0;; ++s) {
            if (left_in_[s] == 0) continue;
            if (coin < strata_.share(s)) return s;
            coin -= strata_.share(s);
        }
    }

    std::uint32_t within(std::uint64_t user, std::uint64_t slot, std::uint32_t word, std::size_t stratum) {
        const std::span<const std::uint32_t> items = strata_.items(stratum);
        const bool rejecting = items.size() - left_in_[stratum] <= left_in_[stratum];
        const Bound bound(static_cast<std::uint32_t>(rejecting ? items.size() : left_in_[stratum]));
        for (std::uint32_t attempt = 1;; ++attempt) {
            if (bound.even(word)) {
                const std::uint32_t value = bound.scale(word);
                if (!rejecting) return left_of(stratum)[value];
                if (!excluded_.holds(items[value])) return items[value];
            }
            word = stream_.words(user, slot, attempt)[1];
        }
    }

    // The items left in a stratum of which most is gone, ascending; listed when first asked for.
    const std::vector<std::uint32_t>& left_of(std::size_t stratum) {
        if (lists_.size() < strata_.size()) lists_.resize(strata_.size());
        if (!listed_[stratum]) {
            lists_[stratum].clear();
            for (const std::uint32_t item : strata_.items(stratum)) {
                if (!excluded_.holds(item)) lists_[stratum].push_back(item);
            }
            listed_[stratum] = true;
        }
        return lists_[stratum];
    }

    [[nodiscard]] float log_prob(std::size_t stratum) const {
        const double share = static_cast<double>(strata_.share(stratum)) / static_cast<double>(share_left_);
        return static_cast<float>(std::log(share) - std::log(static_cast<double>(left_in_[stratum])));
    }

    const Strata& strata_;
    Stream<1> stream_;
    Excluded<Id> excluded_;
    std::vector<std::size_t> left_in_;
    std::vector<std::vector<std::uint32_t>> lists_;
    std::array<bool, kMaxStrata> listed_{};
    std::uint64_t share_left_ = 0;
};

}  // namespace

template <class Id, class Out>
DrawReport sample_stratified(const Csr<Id>& csr, const Strata& strata, const Request& request, Out* out) {
    return run_rows(csr, request, out, [&] { return StratifiedRow<Id, Out>(strata, request.options.key); });
}

#define FASTKD_STRATIFIED(Id, Out) \
    template DrawReport sample_stratified(const Csr<Id>&, const Strata&, const Request&, Out*);
FASTKD_FOR_EACH_ID_AND_OUT(FASTKD_STRATIFIED)

}  // namespace fastkd
