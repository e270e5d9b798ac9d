// The numbers that attention multiplies: fp32, or two bf16 in its place where the processor
// multiplies those, which halves the work.
//
// A cell has 32 bits: a channel in fp32, or two neighbors in bf16. Cells are kept in registers and
// memory of floats, and are read as what they are only by `multiply_add`.
#pragma once

#include "vectors.h"

namespace embedrt {
namespace {

#if defined(__AVX512BF16__)

constexpr int kPerCell = 2;

inline Floats multiply_add(Floats left, Floats right, Floats sums) {
    return _mm512_dpbf16_ps(sums, (__m512bh)left, (__m512bh)right);
}

// Write 32 channels.
inline void store_channels(float *to, Floats left, Floats right) {
    store(to, (Floats)_mm512_cvtne2ps_pbh(right, left));
}

// Write 16 weights, of tokens from `token` on. `row` may hold the values that they are made of.
inline void store_weights(float *row, std::int64_t token, Floats weights) {
    const auto cells = (__m256i)_mm512_cvtneps_pbh(weights);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(row + token / 2), cells);
}

// Write 32 weights.
inline void store_weights(float *row, std::int64_t token, Floats first, Floats second) {
    store(row + token / 2, (Floats)_mm512_cvtne2ps_pbh(second, first));
}

// Write 32 channels of the values of two tokens, the second of which may be missing.
inline void arrange(const float *first, const float *second, float *to) {
    const Ints a = _mm512_loadu_si512(first);
    const Ints b = second == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(second);
    const Ints order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                        8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const Ints later = _mm512_add_epi16(order, _mm512_set1_epi16(16));
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, order, b));
    _mm512_storeu_si512(to + kLanes, _mm512_permutex2var_epi16(a, later, b));
}

#else

constexpr int kPerCell = 1;

inline Floats multiply_add(Floats left, Floats right, Floats sums) {
    return _mm512_fmadd_ps(left, right, sums);
}

inline void store_channels(float *to, Floats left, Floats right) {
    store(to, left);
    store(to + kLanes, right);
}

inline void store_weights(float *row, std::int64_t token, Floats weights) {
    store(row + token, weights);
}

inline void store_weights(float *row, std::int64_t token, Floats first, Floats second) {
    store(row + token, first);
    store(row + token + kLanes, second);
}

inline void arrange(const float *first, const float *, float *to) {
    store(to, load(first));
    store(to + kLanes, load(first + kLanes));
}

#endif

constexpr int kBlock = 32 / kPerCell;  // cells of 32 channels

}  // namespace
}  // namespace embedrt
