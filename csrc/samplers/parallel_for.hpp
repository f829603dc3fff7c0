// Run a body over ranges of rows on a few threads.
//
// Threads live for one call, so a forked child needs nothing restored. Ranges are handed out from a shared counter; a
// body must therefore give each row the same result whichever thread takes it. The first exception stops the hand-out
// and is rethrown on the calling thread after every thread has been joined.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace fastkd {

// `make_body` is called once on each thread and returns what is then called as body(begin, end); its state (scratch
// memory) is that thread's own. `chunk` rows are taken at a time.
template <class MakeBody>
void parallel_for(std::int64_t rows, int threads, std::int64_t chunk, MakeBody&& make_body) {
    if (rows <= 0) return;
    chunk = std::max<std::int64_t>(chunk, 1);
    const std::int64_t chunks = (rows - 1) / chunk + 1;
    std::atomic<std::int64_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;

    const auto work = [&]() noexcept {
        try {
            auto body = make_body();
            for (std::int64_t c = next.fetch_add(1); c < chunks; c = next.fetch_add(1)) {
                body(c * chunk, std::min(rows, (c + 1) * chunk));
            }
        } catch (...) {
            next.store(chunks);
            const std::lock_guard lock(failure_mutex);
            if (!failure) failure = std::current_exception();
        }
    };

    {
        std::vector<std::jthread> helpers;  // joined when the scope ends
        const std::int64_t wanted = std::min<std::int64_t>(threads, chunks) - 1;
        try {
            helpers.reserve(static_cast<std::size_t>(std::max<std::int64_t>(wanted, 0)));
            for (std::int64_t t = 0; t < wanted; ++t) helpers.emplace_back(work);
        } catch (const std::system_error&) {
            // The system gives no more threads: those that run, and this one, do all the work.
        }
        work();
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace fastkd
