// Tiles in memory, after Intel's manual, for tests on processors without AMX. What a processor with
// AMX would refuse is an illegal instruction here, too.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "tiles.h"

namespace embedrt {
namespace {

constexpr int kTiles = 8;

struct Tile {
    int rows, bytes;  // 0 if it is not used
    alignas(64) std::uint8_t at[16][64];
};

thread_local Tile tiles[kTiles];

inline void expect(bool legal) {
    if (!legal) __builtin_trap();
}

inline void release_tiles() { __builtin_memset(tiles, 0, sizeof tiles); }

inline void configure_tiles(const TileSizes &sizes) {
    release_tiles();
    expect(sizes.palette == 1 && sizes.start_row == 0);
    for (const std::uint8_t byte : sizes.reserved) expect(byte == 0);
    for (int i = 0; i < 16; ++i) {
        const int rows = sizes.rows[i], bytes = sizes.bytes[i];
        expect((rows == 0) == (bytes == 0) && rows <= 16 && bytes <= 64);
        expect(i < kTiles || rows == 0);
        if (i < kTiles) tiles[i].rows = rows, tiles[i].bytes = bytes;
    }
}

template <int Number>
inline void load_tile(const void *from, std::int64_t stride) {
    Tile &tile = tiles[Number];
    expect(tile.rows != 0);
    __builtin_memset(tile.at, 0, sizeof tile.at);
    for (int row = 0; row < tile.rows; ++row) {
        __builtin_memcpy(tile.at[row], static_cast<const std::uint8_t *>(from) + row * stride,
                         static_cast<std::size_t>(tile.bytes));
    }
}

template <int Number>
inline void store_tile(void *to, std::int64_t stride) {
    const Tile &tile = tiles[Number];
    expect(tile.rows != 0);
    for (int row = 0; row < tile.rows; ++row) {
        __builtin_memcpy(static_cast<std::uint8_t *>(to) + row * stride, tile.at[row],
                         static_cast<std::size_t>(tile.bytes));
    }
}

template <int Number>
inline void zero_tile() {
    expect(tiles[Number].rows != 0);
    __builtin_memset(tiles[Number].at, 0, sizeof tiles[Number].at);
}

// Call use(sums, four, row) for each row of sums and each four bytes of its inputs, whose products with
// a row of `Right` are to be added.
template <int Sums, int Left, int Right, class Use>
inline void for_each_product(Use use) {
    static_assert(Sums != Left && Sums != Right && Left != Right);
    Tile &sums = tiles[Sums];
    const Tile &left = tiles[Left], &right = tiles[Right];
    expect(sums.rows != 0 && left.rows == sums.rows && right.bytes == sums.bytes);
    expect(left.bytes % 4 == 0 && left.bytes / 4 == right.rows && sums.bytes % 4 == 0);
    for (int row = 0; row < sums.rows; ++row) {
        for (int four = 0; four < right.rows; ++four) {
            std::int32_t inputs = 0;
            __builtin_memcpy(&inputs, left.at[row] + 4 * four, sizeof inputs);
            use(sums.at[row], _mm512_set1_epi32(inputs), _mm512_load_si512(right.at[four]));
        }
    }
}

// The manual defines a row of TDPBUSD as VPDPBUSD of each four inputs.
template <int Sums, int Left, int Right>
inline void multiply_tiles() {
    for_each_product<Sums, Left, Right>([](std::uint8_t *sums, __m512i inputs, __m512i weights) {
        _mm512_store_si512(sums,
                           _mm512_dpbusd_epi32(_mm512_load_si512(sums), inputs, weights));
    });
}

// The order in which the two products are added is that of VDPBF16PS, which may not be TDPBF16PS's.
template <int Sums, int Left, int Right>
inline void multiply_bf16_tiles() {
    for_each_product<Sums, Left, Right>([](std::uint8_t *sums, __m512i inputs, __m512i weights) {
        _mm512_store_ps(sums, _mm512_dpbf16_ps(_mm512_load_ps(sums), (__m512bh)inputs,
                                               (__m512bh)weights));
    });
}

}  // namespace
}  // namespace embedrt
