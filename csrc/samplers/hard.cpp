#include "samplers/hard.hpp"

#include <limits>

#include "samplers/instantiate.hpp"
#include "samplers/run_rows.hpp"
#include "samplers/uniform_row.hpp"

namespace fastkd {
namespace {

template <class Id, class Out>
class HardRow {
public:
    HardRow(std::uint32_t num_items, const Vectors& vectors, std::int64_t candidates, std::uint64_t key)
        : vectors_(vectors), candidates_(static_cast<std::size_t>(candidates)), uniform_(num_items, key) {}

    RowResult draw(const Row<Id, Out>& row, const Exclusions& exclusions, bool) {
        // A few slots at a time, so that a long row takes no memory to speak of.
        const std::size_t step = std::max<std::size_t>(1, kCandidates / candidates_);
        drawn_.resize(std::min(step, row.out.size()) * candidates_);
        RowResult result;
        for (std::size_t slot = 0; slot < row.out.size(); slot += step) {
            const std::size_t count = std::min(step, row.out.size() - slot);
            Row<Id, std::int64_t> part;
            part.index = row.index;
            part.user = row.user;
            part.first = (row.first + slot) * candidates_;
            part.history = row.history;
            part.out = std::span(drawn_).first(count * candidates_);
            const RowResult done = uniform_.draw(part, exclusions, true);
            result.invalid_exclusion = done.invalid_exclusion;
            if (done.filled == 0) {
                std::fill(row.out.begin(), row.out.end(), Out{-1});
                return result;
            }
            for (std::size_t j = 0; j < count; ++j) {
                row.out[slot + j] = static_cast<Out>(best(row.user, part.out.subspan(j * candidates_, candidates_)));
            }
            result.filled += static_cast<std::int64_t>(count);
        }
        return result;
    }

private:
    static constexpr std::size_t kCandidates = 4096;

    [[nodiscard]] std::int64_t best(std::uint64_t user, std::span<const std::int64_t> items) const noexcept {
        for (const std::int64_t item : items) __builtin_prefetch(vectors_.items + item * vectors_.width);
        std::int64_t found = -1;
        float top = 0;
        for (const std::int64_t item : items) {
            const float score = score_of(user, item);
            if (found < 0 || score > top || (score == top && item < found)) {
                found = item;
                top = score;
            }
        }
        return found;
    }

    [[nodiscard]] float score_of(std::uint64_t user, std::int64_t item) const noexcept {
        const float* a = vectors_.users + static_cast<std::int64_t>(user) * vectors_.width;
        const float* b = vectors_.items + item * vectors_.width;
        double sum = 0;
        for (std::int64_t k = 0; k < vectors_.width; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
        const auto score = static_cast<float>(sum);
        return score == score ? score : -std::numeric_limits<float>::infinity();
    }

    const Vectors& vectors_;
    std::size_t candidates_;
    UniformRow<Id, std::int64_t> uniform_;
    std::vector<std::int64_t> drawn_;
};

}  // namespace

template <class Id, class Out>
DrawReport sample_hard(const Csr<Id>& csr, const Vectors& vectors, std::int64_t candidates, const Request& request,
                       Out* out) {
    return run_rows(csr, request, out, [&] {
        return HardRow<Id, Out>(static_cast<std::uint32_t>(csr.num_columns), vectors, candidates, request.options.key);
    });
}

#define FASTKD_HARD(Id, Out) \
    template DrawReport sample_hard(const Csr<Id>&, const Vectors&, std::int64_t, const Request&, Out*);
FASTKD_FOR_EACH_ID_AND_OUT(FASTKD_HARD)

}  // namespace fastkd
