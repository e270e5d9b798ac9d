// Memory that starts at a cache line, and is freed with its owner.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace embedrt {

// Hands out parts of large blocks, for which the system is asked for huge pages. A short text reads
// all weights for little work: with pages of 4 kB, much of its time is spent on their addresses.
class Arena {
public:
    // Return `count` zeros; nullptr for none.
    template <class T>
    T *add(std::size_t count) {
        T *zeros = add_unset<T>(count);
        if (zeros != nullptr) std::memset(static_cast<void *>(zeros), 0, count * sizeof(T));
        return zeros;
    }

    // Return room for `count` values, which have to be set; nullptr for none.
    template <class T>
    T *add_unset(std::size_t count) {
        constexpr std::size_t kMost = std::size_t{1} << 40;
        if (count == 0) return nullptr;
        if (count > kMost / sizeof(T)) throw std::bad_alloc();
        const std::size_t bytes = rounded_up(count * sizeof(T), kLine);
        if (bytes > left_) add_block(bytes);
        left_ -= bytes;
        return reinterpret_cast<T *>(std::exchange(next_, next_ + bytes));
    }

private:
    struct Free {
        void operator()(char *block) const { std::free(block); }
    };

    static constexpr std::size_t kLine = 64, kHugePage = std::size_t{2} << 20;
#if defined(__SANITIZE_ADDRESS__)
    static constexpr std::size_t kFewest = 0, kAlignment = kLine;  // it guards the ends of blocks
#else
    static constexpr std::size_t kFewest = 16 * kHugePage, kAlignment = kHugePage;
#endif

    static std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
        return (bytes + unit - 1) / unit * unit;
    }

    // Pages that are never written take no memory.
    void add_block(std::size_t bytes) {
        const std::size_t size = rounded_up(std::max(bytes, kFewest), kAlignment);
        blocks_.emplace_back(static_cast<char *>(std::aligned_alloc(kAlignment, size)));
        if (!blocks_.back()) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
        if (kAlignment == kHugePage) madvise(blocks_.back().get(), size, MADV_HUGEPAGE);
#endif
        next_ = blocks_.back().get();
        left_ = size;
    }

    std::vector<std::unique_ptr<char, Free>> blocks_;
    char *next_ = nullptr;  // in the last block
    std::size_t left_ = 0;  // bytes from there
};

}  // namespace embedrt
