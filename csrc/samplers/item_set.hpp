// A set of item ids as one bit per catalogue item; scratch memory of one thread, emptied by the caller id by id.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace fastkd {

class ItemSet {
public:
    explicit ItemSet(std::uint32_t num_items) : num_items_(num_items) {}

    // Memory is asked for on first use, zeroed by the system page by page as it is touched.
    void allocate() {
        if (words_) return;
        words_.reset(static_cast<std::uint64_t*>(std::calloc(std::size_t{num_items_} / 64 + 1, sizeof(std::uint64_t))));
        if (!words_) throw std::bad_alloc();
    }

    [[nodiscard]] bool contains(std::uint32_t item) const noexcept {
        return (words_[item >> 6] >> (item & 63)) & 1u;
    }

    // Returns 1 if the item is new, else 0.
    std::uint32_t insert(std::uint32_t item) noexcept {
        const std::uint64_t word = words_[item >> 6];
        words_[item >> 6] = word | (std::uint64_t{1} << (item & 63));
        return static_cast<std::uint32_t>(~(word >> (item & 63)) & 1u);
    }

    // Empties the word that holds the item; call for every item that was inserted.
    void clear_word_of(std::uint32_t item) noexcept { words_[item >> 6] = 0; }

    // The ids that are not in the set, ascending.
    void list_absent(std::vector<std::uint32_t>& absent) const {
        absent.clear();
        for (std::uint64_t base = 0; base < num_items_; base += 64) {
            std::uint64_t open = ~words_[base >> 6];
            if (num_items_ - base < 64) open &= (std::uint64_t{1} << (num_items_ - base)) - 1;
            for (; open != 0; open &= open - 1) {
                absent.push_back(static_cast<std::uint32_t>(base + static_cast<unsigned>(std::countr_zero(open))));
            }
        }
    }

private:
    struct Free {
        void operator()(std::uint64_t* words) const noexcept { std::free(words); }
    };
    std::uint32_t num_items_;
    std::unique_ptr<std::uint64_t[], Free> words_;
};

}  // namespace fastkd
