// Attention of one head of one text, in fp32.
#pragma once

#include "vectors.h"

namespace embedrt {
namespace {

constexpr int kQueriesAtOnce = 6;
static_assert(kQueriesAtOnce <= kMostQueries);

// The queries, keys or values of a head: 32 channels of all tokens, then the next 32.
struct Head {
    const float *rows;
    std::int64_t block;  // from 32 channels to the next

    const float *at(std::int64_t row, std::int64_t channel) const {
        return rows + channel / 32 * block + row * 32 + channel % 32;
    }
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

// Write the keys by channel, [size][padded]; keys beyond the last are 0.
inline void transpose_keys(const Head &keys, int size, std::int64_t tokens, std::int64_t padded,
                           float *to) {
    for (std::int64_t token = 0; token < padded; token += kLanes) {
        for (int channel = 0; channel < size; channel += kLanes) {
            Floats rows[kLanes];
            for (int i = 0; i < kLanes; ++i) {
                rows[i] = token + i < tokens ? load(keys.at(token + i, channel)) : all(0);
            }
            transpose(rows);
            for (int i = 0; i < kLanes; ++i) store(to + (channel + i) * padded + token, rows[i]);
        }
    }
}

// Scores of `Rows` queries and `Vectors` * 16 keys.
template <int Rows, int Vectors>
inline void score(const Head &queries, std::int64_t row, int size, const float *keys,
                  std::int64_t padded, float *scores) {
    Floats found[Rows][Vectors];
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) found[i][j] = all(0);
    }
    for (int block = 0; block < size; block += 32) {
        const float *query = queries.at(row, block);
        for (int channel = 0; channel < 32; ++channel, keys += padded) {
            Floats key[Vectors];
#pragma GCC unroll 4
            for (int j = 0; j < Vectors; ++j) key[j] = load(keys + j * kLanes);
#pragma GCC unroll 6
            for (int i = 0; i < Rows; ++i) {
                const Floats value = all(query[i * 32 + channel]);
#pragma GCC unroll 4
                for (int j = 0; j < Vectors; ++j) {
                    found[i][j] = _mm512_fmadd_ps(value, key[j], found[i][j]);
                }
            }
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) store(scores + i * padded + j * kLanes, found[i][j]);
    }
}

template <int Rows>
inline void score_all(const Head &queries, std::int64_t row, int size, const float *keys,
                      std::int64_t padded, float *scores) {
    std::int64_t token = 0;
    for (; token + 4 * kLanes <= padded; token += 4 * kLanes) {
        score<Rows, 4>(queries, row, size, keys + token, padded, scores + token);
    }
    const std::int64_t left = (padded - token) / kLanes;
    if (left == 3) score<Rows, 3>(queries, row, size, keys + token, padded, scores + token);
    if (left == 2) score<Rows, 2>(queries, row, size, keys + token, padded, scores + token);
    if (left == 1) score<Rows, 1>(queries, row, size, keys + token, padded, scores + token);
}

// Replace the scores of a query by 2^(score - largest); return 1 / their sum. The scores are
// multiplied by `scale`, and the bias of the first key, if there is one, is at `bias`.
inline float soften(float *scores, std::int64_t tokens, std::int64_t padded, float scale,
                    const float *bias) {
    constexpr float kLowest = -3e38F;
    const Floats factor = all(scale);
    Floats largest = all(kLowest);
    for (std::int64_t token = 0; token < padded; token += kLanes) {
        const std::int64_t left = tokens - token;
        const auto kept = static_cast<__mmask16>(left >= kLanes ? 0xffffu : (1u << left) - 1);
        Floats value = _mm512_mul_ps(load(scores + token), factor);
        if (bias != nullptr) {
            value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(kept, bias + token));
        }
        value = _mm512_mask_mov_ps(all(kLowest), kept, value);
        store(scores + token, value);
        largest = _mm512_max_ps(largest, value);
    }
    largest = all(_mm512_reduce_max_ps(largest));
    Floats total = all(0);
    for (std::int64_t token = 0; token < padded; token += kLanes) {
        const Floats part = exp2_negative(_mm512_sub_ps(load(scores + token), largest));
        store(scores + token, part);
        total = _mm512_add_ps(total, part);
    }
    return 1.0F / sum(total);
}

