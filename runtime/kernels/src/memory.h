// Memory that starts at a cache line, and is freed with its owner.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace embedrt {

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
        constexpr std::size_t kLine = 64, kMost = std::size_t{1} << 40;
        if (count == 0) return nullptr;
        if (count > kMost / sizeof(T)) throw std::bad_alloc();
        const std::size_t bytes = (count * sizeof(T) + kLine - 1) / kLine * kLine;
        blocks_.emplace_back(std::aligned_alloc(kLine, bytes));
        if (!blocks_.back()) throw std::bad_alloc();
        return static_cast<T *>(blocks_.back().get());
    }

private:
    struct Free {
        void operator()(void *block) const { std::free(block); }
    };

    std::vector<std::unique_ptr<void, Free>> blocks_;
};

}  // namespace embedrt
