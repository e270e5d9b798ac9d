// Products with AMX: tiles of 16 rows and 64 inputs, and of 64 inputs and 16 columns.
#pragma once

#include "product.h"
#include "tiles.h"

namespace embedrt {
namespace {

class AmxProduct {
public:
    static constexpr int kRows = 32;  // two tiles, so that each tile of weights is used twice

    AmxProduct(const Linear &linear, std::int64_t rows)
        : linear_(linear),
          depth_(linear.inputs % kTileBytes == 0 ? kTileBytes : kTileBytes / 2),
          tiles_(sizes(rows < kTileRows ? rows : kTileRows, depth_)) {}

    void multiply(const std::uint8_t *rows, std::int64_t count, std::int64_t column,
                  std::int32_t *sums) const {
        if (count > kTileRows) {
            multiply_block<true>(rows, count - kTileRows, column, sums);
        } else {
            multiply_block<false>(rows, 0, column, sums);
        }
    }

private:
    static TileSizes sizes(std::int64_t height, std::int64_t depth) {
        TileSizes found;
        for (int sums = 0; sums < 4; ++sums) found.set(sums, height, kTileBytes);
        for (int inputs = 4; inputs < 6; ++inputs) found.set(inputs, height, depth);
        for (int weights = 6; weights < 8; ++weights) found.set(weights, depth / 4, kTileBytes);
        return found;
    }

    // Multiply the first 16 rows, and if `Both` the 16 rows from `lower` on, of which some may be
    // among the first: their sums are the same.
    template <bool Both>
    void multiply_block(const std::uint8_t *rows, std::int64_t lower, std::int64_t column,
                       std::int32_t *sums) const {
        const std::int64_t inputs = linear_.inputs;
        const std::int32_t *start = linear_.start + column;
        const std::int8_t *left = linear_.weight + column * inputs, *right = left + inputs * kLanes;
        load_tile<0>(start, 0);
        load_tile<1>(start + kLanes, 0);
        if constexpr (Both) {
            load_tile<2>(start, 0);
            load_tile<3>(start + kLanes, 0);
        }
        for (std::int64_t k = 0; k < inputs; k += depth_) {
            load_tile<4>(rows + k, inputs);
            load_tile<6>(left + k * kLanes, kTileBytes);
            multiply_tiles<0, 4, 6>();
            load_tile<7>(right + k * kLanes, kTileBytes);
            multiply_tiles<1, 4, 7>();
            if constexpr (Both) {
                load_tile<5>(rows + lower * inputs + k, inputs);
                multiply_tiles<2, 5, 6>();
                multiply_tiles<3, 5, 7>();
            }
        }
        constexpr std::int64_t kStride = kWidth * sizeof(std::int32_t);
        store_tile<0>(sums, kStride);
        store_tile<1>(sums + kLanes, kStride);
        if constexpr (Both) {
            store_tile<2>(sums + lower * kWidth, kStride);
            store_tile<3>(sums + lower * kWidth + kLanes, kStride);
        }
    }

    const Linear &linear_;
    std::int64_t depth_;  // inputs at a time: 32 where the number of inputs is odd times that
    Tiles tiles_;
};

}  // namespace
}  // namespace embedrt
