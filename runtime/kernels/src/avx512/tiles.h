// The tiles of AMX: each thread has eight registers of up to 16 rows of up to 64 bytes.
//
// They are used in assembly, because GCC 12's intrinsics do not tell the compiler what memory they
// read. A build for tests replaces them by tiles in memory.
#pragma once

#include <cstdint>

namespace embedrt {
namespace {

// The most that a tile has: rows, and bytes of each.
constexpr std::int64_t kTileRows = 16, kTileBytes = 64;

// The sizes of the tiles; those without rows are not used.
struct alignas(64) TileSizes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {};  // of a row
    std::uint8_t rows[16] = {};

    void set(int tile, std::int64_t count, std::int64_t width) {
        rows[tile] = static_cast<std::uint8_t>(count);
        bytes[tile] = static_cast<std::uint16_t>(width);
    }
};
static_assert(sizeof(TileSizes) == 64);

// The sizes of eight tiles that are as large as they can be.
inline TileSizes whole_tiles() {
    TileSizes sizes;
    for (int tile = 0; tile < 8; ++tile) sizes.set(tile, kTileRows, kTileBytes);
    return sizes;
}

}  // namespace
}  // namespace embedrt

#if defined(EMBEDRT_EMULATED_TILES)
#include "emulated_tiles.h"
#else

namespace embedrt {
namespace {

// Set the sizes and zero all tiles. Until they are released, every switch of threads saves them.
inline void configure_tiles(const TileSizes &sizes) {
    __asm__ volatile("ldtilecfg %0" : : "m"(sizes) : "memory");
}

inline void release_tiles() { __asm__ volatile("tilerelease" : : : "memory"); }

// Read rows that are `stride` bytes apart; 0 reads the same for all.
template <int Tile>
inline void load_tile(const void *from, std::int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(Tile) : "memory");
}

template <int Tile>
inline void store_tile(void *to, std::int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(Tile) : "memory");
}

template <int Tile>
inline void zero_tile() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
}

// Multiply uint8 rows of `Left` and int8 columns of `Right`, of which four rows lie in one, and add
// the products to the int32 of `Sums`.
template <int Sums, int Left, int Right>
inline void multiply_tiles() {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Left), "i"(Right));
}

// Multiply bf16 rows of `Left` and bf16 columns of `Right`, of which two rows lie in one, and add the
// products to the fp32 of `Sums`.
template <int Sums, int Left, int Right>
inline void multiply_bf16_tiles() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Left), "i"(Right));
}

}  // namespace
}  // namespace embedrt

#endif

namespace embedrt {
namespace {

// Sizes that the tiles of this thread have as long as it lives.
class Tiles {
public:
    explicit Tiles(const TileSizes &sizes) { configure_tiles(sizes); }
    ~Tiles() { release_tiles(); }
    Tiles(const Tiles &) = delete;
    Tiles &operator=(const Tiles &) = delete;
};

}  // namespace
}  // namespace embedrt