// Sum the values with the weights of `Rows` queries, divide, and write what `reader` makes of it.
template <int Rows, int Vectors>
inline void weigh(const Head &values, std::int64_t tokens, const float *weights,
                  std::int64_t padded, const float *inverses, const Reader &reader,
                  std::int64_t group, std::int64_t hidden, std::uint8_t *bytes, float *picked) {
    Floats found[Rows][Vectors];
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) found[i][j] = all(0);
    }
    for (std::int64_t token = 0; token < tokens; ++token) {
        Floats value[Vectors];
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) value[j] = load(values.at(token, j * kLanes));
#pragma GCC unroll 6
        for (int i = 0; i < Rows; ++i) {
            const Floats weight = all(weights[i * padded + token]);
#pragma GCC unroll 4
            for (int j = 0; j < Vectors; ++j) {
                found[i][j] = _mm512_fmadd_ps(weight, value[j], found[i][j]);
            }
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < Rows; ++i) {
        const Floats inverse = all(inverses[i]);
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) {
            reader.read(group + j, _mm512_mul_ps(found[i][j], inverse), bytes + i * hidden,
                        picked + i * kMostOutliers);
        }
    }
}

// What a head's attention reads and writes.
struct Attention {
    const Model &model;
    const Workspace &workspace;
    const Linear &output;  // reads the result
    std::int64_t head, first, tokens;  // the text's rows start at `first`
};

template <int Rows, int Vectors>
inline void attend_rows(const Attention &one, const Head *heads, std::int64_t padded,
                        std::int64_t row) {
    const Model &model = one.model;
    const Workspace &space = one.workspace;
    float inverses[Rows];
    score_all<Rows>(heads[0], one.first + row, Vectors * kLanes, space.keys, padded, space.scores);
    for (int i = 0; i < Rows; ++i) {
        const float *bias = nullptr;
        if (model.relative_bias != nullptr) {
            bias = model.relative_bias + one.head * (2 * model.positions - 1) +
                   (model.positions - 1) - (row + i);
        }
        inverses[i] = soften(space.scores + i * padded, one.tokens, padded, model.attention_scale,
                             bias);
    }
    const Head values{heads[2].at(one.first, 0), heads[2].block};
    weigh<Rows, Vectors>(values, one.tokens, space.scores, padded, inverses,
                         Reader(one.output.reading), one.head * Vectors, model.hidden,
                         space.context + (one.first + row) * model.hidden,
                         space.picked_context + (one.first + row) * kMostOutliers);
}

template <int Vectors>
inline void attend_head(const Attention &one) {
    constexpr std::int64_t kSize = Vectors * kLanes;
    const std::int64_t block = one.workspace.rows * 32, hidden = one.model.hidden;
    const std::int64_t padded = (one.tokens + kLanes - 1) / kLanes * kLanes;
    Head heads[3];
    for (int i = 0; i < 3; ++i) {
        heads[i] = {one.workspace.heads + (i * hidden + one.head * kSize) / 32 * block, block};
    }
    const Head keys{heads[1].at(one.first, 0), block};
    transpose_keys(keys, kSize, one.tokens, padded, one.workspace.keys);
    std::int64_t row = 0;
    for (; row + kQueriesAtOnce <= one.tokens; row += kQueriesAtOnce) {
        attend_rows<kQueriesAtOnce, Vectors>(one, heads, padded, row);
    }
    switch (one.tokens - row) {
        case 5: return attend_rows<5, Vectors>(one, heads, padded, row);
        case 4: return attend_rows<4, Vectors>(one, heads, padded, row);
        case 3: return attend_rows<3, Vectors>(one, heads, padded, row);
        case 2: return attend_rows<2, Vectors>(one, heads, padded, row);
        case 1: return attend_rows<1, Vectors>(one, heads, padded, row);
        default: return;
    }
}

}  // namespace
}  // namespace embedrt
