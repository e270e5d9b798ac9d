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

// Hands out parts of large blocks. With pages of 4 kB, looking up their addresses takes part of a
// run's time, but huge pages have to be found, which may take as long as all else when a model is
// loaded.
class Arena {
public:
    // With `huge`, the system is asked for huge pages at once.
    explicit Arena(bool huge = false) : huge_(huge) {}

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

    // Let the system move what has been handed out to huge pages when it has the time.
    void allow_huge_pages() const {
        for (std::size_t i = 0; i < blocks_.size(); ++i) ask_for_huge_pages(block(i), used(i));
    }

    // The blocks, and how many bytes of each have been handed out.
    std::size_t block_count() const { return blocks_.size(); }
    char *block(std::size_t index) const { return blocks_[index].start.get(); }
    std::size_t used(std::size_t index) const {
        return blocks_[index].size - (index + 1 == blocks_.size() ? left_ : 0);
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

    static void ask_for_huge_pages(char *start, std::size_t size) {
#if defined(MADV_HUGEPAGE)
        if (kAlignment == kHugePage) madvise(start, rounded_up(size, kHugePage), MADV_HUGEPAGE);
#endif
    }

    // Pages that are never written take no memory.
    void add_block(std::size_t bytes) {
        const std::size_t size = rounded_up(std::max(bytes, kFewest), kAlignment);
        std::unique_ptr<char, Free> start(static_cast<char *>(std::aligned_alloc(kAlignment, size)));
        if (!start) throw std::bad_alloc();
        if (huge_) ask_for_huge_pages(start.get(), size);
        next_ = start.get();
        left_ = size;
        blocks_.push_back({std::move(start), size});
    }

    struct Block {
        std::unique_ptr<char, Free> start;
        std::size_t size;
    };

    bool huge_;
    std::vector<Block> blocks_;
    char *next_ = nullptr;  // in the last block
    std::size_t left_ = 0;  // bytes from there
};

}  // namespace embedrt
