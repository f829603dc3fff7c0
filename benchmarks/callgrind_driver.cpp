// Draws with one sampler of the core, so that callgrind can count instructions: callgrind_driver NAME REPEATS.
//
// Prints how many draws a repeat makes. Two runs with different REPEATS differ by the draws alone.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "samplers/epoch.hpp"
#include "samplers/hard.hpp"
#include "samplers/in_batch.hpp"
#include "samplers/mixed.hpp"
#include "samplers/popularity.hpp"
#include "samplers/stratified.hpp"
#include "samplers/uniform.hpp"

namespace {

using namespace fastkd;

constexpr std::int64_t kUsers = 256;
constexpr std::int64_t kItems = 100'000;
constexpr std::int64_t kDegree = 100;
constexpr std::int64_t kDraws = 64;

struct Data {
    std::vector<std::int64_t> indptr{0};
    std::vector<std::int32_t> indices;
    std::vector<std::int64_t> users, positives;
    std::vector<std::int32_t> out = std::vector<std::int32_t>(kUsers * kDraws);
    MassTable table;
    SeenMass seen;

    // Without a history every user has all items left.
    explicit Data(bool history) : table(masses()), seen(filled(history), masses(), 1) {}

    Csr<std::int32_t> filled(bool history) {
        for (std::int64_t u = 0; u < kUsers; ++u) {
            for (std::int64_t k = 0; history && k < kDegree; ++k) {
                indices.push_back(
                    static_cast<std::int32_t>(k * (kItems / kDegree) + (u * 7919 + k * 104729) % (kItems / kDegree)));
            }
            indptr.push_back(static_cast<std::int64_t>(indices.size()));
            users.push_back(u);
            positives.push_back(history ? indices[static_cast<std::size_t>(u * kDegree + u % kDegree)] : u);
        }
        return csr();
    }

    // Zipf-like, and a sum of kItems * 2^32 as the table wants.
    static std::vector<std::uint64_t> masses() {
        std::vector<std::uint64_t> found;
        const auto whole = static_cast<std::uint64_t>(kItems) << 32;
        std::uint64_t left = whole;
        for (std::int64_t i = 1; i <= kItems; ++i) {
            const auto mass = whole / (13 * static_cast<std::uint64_t>(i));
            found.push_back(mass);
            left -= mass;
        }
        found[0] += left;
        return found;
    }

    [[nodiscard]] Csr<std::int32_t> csr() const { return {indptr, indices, kItems}; }
};

DrawReport draw(const std::string& name, Data& data, const Strata& strata, const std::vector<float>& vectors,
                std::uint64_t key) {
    Request request;
    request.users = data.users;
    request.n = kDraws;
    request.options = {key, name != "without_replacement", 1};
    auto* out = data.out.data();
    if (name == "popularity" || name == "popularity_all") {
        return sample_popularity(data.csr(), data.table, data.seen, request, out);
    }
    if (name == "mixed") return sample_mixed(data.csr(), data.table, data.seen, std::uint64_t{1} << 31, request, out);
    if (name == "stratified") return sample_stratified(data.csr(), strata, request, out);
    if (name == "hard") {
        return sample_hard(data.csr(), Vectors{vectors.data(), vectors.data(), 16}, 8, request, out);
    }
    return sample_uniform(data.csr(), request, out);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) return EXIT_FAILURE;
    const std::string name = arguments[1];
    const int repeats = std::atoi(arguments[2]);
    Data data(name != "uniform_all" && name != "popularity_all");
    std::vector<std::uint8_t> stratum_of(kItems);
    for (std::size_t i = 0; i < stratum_of.size(); ++i) stratum_of[i] = static_cast<std::uint8_t>(i % 4);
    const Strata strata(stratum_of, std::vector<std::uint64_t>(4, std::uint64_t{1} << 30));
    const std::vector<float> vectors(kItems * 16, 0.5F);
    std::int64_t done = 0;
    std::vector<std::int64_t> order(kUsers * kDraws);
    for (int r = 0; r < repeats; ++r) {
        const auto key = static_cast<std::uint64_t>(r) * 0x9E3779B97F4A7C15u + 1;
        if (name == "shuffled") {
            shuffled_order(key, std::span(order));
            done = kUsers * kDraws;
        } else if (name == "in_batch") {
            done =
                static_cast<std::int64_t>(left_out_columns(data.csr(), data.users, data.positives, 1).columns.size());
            done = done > 0 ? kUsers : 0;  // per row
        } else {
            if (draw(name, data, strata, vectors, key).short_row >= 0) return EXIT_FAILURE;
            done = kUsers * kDraws;
        }
    }
    std::printf("%lld\n", static_cast<long long>(done));
    return EXIT_SUCCESS;
}
