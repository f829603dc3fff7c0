// Tests of the weighted, stratified and hard samplers; a program of its own beside core_tests.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "samplers/alias.hpp"
#include "samplers/bounded.hpp"
#include "samplers/hard.hpp"
#include "samplers/mixed.hpp"
#include "samplers/popularity.hpp"
#include "samplers/stratified.hpp"
#include "samplers/tile.hpp"

namespace {

using namespace fastkd;

constexpr std::uint64_t kFull = std::uint64_t{1} << 32;
int failures = 0;

void expect(bool condition, const char* what, int line) {
    if (!condition) {
        std::printf("sampler_tests.cpp:%d: %s\n", line, what);
        ++failures;
    }
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

// User u holds the first u * items / (users - 1) items: the last user everything.
struct Fixture {
    std::int64_t num_items;
    std::vector<std::int64_t> indptr{0};
    std::vector<std::int32_t> indices;
    std::vector<std::int64_t> users;

    Fixture(std::int64_t count, std::int64_t items) : num_items(items) {
        for (std::int64_t u = 0; u < count; ++u) {
            for (std::int64_t i = 0; i < u * items / (count - 1); ++i) indices.push_back(static_cast<std::int32_t>(i));
            indptr.push_back(static_cast<std::int64_t>(indices.size()));
            users.push_back(count - 1 - u);
        }
    }
    [[nodiscard]] Csr<std::int32_t> csr() const { return {indptr, indices, num_items}; }
    [[nodiscard]] Request request(std::int64_t n, bool replacement, int threads) const {
        Request made;
        made.users = users;
        made.n = n;
        made.options = {17, replacement, threads};
        return made;
    }
};

// Masses in proportion to 1 / (i + 1), every third item without any.
std::vector<std::uint64_t> harmonic(std::size_t items) {
    std::vector<std::uint64_t> masses(items);
    double sum = 0;
    for (std::size_t i = 0; i < items; ++i) sum += i % 3 == 2 ? 0.0 : 1.0 / static_cast<double>(i + 1);
    const double scale = static_cast<double>(items) * static_cast<double>(kFull) / sum;
    for (std::size_t i = 0; i < items; ++i) {
        if (i % 3 != 2) masses[i] = static_cast<std::uint64_t>(scale / static_cast<double>(i + 1));
    }
    masses[0] += (std::uint64_t{items} << 32) - std::accumulate(masses.begin(), masses.end(), std::uint64_t{0});
    return masses;
}

void products_are_wide() {
    EXPECT(multiply(~0ull, ~0ull).high == ~0ull - 1 && multiply(~0ull, ~0ull).low == 1);
    EXPECT(multiply(0x123456789abcdef0ull, 0xfedcba9876543210ull).high == 0x121fa00ad77d7422ull);
}

template <class Id>
void searches_find_what_is_there() {
    std::vector<std::uint32_t> values(kTile);
    for (const std::int32_t size : {0, 1, 2, 3, 8, 33, 200}) {
        std::vector<Id> sorted;
        for (std::int32_t k = 0; k < size; ++k) sorted.push_back(static_cast<Id>(3 * k + k % 2));
        for (std::uint32_t j = 0; j < kTile; ++j) values[j] = (j * 37) % static_cast<std::uint32_t>(3 * size + 4);
        values[5] = 0x7FFFFFFFu;
        for (std::size_t count = 0; count <= kTile; ++count) {
            std::uint64_t found = 0;
            for (std::size_t j = 0; j < count; ++j) {
                found |= std::uint64_t{std::binary_search(sorted.begin(), sorted.end(), static_cast<Id>(values[j]))}
                         << j;
            }
            EXPECT(search_tile(values.data(), count, std::span<const Id>(sorted)) == found);
            EXPECT(search_tile_portable(values.data(), count, std::span<const Id>(sorted)) == found);
        }
    }
}

void the_alias_table_holds_the_masses() {
    for (const std::size_t items : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{1000}}) {
        const auto masses = items == 2 ? std::vector<std::uint64_t>{0, 2 * kFull} : harmonic(items);
        EXPECT(masses_sum_up(masses));
        const MassTable table(masses);
        // What an item gets is what its own bucket keeps and what other buckets pass on to it.
        std::vector<std::uint64_t> held(items);
        for (std::uint32_t k = 0; k < items; ++k) {
            std::uint64_t kept = 0;  // the first coin that leaves, by bisection
            for (std::uint64_t step = kFull / 2; step > 0; step /= 2) {
                if (kept + step < kFull && table.pick(k, static_cast<std::uint32_t>(kept + step - 1)) == k)
                    kept += step;
            }
            const std::uint32_t other = table.pick(k, 0xFFFFFFFFu);
            held[k] += other == k ? kFull : kept;
            if (other != k) held[other] += kFull - kept;
        }
        EXPECT(held == masses);
        for (std::uint32_t k = 0; k < items; ++k) EXPECT(table.mass(k) == masses[k]);
        EXPECT(table.at(0) == (masses[0] > 0 ? 0u : 1u));
        EXPECT(table.mass(table.at(table.total() - 1)) > 0);
    }
    EXPECT(!masses_sum_up(std::vector<std::uint64_t>{kFull, kFull + 1}));
    EXPECT(!masses_sum_up(std::vector<std::uint64_t>{~0ull, ~0ull}));
}

template <class Draw>
void rows_keep_the_rules(const Fixture& fixture, const std::vector<std::uint64_t>& masses, bool replacement,
                         Draw draw) {
    constexpr std::int64_t n = 70;
    std::vector<std::int64_t> first;
    std::vector<float> log_prob(fixture.users.size() * n);
    for (const int threads : {1, 2, 7}) {
        std::vector<std::int64_t> out(fixture.users.size() * n, -7);
        Request request = fixture.request(n, replacement, threads);
        request.log_prob = log_prob.data();
        EXPECT(draw(request, out.data()).short_row == 0);  // users[0] has everything
        if (first.empty()) first = out;
        EXPECT(out == first);
    }
    for (std::size_t r = 0; r < fixture.users.size(); ++r) {
        const auto seen = fixture.csr().row(fixture.users[r]);
        std::set<std::int64_t> drawn;
        bool ended = false;
        for (std::size_t j = r * n; j < (r + 1) * n; ++j) {
            ended = ended || first[j] < 0;
            EXPECT(ended ? first[j] == -1 && std::isinf(log_prob[j])
                         : first[j] < fixture.num_items && log_prob[j] <= 1e-6f);
            if (ended) continue;
            EXPECT(!std::binary_search(seen.begin(), seen.end(), first[j]));
            EXPECT(masses.empty() || masses[static_cast<std::size_t>(first[j])] > 0);
            EXPECT(drawn.insert(first[j]).second || replacement);
        }
    }
}

void most_of_the_mass_is_one_bit() {
    EXPECT(items_below_half(std::vector<std::uint64_t>(10, kFull)) == 5);
    EXPECT(items_below_half(std::vector<std::uint64_t>{0, 3 * kFull, 0}) == 0);
    for (const std::int64_t rows : {2, 40, 200}) {
        const Fixture fixture(rows, 300);
        const auto masses = harmonic(300);
        const MassTable table(masses);
        const SeenMass seen(fixture.csr(), masses, 3);
        EXPECT(seen.bytes() == 8 * static_cast<std::uint64_t>((rows + 63) / 64));
        const auto exact = seen.exact(fixture.csr(), table, 3);
        EXPECT(seen.bytes() == 8 * static_cast<std::uint64_t>((rows + 63) / 64 + rows));
        for (std::int64_t user = 0; user < rows; ++user) {
            std::uint64_t sum = 0;
            for (const std::int32_t item : fixture.csr().row(user)) sum += masses[static_cast<std::size_t>(item)];
            EXPECT(exact[static_cast<std::size_t>(user)] == sum);
            EXPECT(seen.most(static_cast<std::uint64_t>(user)) == (sum > table.total() - sum));
        }
    }
    // Nobody has most of it: nothing is kept.
    const Fixture two(2, 4);
    const std::vector<std::int64_t> indptr{0, 2, 4};
    EXPECT(SeenMass(Csr<std::int32_t>{indptr, two.indices, 4}, std::vector<std::uint64_t>(4, kFull), 1).bytes() == 0);
}

void weighted_samplers_keep_the_rules() {
    const Fixture fixture(40, 120);
    const auto masses = harmonic(120);
    const MassTable table(masses);
    const SeenMass seen(fixture.csr(), masses, 2);
    for (const bool replacement : {true, false}) {
        rows_keep_the_rules(fixture, masses, replacement, [&](const Request& request, std::int64_t* out) {
            return sample_popularity(fixture.csr(), table, seen, request, out);
        });
    }
    for (const std::uint64_t share : {std::uint64_t{0}, kFull / 3, kFull}) {
        rows_keep_the_rules(fixture, share > 0 ? std::vector<std::uint64_t>{} : masses, true,
                            [&](const Request& request, std::int64_t* out) {
                                return sample_mixed(fixture.csr(), table, seen, share, request, out);
                            });
    }
}

// What is made on first use is asked for by all callers at once.
void callers_at_once_get_what_a_lone_one_gets() {
    const Fixture fixture(40, 120);
    const auto masses = harmonic(120);
    constexpr std::int64_t n = 50;
    const auto draw = [&](const MassTable& table, const SeenMass& seen, std::vector<float>& log_prob) {
        std::vector<std::int32_t> out(fixture.users.size() * n);
        Request request = fixture.request(n, true, 2);
        request.log_prob = log_prob.data();
        sample_popularity(fixture.csr(), table, seen, request, out.data());
        return out;
    };
    std::vector<float> alone(fixture.users.size() * n);
    const auto expected = draw(MassTable(masses), SeenMass(fixture.csr(), masses, 1), alone);
    const MassTable table(masses);
    const SeenMass seen(fixture.csr(), masses, 2);
    std::vector<std::vector<std::int32_t>> drawn(4);
    std::vector<std::vector<float>> log_prob(4, std::vector<float>(alone.size()));
    {
        std::vector<std::jthread> callers;
        for (std::size_t c = 0; c < drawn.size(); ++c) {
            callers.emplace_back([&, c] { drawn[c] = draw(table, seen, log_prob[c]); });
        }
    }
    for (std::size_t c = 0; c < drawn.size(); ++c) EXPECT(drawn[c] == expected && log_prob[c] == alone);
}

void strata_keep_the_rules() {
    const Fixture fixture(40, 120);
    std::vector<std::uint8_t> stratum_of(120);
    for (std::size_t i = 0; i < 120; ++i) stratum_of[i] = static_cast<std::uint8_t>(i % 7 == 0 ? 0 : i < 60 ? 1 : 2);
    const std::vector<std::uint64_t> shares{kFull / 2, kFull / 4, kFull / 4, 0};
    const Strata strata(stratum_of, shares);
    EXPECT(strata.items(0).size() == 18 && strata.items(3).empty());
    rows_keep_the_rules(fixture, {}, true, [&](const Request& request, std::int64_t* out) {
        return sample_stratified(fixture.csr(), strata, request, out);
    });
}

void hard_takes_the_best() {
    const Fixture fixture(5, 50);
    std::vector<float> users(5 * 2, 1.0f), items(50 * 2);
    for (std::size_t i = 0; i < 50; ++i) items[2 * i] = static_cast<float>(i / 2);  // pairs of equal score
    const Vectors vectors{users.data(), items.data(), 2};
    std::vector<std::int64_t> out(5 * 3), again(5 * 3);
    EXPECT(sample_hard(fixture.csr(), vectors, 5000, fixture.request(3, true, 1), out.data()).short_row == 0);
    EXPECT(sample_hard(fixture.csr(), vectors, 5000, fixture.request(3, true, 3), again.data()).short_row == 0);
    EXPECT(out == again);
    for (std::size_t j = 3; j < 15; ++j) EXPECT(out[j] == 48);  // of 48 and 49, the lower
    items[2 * 48] = items[2 * 49] = std::nanf("");
    sample_hard(fixture.csr(), vectors, 5000, fixture.request(3, true, 1), out.data());
    for (std::size_t j = 3; j < 15; ++j) EXPECT(out[j] == 46);
    sample_hard(fixture.csr(), vectors, 1, fixture.request(3, true, 1), out.data());
    EXPECT(std::set<std::int64_t>(out.begin() + 3, out.end()).size() > 3);
}

}  // namespace

int main() {
    products_are_wide();
    searches_find_what_is_there<std::int32_t>();
    searches_find_what_is_there<std::int64_t>();
    the_alias_table_holds_the_masses();
    most_of_the_mass_is_one_bit();
    weighted_samplers_keep_the_rules();
    callers_at_once_get_what_a_lone_one_gets();
    strata_keep_the_rules();
    hard_takes_the_best();
    if (failures == 0) std::printf("sampler tests passed\n");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
