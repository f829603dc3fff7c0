// Tests of epochs and of negatives from the batch; a program of its own beside core_tests.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <vector>

#include "samplers/epoch.hpp"
#include "samplers/in_batch.hpp"

namespace {

using namespace fastkd;

int failures = 0;

void expect(bool condition, const char* what, int line) {
    if (!condition) {
        std::printf("epoch_tests.cpp:%d: %s\n", line, what);
        ++failures;
    }
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

// User u has u % 5 items, and every seventh user none; item ids are multiples of 3.
template <class Id>
struct Table {
    std::vector<std::int64_t> indptr{0};
    std::vector<Id> indices;
    std::vector<std::int64_t> users;

    explicit Table(std::int64_t rows) {
        for (std::int64_t u = 0; u < rows; ++u) {
            for (std::int64_t k = 0; u % 7 != 0 && k < u % 5; ++k) {
                indices.push_back(static_cast<Id>(3 * k + u % 2));
                users.push_back(u);
            }
            indptr.push_back(static_cast<std::int64_t>(indices.size()));
        }
    }
    [[nodiscard]] Csr<Id> csr() const { return {indptr, indices, 20}; }
};

void the_order_is_numpys() {
    // numpy.random.Generator(numpy.random.Philox(key=7)).permutation(10)
    std::vector<std::int32_t> order(10);
    shuffled_order(7, std::span(order));
    EXPECT((order == std::vector<std::int32_t>{6, 3, 9, 1, 2, 0, 5, 7, 8, 4}));
    for (const std::size_t size : {0u, 1u, 2u, 63u, 64u, 65u, 1000u}) {
        std::vector<std::int64_t> wide(size);
        shuffled_order(size, std::span(wide));
        std::set<std::int64_t> seen(wide.begin(), wide.end());
        EXPECT(seen.size() == size && (size == 0 || *seen.rbegin() == static_cast<std::int64_t>(size) - 1));
    }
}

template <class Id, class Out>
void entries_are_looked_up() {
    for (const std::int64_t rows : {0, 1, 2, 8, 500, 5000}) {
        const Table<Id> table(rows);
        const auto csr = table.csr();
        const EntryUsers owner(csr.indptr);
        const std::size_t nnz = table.indices.size();
        for (std::size_t e = 0; e < nnz; ++e) EXPECT(owner.of(static_cast<std::int64_t>(e)) == table.users[e]);
        for (const std::int64_t n : {0, 1, 3}) {
            std::vector<Id> drawn(nnz * static_cast<std::size_t>(n));
            for (std::size_t k = 0; k < drawn.size(); ++k) drawn[k] = static_cast<Id>(k);
            std::vector<Out> order(nnz);
            shuffled_order(3, std::span(order));
            for (const int threads : {1, 2, 7}) {
                std::vector<Out> users(nnz, -7), items(nnz, -7), negatives(drawn.size(), -7);
                const EpochColumns<Out> out{users.data(), items.data(), negatives.data()};
                EXPECT(gather_entries(csr, owner, std::span<const Out>(order), drawn.data(), n, out, threads) == -1);
                for (std::size_t i = 0; i < nnz; ++i) {
                    const auto e = static_cast<std::size_t>(order[i]);
                    EXPECT(users[i] == table.users[e] && items[i] == static_cast<Out>(table.indices[e]));
                    for (std::size_t j = 0; j < static_cast<std::size_t>(n); ++j) {
                        const auto at = static_cast<std::size_t>(n);
                        EXPECT(negatives[i * at + j] == static_cast<Out>(drawn[e * at + j]));
                    }
                }
            }
        }
    }
}

void entries_out_of_range_are_told() {
    const Table<std::int32_t> table(6);
    const auto nnz = static_cast<std::int64_t>(table.indices.size());
    const std::vector<std::int64_t> entries{0, 1, nnz, -1};
    std::vector<std::int64_t> users(4, -7), items(4, -7);
    const EntryUsers owner(table.indptr);
    const EpochColumns<std::int64_t> out{users.data(), items.data(), nullptr};
    EXPECT(gather_entries(table.csr(), owner, std::span<const std::int64_t>(entries),
                          static_cast<const std::int32_t*>(nullptr), 0, out, 2) == 2);
    EXPECT(users[2] == -7 && users[3] == -7);
}

template <class Id>
void columns_left_out_are_the_right_ones() {
    const Table<Id> table(70);
    const auto csr = table.csr();
    for (const std::size_t size : {0u, 1u, 5u, 300u}) {
        std::vector<std::int64_t> users, items;
        for (std::size_t b = 0; b < size; ++b) {
            users.push_back(static_cast<std::int64_t>(b * 31 % 70));
            items.push_back(static_cast<std::int64_t>(b * 17 % 20));  // in the user's history or not
        }
        for (const int threads : {1, 2, 7}) {
            const LeftOut found = left_out_columns(csr, users, items, threads);
            EXPECT(check(found.csr()).fault == CsrFault::kNone);
            EXPECT(found.csr().num_rows() == static_cast<std::int64_t>(size));
            for (std::size_t b = 0; b < size; ++b) {
                const auto history = csr.row(users[b]);
                const auto row = found.csr().row(static_cast<std::int64_t>(b));
                for (std::size_t c = 0; c < size; ++c) {
                    const bool barred = items[c] == items[b] || std::find(history.begin(), history.end(),
                                                                          static_cast<Id>(items[c])) != history.end();
                    EXPECT(std::binary_search(row.begin(), row.end(), static_cast<std::int32_t>(c)) == barred);
                }
            }
        }
    }
}

}  // namespace

int main() {
    the_order_is_numpys();
    entries_are_looked_up<std::int32_t, std::int32_t>();
    entries_are_looked_up<std::int32_t, std::int64_t>();
    entries_are_looked_up<std::int64_t, std::int64_t>();
    entries_out_of_range_are_told();
    columns_left_out_are_the_right_ones<std::int32_t>();
    columns_left_out_are_the_right_ones<std::int64_t>();
    if (failures == 0) std::printf("epoch tests passed\n");
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
