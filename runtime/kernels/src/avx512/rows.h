// What is done to each token's vector: the embedding, the norms, and the pooling of a text's.
#pragma once

#include "vectors.h"

namespace embedrt {
namespace {

// Sum f(group) over the groups of 16 channels, in an order that depends on their number only.
template <class Function>
inline float sum_groups(std::int64_t groups, Function f) {
    Floats sums[4] = {all(0), all(0), all(0), all(0)};
    for (std::int64_t i = 0; i < groups; i += 4) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            if (i + j < groups) sums[j] = _mm512_add_ps(sums[j], f(i + j));
        }
    }
    return sum(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}

// Add the word's and the position's row.
inline void embed(const Model &model, std::int64_t id, std::int64_t position, float *state) {
    const std::int8_t *word = model.words + id * model.hidden;
    const Floats scale = all(model.word_scales[id]);
    const float *added = model.position_rows + position * model.hidden;
    for (std::int64_t i = 0; i < model.hidden; i += kLanes) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(word + i));
        const Floats steps = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
        store(state + i, _mm512_add_ps(_mm512_mul_ps(steps, scale), load(added + i)));
    }
}

// Embed the tokens of the text that starts at `start` whose rows are from `first` to `last`. `ids`
// are those of all rows.
inline void embed_text(const Model &model, const std::int64_t *ids, std::int64_t start,
                       std::int64_t tokens, std::int64_t first, std::int64_t last, float *states) {
    std::int64_t counted = 0;
    for (std::int64_t row = start; row < start + tokens && row < last; ++row) {
        std::int64_t position = row - start;
        if (model.padding_id >= 0) {
            const bool counts = ids[row] != model.padding_id;
            counted += counts;
            position = counts ? counted : 0;
        }
        if (row >= first) embed(model, ids[row], position, states + row * model.hidden);
    }
}

// Normalize a token's vector in place.
inline void normalize(const Norm &norm, std::int64_t hidden, float *state) {
    const std::int64_t groups = hidden / kLanes;
    const auto width = static_cast<float>(hidden);
    const float mean = sum_groups(groups, [&](std::int64_t i) { return load(state + i * kLanes); });
    const Floats middle = all(mean / width);
    const float squares = sum_groups(groups, [&](std::int64_t i) {
        const Floats away = _mm512_sub_ps(load(state + i * kLanes), middle);
        return _mm512_mul_ps(away, away);
    });
    const Floats inverse = all(1.0F / __builtin_sqrtf(squares / width + norm.epsilon));
    for (std::int64_t i = 0; i < hidden; i += kLanes) {
        const Floats away = _mm512_mul_ps(_mm512_sub_ps(load(state + i), middle), inverse);
        store(state + i, _mm512_fmadd_ps(away, load(norm.weight + i), load(norm.bias + i)));
    }
}

// Normalize tokens' vectors; write what the product `next` reads, unless it is nullptr.
inline void normalize_rows(const Norm &norm, std::int64_t hidden, std::int64_t first,
                           std::int64_t last, float *states, const Linear *next,
                           std::uint8_t *bytes, float *picked) {
    states += first * hidden, bytes += first * hidden, picked += first * kMostOutliers;
    for_each_four(last - first, [&](std::int64_t row, auto rows) {
        float *state = states + row * hidden;
        for (int i = 0; i < rows.value; ++i) normalize(norm, hidden, state + i * hidden);
        if (next == nullptr) return;
        const Reader reader(next->reading);
        for (std::int64_t column = 0; column < hidden; column += kWidth) {
            Block<rows.value> block;
#pragma GCC unroll 4
            for (int i = 0; i < rows.value; ++i) {
                block.at[i][0] = load(state + i * hidden + column);
                block.at[i][1] = load(state + i * hidden + column + kLanes);
            }
            reader.read(column, block, bytes + row * hidden, hidden, picked + row * kMostOutliers);
        }
    });
}

// Make the embedding of a text's token vectors.
inline void pool(const Model &model, const float *states, std::int64_t tokens, float *embedding) {
    const std::int64_t hidden = model.hidden;
    const Floats count = all(static_cast<float>(tokens));
    for (std::int64_t i = 0; i < hidden; i += kLanes) {
        Floats found = load(states + i);
        if (model.mean) {
            for (std::int64_t row = 1; row < tokens; ++row) {
                found = _mm512_add_ps(found, load(states + row * hidden + i));
            }
            found = _mm512_div_ps(found, count);
        }
        store(embedding + i, found);
    }
    if (!model.normalized) return;
    const float squares = sum_groups(hidden / kLanes, [&](std::int64_t i) {
        const Floats values = load(embedding + i * kLanes);
        return _mm512_mul_ps(values, values);
    });
    const float length = __builtin_sqrtf(squares);
    const Floats divisor = all(length < 1e-12F ? 1e-12F : length);  // NaN stays
    for (std::int64_t i = 0; i < hidden; i += kLanes) {
        store(embedding + i, _mm512_div_ps(load(embedding + i), divisor));
    }
}

}  // namespace
}  // namespace embedrt
