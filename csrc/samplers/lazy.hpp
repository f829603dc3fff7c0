// A value made on first use by whichever thread is first; other threads may make it too, and theirs is dropped.
//
// Without a lock, which a fork could leave held.
#pragma once

#include <atomic>
#include <memory>

namespace fastkd {

template <class Value>
class Lazy {
public:
    Lazy() = default;
    Lazy(Lazy&& other) noexcept : held_(other.held_.exchange(nullptr)) {}
    Lazy& operator=(Lazy&&) = delete;
    ~Lazy() { delete held_.load(); }

    template <class Make>
    [[nodiscard]] const Value& get(Make make) const {
        if (const Value* held = held_.load(std::memory_order_acquire)) return *held;
        auto made = std::make_unique<const Value>(make());
        const Value* first = nullptr;
        if (!held_.compare_exchange_strong(first, made.get(), std::memory_order_acq_rel)) return *first;
        return *made.release();
    }

    [[nodiscard]] bool made() const noexcept { return held_.load(std::memory_order_acquire) != nullptr; }

private:
    mutable std::atomic<const Value*> held_{nullptr};
};

}  // namespace fastkd
