// Attention of one head of one text: what is common to all paths.
//
// A path computes heads with a class `Heads`, which is made for a thread's share of them. Its
// `attend<Vectors>` computes one whose size is `Vectors` * 16.
#pragma once

#include "cells.h"

namespace embedrt {
namespace {

// The queries, keys or values of a head: 32 channels of all tokens, then the next 32.
struct Head {
    const float *rows;
    std::int64_t next;  // cells from 32 channels to the next

    const float *at(std::int64_t row, int block) const { return rows + block * next + row * kBlock; }
};

// What a head's attention reads and writes.
struct Attention {
    const Model &model;
    const Workspace &space;
    const Linear &output;  // reads the result
    std::int64_t head, first, tokens;  // the text's rows start at `first`
    std::int64_t padded;  // tokens, rounded up to whole vectors
    Head queries, keys, values;
};

inline void transpose(Floats *rows) {
    Floats half[16], quarter[16];
    for (int i = 0; i < 16; i += 2) {
        half[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        half[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        quarter[i] = _mm512_shuffle_ps(half[i], half[i + 2], 0x44);
        quarter[i + 1] = _mm512_shuffle_ps(half[i], half[i + 2], 0xee);
        quarter[i + 2] = _mm512_shuffle_ps(half[i + 1], half[i + 3], 0x44);
        quarter[i + 3] = _mm512_shuffle_ps(half[i + 1], half[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
        const Floats *q = quarter + i;
        half[i] = _mm512_shuffle_f32x4(q[0], q[4], 0x88);
        half[i + 4] = _mm512_shuffle_f32x4(q[0], q[4], 0xdd);
        half[i + 8] = _mm512_shuffle_f32x4(q[8], q[12], 0x88);
        half[i + 12] = _mm512_shuffle_f32x4(q[8], q[12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        rows[i] = _mm512_shuffle_f32x4(half[i], half[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_f32x4(half[i], half[i + 8], 0xdd);
        rows[i + 4] = _mm512_shuffle_f32x4(half[i + 4], half[i + 12], 0x88);
        rows[i + 12] = _mm512_shuffle_f32x4(half[i + 4], half[i + 12], 0xdd);
    }
}

// Write the keys by cell, [cells][padded]; keys beyond the last are 0.
inline void transpose_keys(const Attention &one, int blocks) {
    for (std::int64_t token = 0; token < one.padded; token += kLanes) {
        float *to = one.space.keys + token;
        for (int block = 0; block < blocks; ++block) {
            for (int cell = 0; cell < kBlock; cell += kLanes, to += kLanes * one.padded) {
                Floats rows[kLanes];
                for (int i = 0; i < kLanes; ++i) {
                    rows[i] = token + i < one.tokens ? load(one.keys.at(token + i, block) + cell)
                                                     : all(0);
                }
                transpose(rows);
                for (int i = 0; i < kLanes; ++i) store(to + i * one.padded, rows[i]);
            }
        }
    }
}

// Write the values by token, [tokens / kPerCell][channels].
inline void arrange_values(const Attention &one, int blocks) {
    float *to = one.space.values;
    for (std::int64_t token = 0; token < one.tokens; token += kPerCell) {
        for (int block = 0; block < blocks; ++block, to += 32) {
            const bool both = token + 1 < one.tokens;
            arrange(one.values.at(token, block),
                    both ? one.values.at(token + 1, block) : nullptr, to);
        }
    }
}

// Scale the scores of a query, and add the bias of its keys, of which that of the first is at `bias`.
inline void add_bias(const Attention &one, const float *bias, float *scores) {
    const Floats scale = all(one.model.attention_scale);
    for (std::int64_t token = 0; token < one.padded; token += kLanes) {
        const Floats added = _mm512_maskz_loadu_ps(kept(one.tokens - token), bias + token);
        store(scores + token, _mm512_fmadd_ps(load(scores + token), scale, added));
    }
}

// Replace the scores of `Rows` queries, `stride` apart and multiplied by `scale`, by the weights
// 2^(score - largest); write 1 / their sums. The queries are independent, so that none waits for
// another's sums.
template <int Rows>
inline void soften(const Attention &one, float scale, float *scores, std::int64_t stride,
                   float *inverses) {
    constexpr float kLowest = -1e30F;
    const std::int64_t last = one.padded - kLanes;
    const __mmask16 rest = kept(one.tokens - last);
    const Floats factor = all(scale);
    Floats largest[Rows], totals[Rows];
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
        float *row = scores + i * stride + last;
        largest[i] = _mm512_mask_mov_ps(all(kLowest), rest, load(row));
        store(row, largest[i]);
        totals[i] = all(0);
    }
    for (std::int64_t token = 0; token < last; token += kLanes) {
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            largest[i] = _mm512_max_ps(largest[i], load(scores + i * stride + token));
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) largest[i] = all(_mm512_reduce_max_ps(largest[i]) * scale);
    const auto weights = [&](int i, std::int64_t token) {
        const Floats read = load(scores + i * stride + token);
        const Floats found = exp2_negative(_mm512_fmsub_ps(read, factor, largest[i]));
        totals[i] = _mm512_add_ps(totals[i], found);
        return found;
    };
    std::int64_t token = 0;
    for (; token < last; token += 2 * kLanes) {
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            const Floats first = weights(i, token), second = weights(i, token + kLanes);
            store_weights(scores + i * stride, token, first, second);
        }
    }
    if (token == last) {
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            store_weights(scores + i * stride, token, weights(i, token));
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) inverses[i] = 1.0F / sum(totals[i]);
}

// Replace the scores of `Rows` queries from `row` on, `stride` apart, by their weights, which are
// still to be multiplied by `inverses`. Rows beyond the last query are nobody's.
template <int Rows>
inline void weigh(const Attention &one, std::int64_t row, float *scores, std::int64_t stride,
                  float *inverses) {
    const Model &model = one.model;
    if (model.relative_bias == nullptr) {
        return soften<Rows>(one, model.attention_scale, scores, stride, inverses);
    }
    const float *own = model.relative_bias + one.head * (2 * model.positions - 1) +
                       (model.positions - 1) - row;
    for (int i = 0; i < Rows && row + i < one.tokens; ++i) {
        add_bias(one, own - i, scores + i * stride);
    }
    soften<Rows>(one, 1, scores, stride, inverses);
}

// Write what the next product reads of `Rows` tokens from `row` on of a head with `Vectors` * 16
// channels: the sums of the weighted values, multiplied by `inverses`. sum(token, vector) returns 16.
template <int Rows, int Vectors, class Sum>
inline void write_context(const Attention &one, std::int64_t row, const float *inverses, Sum sum) {
    const Reader reader(one.output.reading);
    const std::int64_t hidden = one.model.hidden, token = one.first + row;
#pragma GCC unroll 2
    for (int j = 0; j < Vectors; j += 2) {
        Block<Rows> block;
#pragma GCC unroll 4
        for (int i = 0; i < Rows; ++i) {
            const Floats inverse = all(inverses[i]);
            block.at[i][0] = _mm512_mul_ps(sum(i, j), inverse);
            block.at[i][1] = _mm512_mul_ps(sum(i, j + 1), inverse);
        }
        reader.read((one.head * Vectors + j) * kLanes, block, one.space.context + token * hidden,
                    hidden, one.space.picked_context + token * kMostOutliers);
    }
}

// Compute a head of the text whose rows start at `first`.
template <class Heads>
inline void attend(const Heads &heads, const Model &model, const Workspace &space,
                   const Linear &output, std::int64_t head, std::int64_t first,
                   std::int64_t tokens) {
    const std::int64_t next = space.rows * kBlock, size = model.hidden / model.heads;
    const auto part = [&](std::int64_t index) {
        const std::int64_t block = (index * model.hidden + head * size) / 32;
        return Head{space.heads + block * next + first * kBlock, next};
    };
    const Attention one{model,   space,   output,  head,    first, tokens,
                        (tokens + kLanes - 1) / kLanes * kLanes, part(0), part(1), part(2)};
    if (size == 32) {
        heads.template attend<2>(one);
    } else {
        heads.template attend<4>(one);
    }
}

}  // namespace
}  // namespace embedrt
