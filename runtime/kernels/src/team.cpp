#include "team.h"

#include <atomic>
#include <thread>
#include <vector>

namespace embedrt {

namespace {

// Threads exist only during a run: starting one takes some 20 microseconds, and idle ones would
// wake up late, and not survive a fork.
class Barrier {
public:
    void set(int count) { count_.store(count, std::memory_order_release); }

    // The number of threads; waits until it is known.
    int count() const {
        int found = 0;
        while ((found = count_.load(std::memory_order_acquire)) == 0) std::this_thread::yield();
        return found;
    }

    // The gaps between the steps are too short for sleeping.
    void wait() {
        constexpr int kSpins = 4000;
        const int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count()) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
            if (spins > kSpins) std::this_thread::yield();
        }
    }

private:
    std::atomic<int> count_{0}, arrived_{0}, round_{0};
};

void wait_at(void *barrier) { static_cast<Barrier *>(barrier)->wait(); }

void pass(void *) {}

}  // namespace

void run_parts(int count, const std::function<void(const Part &)> &work) {
    if (count <= 1) return work({0, 1, pass, nullptr});
    Barrier barrier;
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(count));
    const auto part = [&](int index) { work({index, barrier.count(), wait_at, &barrier}); };
    try {
        while (static_cast<int>(threads.size()) + 1 < count) {
            threads.emplace_back(part, static_cast<int>(threads.size()) + 1);
        }
    } catch (...) {
        // The system has no more threads: those that there are do all the work.
    }
    barrier.set(static_cast<int>(threads.size()) + 1);
    part(0);
    for (std::thread &thread : threads) thread.join();
}

}  // namespace embedrt
