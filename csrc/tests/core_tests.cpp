// Tests of the core without an interpreter; run them under sanitizers with -DFASTKD_SANITIZE=address,undefined.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "samplers/excluded.hpp"
#include "samplers/item_set.hpp"
#include "samplers/parallel_for.hpp"
#include "samplers/philox.hpp"
#include "samplers/tile.hpp"
#include "samplers/uniform.hpp"

namespace {

using namespace fastkd;

int failures = 0;

void expect(bool condition, const char* what, int line) {
    if (!condition) {
        std::printf("core_tests.cpp:%d: %s\n", line, what);
        ++failures;
    }
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

// Owns what a Csr views. Row u of `users` holds `degree(u)` items spread over the catalogue.
template <class Id>
struct Table {
    std::vector<std::int64_t> indptr{0};
    std::vector<Id> indices;
    std::int64_t num_items;

    Table(std::int64_t users, std::int64_t items) : num_items(items) {
        for (std::int64_t u = 0; u < users; ++u) {
            const std::int64_t degree = u * items / (users > 1 ? users - 1 : 1);  // from nothing to everything
            for (std::int64_t k = 0; k < degree; ++k) indices.push_back(static_cast<Id>(k * items / degree));
            indptr.push_back(static_cast<std::int64_t>(indices.size()));
        }
    }
    [[nodiscard]] Csr<Id> csr() const { return {indptr, indices, num_items}; }
};

Request request(std::span<const std::int64_t> users, std::int64_t n, const Exclusions& exclusions,
                const DrawOptions& options) {
    Request made;
    made.users = users;
    made.n = n;
    made.exclusions = exclusions;
    made.options = options;
    return made;
}

void philox_known_answers() {
    // From the authors' known-answer file (Random123, kat_vectors, philox4x32-10).
    EXPECT((philox4x32({0, 0, 0, 0}, 0) == Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
    EXPECT((philox4x32({~0u, ~0u, ~0u, ~0u}, ~0ull) == Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
    EXPECT((philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0x299f31d0a4093822ull) ==
            Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

void philox_fill_is_portable() {
    for (const std::size_t blocks : {0u, 1u, 3u, 4u, 5u, 16u}) {
        std::vector<std::uint32_t> fast(4 * (blocks + kPhiloxBatch), 7), plain(4 * blocks);
        const std::uint64_t user = (std::uint64_t{1} << 39) + 5;
        philox_fill(0x123456789abcdef0ull, user, (1u << 30) - 2, blocks, fast.data());
        philox_fill_portable(0x123456789abcdef0ull, user, (1u << 30) - 2, blocks, plain.data());
        EXPECT(std::equal(plain.begin(), plain.end(), fast.begin()));
    }
}

void parallel_for_covers_and_rethrows() {
    for (const int threads : {1, 3, 8}) {
        std::vector<int> visits(1001, 0);
        parallel_for(1001, threads, 7, [&] {
            return [&](std::int64_t begin, std::int64_t end) {
                for (auto r = begin; r < end; ++r) ++visits[static_cast<std::size_t>(r)];
            };
        });
        EXPECT(std::all_of(visits.begin(), visits.end(), [](int v) { return v == 1; }));
        bool caught = false;
        try {
            parallel_for(100, threads, 1, [] {
                return [](std::int64_t begin, std::int64_t) {
                    if (begin == 50) throw std::runtime_error("row 50");
                };
            });
        } catch (const std::runtime_error& error) {
            caught = std::string_view(error.what()) == "row 50";
        }
        EXPECT(caught);
    }
}

void item_set_lists_what_is_absent() {
    for (const std::uint32_t items : {0u, 1u, 63u, 64u, 65u, 200u}) {
        ItemSet set(items);
        set.allocate();
        std::vector<std::uint32_t> absent, expected;
        for (std::uint32_t i = 0; i < items; ++i) {
            if (i % 3 == 0) {
                EXPECT(set.insert(i) == 1);
                EXPECT(set.insert(i) == 0);
            } else {
                expected.push_back(i);
            }
            EXPECT(set.contains(i) == (i % 3 == 0));
        }
        set.list_absent(absent);
        EXPECT(absent == expected);
    }
}

void rank_shift_skips_the_history() {
    const std::vector<std::int32_t> history{0, 1, 4, 7};
    const std::vector<std::uint32_t> left{2, 3, 5, 6, 8};
    for (std::uint32_t rank = 0; rank < left.size(); ++rank) {
        EXPECT(rank + rank_shift(std::span<const std::int32_t>(history), rank) == left[rank]);
    }
}

void tiles_are_portable() {
    std::vector<std::uint32_t> words(kTile), fast(kTile), plain(kTile), bits(512 / 32);
    for (std::uint32_t item = 0; item < 40; ++item)
        bits[(item * 0x9E3779B1u) >> 28] |= 1u << (((item * 0x9E3779B1u) >> 23) & 31);
    for (std::uint32_t j = 0; j < kTile; ++j) words[j] = philox4x32({j, 0, 0, 0}, 3)[0];
    words[3] = 0;  // turned away wherever a word is
    for (const FilterView& filter :
         {FilterView{}, FilterView{bits.data(), 0x9E3779B1u, 23}, FilterView{bits.data(), 1, 0}}) {
        for (const std::uint32_t limit : {1u, 7u, 500u, 512u}) {
            for (const std::size_t count : {0u, 1u, 8u, 13u, 63u, 64u}) {
                const Bound bound(limit);
                const auto flags = draw_tile(words.data(), count, bound, filter, fast.data());
                EXPECT(flags == draw_tile_portable(words.data(), count, bound, filter, plain.data()));
                EXPECT(std::equal(plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(count), fast.begin()));
                EXPECT(filter_tile(fast.data(), count, filter) == filter_tile_portable(fast.data(), count, filter));
            }
        }
    }
}

void excluded_holds_what_it_was_given() {
    std::vector<std::int32_t> history;
    for (std::int32_t k = 0; k < 300; ++k) history.push_back(k * k);
    const std::vector<std::int64_t> lists{4, -1, 5, 99'999, 5, 100'000, -2};
    for (const std::uint32_t items : {100'000u, 90'000u}) {
        Excluded<std::int32_t> excluded(items);
        for (const std::uint64_t slots : {1u, 1000u}) {
            excluded.assign(history, {}, 0, slots);
            EXPECT(excluded.filtered() == (slots > 1));
            for (std::uint32_t i = 0; i < items; ++i) {
                EXPECT(excluded.holds(i) ==
                       std::binary_search(history.begin(), history.end(), static_cast<std::int32_t>(i)));
            }
            excluded.assign(history, {lists.data(), true, 7}, 0, slots);
            EXPECT(excluded.invalid());
            EXPECT(excluded.holds(5) && excluded.holds(4) && !excluded.holds(6));
            EXPECT(excluded.count() == 300 + (items == 100'000u ? 2u : 1u));
            EXPECT(std::is_sorted(excluded.sorted().begin(), excluded.sorted().end()));
            EXPECT(excluded.sorted().size() == excluded.count() && excluded.at_rank(0) == 2);
        }
    }
}

void csr_faults_are_found() {
    const std::vector<std::int32_t> ids{0, 2, 2};
    const auto fault = [](std::vector<std::int64_t> indptr, std::vector<std::int32_t> indices, std::int64_t items) {
        return check(Csr<std::int32_t>{indptr, indices, items}).fault;
    };
    EXPECT(fault({0, 2}, {0, 2}, 3) == CsrFault::kNone);
    EXPECT(fault({}, {}, 3) == CsrFault::kNoRows);
    EXPECT(fault({1, 2}, {0, 2}, 3) == CsrFault::kFirstPointer);
    EXPECT(fault({0, 2, 1}, {0, 2}, 3) == CsrFault::kDecreasing);
    EXPECT(fault({0, 1}, {0, 2}, 3) == CsrFault::kLastPointer);
    EXPECT(fault({0, 2}, {0, 3}, 3) == CsrFault::kOutOfRange);
    EXPECT(fault({0, 2}, {-1, 2}, 3) == CsrFault::kOutOfRange);
    EXPECT(fault({0, 2}, {2, 2}, 3) == CsrFault::kNotIncreasing);
}

template <class Id>
void rows_keep_the_rules() {
    const Table<Id> table(33, 97);
    const auto csr = table.csr();
    EXPECT(check(csr).fault == CsrFault::kNone);
    std::vector<std::int64_t> users;
    for (std::int64_t u = 32; u >= 0; --u) users.insert(users.end(), 60, u);
    std::vector<std::int32_t> lists;
    for (std::size_t r = 0; r < users.size(); ++r) lists.insert(lists.end(), {5, -1, 96, 5, 40});
    const Exclusions exclusions{lists.data(), false, 5};
    constexpr std::int64_t n = 70;
    for (const bool replacement : {true, false}) {
        std::vector<std::int64_t> first;
        for (const int threads : {1, 2, 7}) {
            std::vector<std::int64_t> out(users.size() * n, -7);
            const auto report =
                sample_uniform(csr, request(users, n, exclusions, {99, replacement, threads}), out.data());
            EXPECT(report.short_row == 0);
            EXPECT(report.invalid_row == -1);
            if (first.empty()) first = out;
            EXPECT(out == first);
        }
        for (std::size_t r = 0; r < users.size(); ++r) {
            std::set<std::int64_t> barred{5, 40, 96};
            for (const Id item : csr.row(users[r])) barred.insert(item);
            const std::size_t left = 97 - barred.size();
            const std::size_t filled = replacement ? (left > 0 ? n : 0) : std::min<std::size_t>(n, left);
            for (std::size_t j = 0; j < n; ++j) {
                const std::int64_t item = first[r * n + j];
                EXPECT(j < filled ? item >= 0 && item < 97 && !barred.contains(item) : item == -1);
                if (!replacement && item >= 0) barred.insert(item);
            }
        }
    }
}

template <class Id>
void entries_keep_the_rules() {
    const Table<Id> table(50, 300);
    const auto csr = table.csr();
    std::vector<Id> first;
    for (const int threads : {1, 2, 7}) {
        std::vector<Id> out(table.indices.size() * 9, Id{-7});
        Request wanted = request({}, 9, {}, {5, true, threads});
        wanted.entries = csr.indptr;
        EXPECT(sample_uniform(csr, wanted, out.data()).short_row == 49);
        if (first.empty()) first = out;
        EXPECT(out == first);
    }
    for (std::int64_t u = 0; u < 50; ++u) {
        const auto row = csr.row(u);
        for (std::int64_t e = table.indptr[static_cast<std::size_t>(u)] * 9;
             e < table.indptr[static_cast<std::size_t>(u) + 1] * 9; ++e) {
            const Id item = first[static_cast<std::size_t>(e)];
            EXPECT(u == 49 ? item == -1 : item >= 0 && item < 300 && !std::binary_search(row.begin(), row.end(), item));
        }
    }
}

void odd_shapes_are_harmless() {
    const Table<std::int32_t> none(3, 0);
    const std::vector<std::int64_t> users{0, 2};
    std::vector<std::int64_t> out(4, -7);
    EXPECT(sample_uniform(none.csr(), request(users, 2, {}, {1, false, 2}), out.data()).short_row == 0);
    EXPECT(out == std::vector<std::int64_t>(4, -1));
    EXPECT(sample_uniform(none.csr(), request({}, 2, {}, {1, true, 2}), out.data()).short_row == -1);
    EXPECT(sample_uniform(none.csr(), request(users, 0, {}, {1, true, 2}), out.data()).short_row == -1);

    const Table<std::int32_t> one(2, 10);
    const std::vector<std::int64_t> lists{10, -2};
    EXPECT(sample_uniform(one.csr(), request(std::span(users).first(1), 2, {lists.data(), true, 2}, {1, true, 1}),
                          out.data())
               .invalid_row == 0);

    // The largest catalogue: ids past 2^31, and a history too long to be marked for two slots (which would take 512
    // MiB).
    std::vector<std::int64_t> ends;
    for (std::int64_t k = 0; k < 64; ++k) ends.push_back(kMaxItems - 64 + k);
    const std::vector<std::int64_t> indptr{0, 64};
    const Csr<std::int64_t> huge{indptr, ends, kMaxItems};
    EXPECT(check(huge).fault == CsrFault::kNone);
    std::vector<std::int64_t> wide(2, -7);
    bool past = false;
    for (std::uint64_t key = 0; key < 64; ++key) {
        EXPECT(sample_uniform(huge, request(std::span(users).first(1), 2, {}, {key, true, 1}), wide.data()).short_row ==
               -1);
        for (const std::int64_t item : wide) EXPECT(item >= 0 && item < kMaxItems - 64);
        past = past || wide[0] > std::int64_t{1} << 31;
    }
    EXPECT(past);
}

}  // namespace

int main() {
    philox_known_answers();
    philox_fill_is_portable();
    parallel_for_covers_and_rethrows();
    item_set_lists_what_is_absent();
    rank_shift_skips_the_history();
    tiles_are_portable();
    excluded_holds_what_it_was_given();
    csr_faults_are_found();
    rows_keep_the_rules<std::int32_t>();
    rows_keep_the_rules<std::int64_t>();
    entries_keep_the_rules<std::int32_t>();
    entries_keep_the_rules<std::int64_t>();
    odd_shapes_are_harmless();
    if (failures == 0) std::printf("core tests passed\n");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
