// Products with AMX: tiles of 16 rows and 64 inputs, and of 64 inputs and 16 columns.
//
// A tile of rows is multiplied with two tiles of columns, which take turns in one register, so that
// four registers are in use. On a busy host, the processor has few others to rename them to, presumably
// because the other thread of its core needs them. With seven or eight in use, each load then waits for
// the products before it.
#pragma once

#include "product.h"
#include "tiles.h"

namespace embedrt {
namespace {

class AmxProduct {
public:
    static constexpr int kRows = 32;  // a thread with fewer takes columns

    AmxProduct(const Linear &linear, std::int64_t rows)
        : linear_(linear),
          rows_(rows),
          height_(rows < kTileRows ? rows : kTileRows),
          depth_(linear.inputs % kTileBytes == 0 ? kTileBytes : kTileBytes / 2),
          tiles_(sizes(height_, depth_)) {}

    // The sums of a tile are used after the products of the next one, because those of its last
    // inputs take a while.
    template <class Use>
    void multiply(const std::uint8_t *input, std::int64_t first, std::int64_t end, Use use) const {
        alignas(64) std::int32_t sums[(kMostTiles + 1) * kTileSums];
        const std::int64_t inputs = linear_.inputs, tiles = (rows_ + height_ - 1) / height_;
        const std::int64_t together = inputs > kMostInputs ? kMostTiles : 1;
        const std::int64_t last_start = rows_ - height_;
        std::int64_t place = 0;
        Sums before{0, 0, 0, nullptr};
        for (std::int64_t column = first; column < end; column += kWidth) {
            for (std::int64_t tile = 0; tile < tiles; tile += together) {
                const std::int64_t count = tiles - tile < together ? tiles - tile : together;
                for (std::int64_t from = 0; from < inputs; from += kMostInputs) {
                    const bool is_last = inputs - from <= kMostInputs;
                    for (std::int64_t i = 0; i < count; ++i) {
                        // The last tile overlaps with the one before it, if the rows do not fill it.
                        const std::int64_t row = (tile + i) * height_;
                        const std::int64_t start = row < last_start ? row : last_start;
                        const std::int64_t repeated = row - start;
                        std::int32_t *found = sums + (place + i) % (together + 1) * kTileSums;
                        multiply_tile(input + start * inputs, column, from, found);
                        if (!is_last) continue;
                        if (before.count != 0) use(before);
                        before = {row, height_ - repeated, column, found + repeated * kWidth};
                    }
                }
                place += count;
            }
        }
        if (before.count != 0) use(before);
    }

private:
    // The sums of so many tiles, and the weights of so many inputs, stay in the first cache.
    static constexpr std::int64_t kMostTiles = 16, kMostInputs = 768;
    static constexpr std::int64_t kTileSums = kTileRows * kWidth;

    static TileSizes sizes(std::int64_t height, std::int64_t depth) {
        TileSizes found;
        found.set(0, height, kTileBytes);
        found.set(1, height, kTileBytes);
        found.set(2, height, depth);
        found.set(3, depth / 4, kTileBytes);
        return found;
    }

    // Add the products of up to `kMostInputs` inputs to the sums, which begin with the first inputs.
    void multiply_tile(const std::uint8_t *rows, std::int64_t column, std::int64_t from,
                       std::int32_t *sums) const {
        constexpr std::int64_t kStride = kWidth * sizeof(std::int32_t);
        const std::int64_t inputs = linear_.inputs;
        const std::int64_t end = inputs - from < kMostInputs ? inputs : from + kMostInputs;
        const std::int8_t *left = linear_.weight + column * inputs, *right = left + inputs * kLanes;
        const std::int32_t *begin = from == 0 ? linear_.start + column : sums;
        const std::int64_t stride = from == 0 ? 0 : kStride;
        load_tile<0>(begin, stride);
        load_tile<1>(begin + kLanes, stride);
        for (std::int64_t k = from; k < end; k += depth_) {
            load_tile<2>(rows + k, inputs);
            load_tile<3>(left + k * kLanes, kTileBytes);
            multiply_tiles<0, 2, 3>();
            load_tile<3>(right + k * kLanes, kTileBytes);
            multiply_tiles<1, 2, 3>();
        }
        store_tile<0>(sums, kStride);
        store_tile<1>(sums + kLanes, kStride);
    }

    const Linear &linear_;
    std::int64_t rows_;
    std::int64_t height_;
    std::int64_t depth_;  // inputs at a time: 32 where the number of inputs is odd times that
    Tiles tiles_;
};

}  // namespace
}  // namespace embedrt
