// Bounded integers without bias: Lemire, "Fast random integer generation in an interval" (2019).
//
// The value of a word below `limit` is the high half of word * limit. Words whose low half is below 2^word_size mod
// limit would make some values likelier than others: they are turned away and the next attempt is read.
#pragma once

#include <cstdint>

namespace fastkd {

class Bound {
public:
    Bound() = default;
    explicit Bound(std::uint32_t limit) noexcept : limit_(limit), turned_away_(limit > 0 ? (0u - limit) % limit : 0) {}

    [[nodiscard]] std::uint32_t limit() const noexcept { return limit_; }
    [[nodiscard]] std::uint32_t turned_away() const noexcept { return turned_away_; }
    [[nodiscard]] bool even(std::uint32_t word) const noexcept {
        return static_cast<std::uint32_t>(std::uint64_t{word} * limit_) >= turned_away_;
    }
    [[nodiscard]] std::uint32_t scale(std::uint32_t word) const noexcept {
        return static_cast<std::uint32_t>((std::uint64_t{word} * limit_) >> 32);
    }

private:
    std::uint32_t limit_ = 0;
    std::uint32_t turned_away_ = 0;
};

struct Wide {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
};

// The 128 bits of a product, in portable code.
[[nodiscard]] constexpr Wide multiply(std::uint64_t a, std::uint64_t b) noexcept {
    constexpr std::uint64_t mask = 0xFFFFFFFFu;
    const std::uint64_t low = (a & mask) * (b & mask);
    const std::uint64_t cross = (a >> 32) * (b & mask) + (low >> 32);
    const std::uint64_t other = (a & mask) * (b >> 32) + (cross & mask);
    return {(a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32), a * b};
}

class WideBound {
public:
    explicit WideBound(std::uint64_t limit) noexcept
        : limit_(limit), turned_away_(limit > 0 ? (0u - limit) % limit : 0) {}

    [[nodiscard]] bool even(std::uint64_t word) const noexcept { return word * limit_ >= turned_away_; }
    [[nodiscard]] std::uint64_t scale(std::uint64_t word) const noexcept { return multiply(word, limit_).high; }

private:
    std::uint64_t limit_;
    std::uint64_t turned_away_;
};

}  // namespace fastkd
