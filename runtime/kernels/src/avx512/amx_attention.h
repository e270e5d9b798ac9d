// Attention with tiles of bf16: 16 queries at a time.
//
// The rows of a tile beyond the text's last are those of the next text, or of the workspace: what
// is computed of them is not read.
#pragma once

#include "attention.h"
#include "tiles.h"

namespace embedrt {
namespace {

class AmxHeads {
public:
    template <int Vectors>
    void attend(const Attention &one) const {
        const std::int64_t pairs = (one.tokens + kLanes * 2 - 1) / (kLanes * 2) * kLanes;
        transpose_keys(one, Vectors / 2);
        arrange_values(one, Vectors / 2);
        for (std::int64_t pair = (one.tokens + 1) / 2; pair < pairs; ++pair) {
            for (int j = 0; j < Vectors; ++j) {
                store(one.space.values + (pair * Vectors + j) * kLanes, all(0));
            }
        }
        for (std::int64_t row = 0; row < one.tokens; row += kLanes) {
            attend_rows<Vectors>(one, row, pairs);
        }
    }

private:
    static_assert(kPerCell == 2 && kBlock == kLanes && kLanes <= kMostQueries);

    template <int Vectors>
    static void attend_rows(const Attention &one, std::int64_t row, std::int64_t pairs) {
        alignas(64) float context[kLanes][Vectors * kLanes];
        float inverses[kLanes];
        const std::int64_t rows = one.tokens - row < kLanes ? one.tokens - row : kLanes;
        // Rows that are a power of two apart would share few sets of the first cache.
        const std::int64_t stride = one.padded + kLanes;
        float *scores = one.space.scores;
        score<Vectors / 2>(one, row, scores, stride);
        for (std::int64_t i = 0; i < rows; i += kAtOnce) {
            weigh<kAtOnce>(one, row + i, scores + i * stride, stride, inverses + i);
        }
        if (pairs * 2 != one.padded) {
            for (std::int64_t i = 0; i < rows; ++i) {
                store_weights(scores + i * stride, one.padded, all(0));
            }
        }
        multiply_values<Vectors>(one, scores, stride, pairs, context[0]);
        for_each_four(rows, [&](std::int64_t i, auto count) {
            write_context<count.value, Vectors>(one, row + i, inverses + i, [&](int k, int j) {
                return load(context[i + k] + j * kLanes);
            });
        });
    }

    // Write the scores of 16 queries.
    template <int Blocks>
    static void score(const Attention &one, std::int64_t row, float *scores, std::int64_t stride) {
        const std::int64_t width = one.padded * kBytes;
        const float *keys = one.space.keys, *more = keys + kBlock * one.padded;
        load_tile<1>(one.queries.at(row, 0), kBlock * kBytes);
        if constexpr (Blocks == 2) load_tile<2>(one.queries.at(row, 1), kBlock * kBytes);
        for (std::int64_t token = 0; token < one.padded; token += kLanes) {
            zero_tile<0>();
            load_tile<3>(keys + token, width);
            multiply_bf16_tiles<0, 1, 3>();
            if constexpr (Blocks == 2) {
                load_tile<3>(more + token, width);
                multiply_bf16_tiles<0, 2, 3>();
            }
            store_tile<0>(scores + token, stride * kBytes);
        }
    }

    // Multiply 16 rows of weights with the values, 32 channels at a time.
    template <int Vectors>
    static void multiply_values(const Attention &one, const float *weights, std::int64_t stride,
                                std::int64_t pairs, float *context) {
        constexpr std::int64_t kWide = Vectors * kLanes * kBytes;
        for (int j = 0; j < Vectors; j += 2, context += 2 * kLanes) {
            zero_tile<0>();
            zero_tile<1>();
            for (std::int64_t pair = 0; pair < pairs; pair += kLanes) {
                const float *values = one.space.values + (pair * Vectors + j) * kLanes;
                load_tile<2>(weights + pair, stride * kBytes);
                load_tile<3>(values, kWide);
                multiply_bf16_tiles<0, 2, 3>();
                load_tile<3>(values + kLanes, kWide);
                multiply_bf16_tiles<1, 2, 3>();
            }
            store_tile<0>(context, kWide);
            store_tile<1>(context + kLanes, kWide);
        }
    }

    static constexpr std::int64_t kBytes = sizeof(float);
    static constexpr int kAtOnce = 4;  // queries whose weights are computed side by side

    Tiles tiles_{whole_tiles()};
};

}  // namespace
}  // namespace embedrt
