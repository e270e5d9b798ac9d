// Attention of one head of one text.
#pragma once

#include "cells.h"

namespace embedrt {
namespace {

constexpr int kQueriesAtOnce = 6;
static_assert(kQueriesAtOnce <= kMostQueries);

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

// Multiply `Rows` rows of cells, `stride` apart, with `count` rows of `Vectors` vectors.
template <int Rows, int Vectors>
inline void multiply_cells(const float *rows, std::int64_t stride, std::int64_t count,
                           const float *vectors, std::int64_t width, Floats (&sums)[Rows][Vectors]) {
    for (std::int64_t cell = 0; cell < count; ++cell, vectors += width) {
        Floats right[Vectors];
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) right[j] = load(vectors + j * kLanes);
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            const Floats left = all(rows[i * stride + cell]);
#pragma GCC unroll 4
            for (int j = 0; j < Vectors; ++j) sums[i][j] = multiply_add(left, right[j], sums[i][j]);
        }
    }
}

// Scores of `Rows` queries from `row` on, and `Vectors` * 16 keys from `token` on.
template <int Rows, int Vectors>
inline void score(const Attention &one, std::int64_t row, int blocks, std::int64_t token) {
    Floats sums[Rows][Vectors] = {};
    for (int block = 0; block < blocks; ++block) {
        multiply_cells(one.queries.at(row, block), kBlock, kBlock,
                       one.space.keys + block * kBlock * one.padded + token, one.padded, sums);
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
        float *to = one.space.scores + i * one.padded + token;
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) store(to + j * kLanes, sums[i][j]);
    }
}

template <int Rows>
inline void score_all(const Attention &one, std::int64_t row, int blocks) {
    std::int64_t token = 0;
    for (; token + 4 * kLanes <= one.padded; token += 4 * kLanes) {
        score<Rows, 4>(one, row, blocks, token);
    }
    switch ((one.padded - token) / kLanes) {
        case 3: return score<Rows, 3>(one, row, blocks, token);
        case 2: return score<Rows, 2>(one, row, blocks, token);
        case 1: return score<Rows, 1>(one, row, blocks, token);
        default: return;
    }
}

// Add the bias of a query's keys, of which that of the first is at `bias`, to its scaled scores.
inline void add_bias(const Attention &one, const float *bias, float *scores) {
    const Floats scale = all(one.model.attention_scale);
    for (std::int64_t token = 0; token < one.padded; token += kLanes) {
        const Floats added = _mm512_maskz_loadu_ps(kept(one.tokens - token), bias + token);
        store(scores + token, _mm512_fmadd_ps(load(scores + token), scale, added));
    }
}

// Replace the scores of `Rows` queries, multiplied by `scale`, by the weights 2^(score - largest);
// write 1 / their sums. The queries are independent, so that none waits for another's sums.
template <int Rows>
inline void soften(const Attention &one, float scale, float (&inverses)[Rows]) {
    constexpr float kLowest = -1e30F;
    const std::int64_t padded = one.padded, last = padded - kLanes;
    const __mmask16 rest = kept(one.tokens - last);
    const Floats factor = all(scale);
    Floats largest[Rows], totals[Rows];
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
        float *scores = one.space.scores + i * padded + last;
        largest[i] = _mm512_mask_mov_ps(all(kLowest), rest, load(scores));
        store(scores, largest[i]);
        totals[i] = all(0);
    }
    for (std::int64_t token = 0; token < last; token += kLanes) {
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            const float *scores = one.space.scores + i * padded + token;
            largest[i] = _mm512_max_ps(largest[i], load(scores));
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) largest[i] = all(_mm512_reduce_max_ps(largest[i]) * scale);
    const auto weights = [&](int i, std::int64_t token) {
        const Floats scores = load(one.space.scores + i * padded + token);
        const Floats found = exp2_negative(_mm512_fmsub_ps(scores, factor, largest[i]));
        totals[i] = _mm512_add_ps(totals[i], found);
        return found;
    };
    std::int64_t token = 0;
    for (; token < last; token += 2 * kLanes) {
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            const Floats first = weights(i, token), second = weights(i, token + kLanes);
            store_weights(one.space.scores + i * padded, token, first, second);
        }
    }
    if (token == last) {
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            store_weights(one.space.scores + i * padded, token, weights(i, token));
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) inverses[i] = 1.0F / sum(totals[i]);
}

// Compute `Rows` tokens from `row` on of a head with `Vectors` * 16 channels.
template <int Rows, int Vectors>
inline void attend_rows(const Attention &one, std::int64_t row) {
    const Model &model = one.model;
    float inverses[Rows];
    score_all<Rows>(one, row, Vectors / 2);
    if (model.relative_bias != nullptr) {
        const float *own = model.relative_bias + one.head * (2 * model.positions - 1) +
                           (model.positions - 1) - row;
        for (int i = 0; i < Rows; ++i) add_bias(one, own - i, one.space.scores + i * one.padded);
        soften(one, 1, inverses);
    } else {
        soften(one, model.attention_scale, inverses);
    }
    Floats sums[Rows][Vectors] = {};
    multiply_cells(one.space.scores, one.padded, (one.tokens + kPerCell - 1) / kPerCell,
                   one.space.values, Vectors * kLanes, sums);
    const Reader reader(one.output.reading);
    std::uint8_t *bytes = one.space.context + (one.first + row) * model.hidden;
    float *picked = one.space.picked_context + (one.first + row) * kMostOutliers;
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
        const Floats inverse = all(inverses[i]);
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) {
            reader.read(one.head * Vectors + j, _mm512_mul_ps(sums[i][j], inverse),
                        bytes + i * model.hidden, picked + i * kMostOutliers);
        }
    }
}

template <int Vectors>
inline void attend_head(const Attention &one) {
    transpose_keys(one, Vectors / 2);
    arrange_values(one, Vectors / 2);
    std::int64_t row = 0;
    for (; row + kQueriesAtOnce <= one.tokens; row += kQueriesAtOnce) {
        attend_rows<kQueriesAtOnce, Vectors>(one, row);
    }
    switch (one.tokens - row) {
        case 5: return attend_rows<5, Vectors>(one, row);
        case 4: return attend_rows<4, Vectors>(one, row);
        case 3: return attend_rows<3, Vectors>(one, row);
        case 2: return attend_rows<2, Vectors>(one, row);
        case 1: return attend_rows<1, Vectors>(one, row);
        default: return;
    }
}

// Compute a head of the text whose rows start at `first`.
inline void attend(const Model &model, const Workspace &space, const Linear &output,
                   std::int64_t head, std::int64_t first, std::int64_t tokens) {
    const std::int64_t next = space.rows * kBlock, size = model.hidden / model.heads;
    const auto part = [&](std::int64_t index) {
        const std::int64_t block = (index * model.hidden + head * size) / 32;
        return Head{space.heads + block * next + first * kBlock, next};
    };
    const Attention one{model,   space,   output,  head,    first, tokens,
                        (tokens + kLanes - 1) / kLanes * kLanes, part(0), part(1), part(2)};
    if (size == 32) {
        attend_head<2>(one);
    } else {
        attend_head<4>(one);
    }
}

}  // namespace
}  // namespace embedrt
