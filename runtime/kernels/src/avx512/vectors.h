// Functions of 16 values at a time.
//
// Everything in this folder has internal linkage: each path compiles its own copy with its own
// flags, and no other path can be linked to it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../model.h"

namespace embedrt {
namespace {

using Floats = __m512;
using Ints = __m512i;

inline Floats all(float value) { return _mm512_set1_ps(value); }
inline Floats load(const float *from) { return _mm512_loadu_ps(from); }
inline void store(float *to, Floats values) { _mm512_storeu_ps(to, values); }

// Return the mask of the values that are left, of 16 at a time.
inline __mmask16 kept(std::int64_t left) {
    return static_cast<__mmask16>(left >= kLanes ? 0xffffu : (1u << left) - 1);
}

inline float sum(Floats values) { return _mm512_reduce_add_ps(values); }

// GELU(x) = x * Phi(x) with an error below 4e-5 for |x| < 8: 1/500 of a step of its bytes.
// Phi(x) = 1/2 + x * P(u), u = 2 (x / 4.5)^2 - 1, is a minimax polynomial for |x| <= 4.5.
inline Floats gelu(Floats x) {
    constexpr float kEnd = 4.5F;
    constexpr float kTerms[] = {0.156902105F,    -0.0771719515F, 0.0548185781F,
                                -0.0405559465F,  0.0276294611F,  -0.0167434476F,
                                0.0122081302F,   -0.00932906009F, 0.0033541105F};
    constexpr int kSmallerMagnitude = 2;
    const Floats inside = _mm512_range_ps(x, all(kEnd), kSmallerMagnitude);
    const Floats u = _mm512_fmadd_ps(_mm512_mul_ps(inside, inside), all(2 / (kEnd * kEnd)), all(-1));
    Floats p = all(kTerms[8]);
#pragma GCC unroll 8
    for (int i = 7; i >= 0; --i) p = _mm512_fmadd_ps(p, u, all(kTerms[i]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(p, inside, all(0.5F)));
}

// 2^x for x <= 0 with a relative error below 3e-6: 2^-125 below -125, because Intel's processors take
// a hundred cycles and more for a result below 2^-126.
inline Floats exp2_negative(Floats x) {
    constexpr int kNearest = 8;  // and without an exception
    constexpr float kTerms[] = {0.99999928F, 0.69312179F, 0.24024744F, 0.055917859F, 0.0095700948F};
    x = _mm512_max_ps(x, all(-125.0F));
    const Floats whole = _mm512_roundscale_ps(x, kNearest), part = _mm512_sub_ps(x, whole);
    Floats p = all(kTerms[4]);
#pragma GCC unroll 4
    for (int i = 3; i >= 0; --i) p = _mm512_fmadd_ps(p, part, all(kTerms[i]));
    return _mm512_scalef_ps(p, whole);
}

// Values of one to four tokens and of 32 channels. Most steps compute four tokens at once, so that
// what is read for the channels is read once, and no instruction waits for the one before it.
template <int Rows>
struct Block {
    Floats at[Rows][2];
};
constexpr int kWidth = 2 * kLanes;

template <int Number>
struct Count {
    static constexpr int value = Number;
};

// Call use(row, Count) for each four rows of `count`, and for those that are left.
template <class Use>
inline void for_each_four(std::int64_t count, Use use) {
    std::int64_t row = 0;
    for (; row + 4 <= count; row += 4) use(row, Count<4>());
    switch (count - row) {
        case 3: return use(row, Count<3>());
        case 2: return use(row, Count<2>());
        case 1: return use(row, Count<1>());
        default: return;
    }
}

// Writes what a product reads: bytes, and outliers in fp32.
class Reader {
public:
    explicit Reader(const Reading &reading)
        : reading_(reading), zero_(all(static_cast<float>(reading.zero))) {}

    // Read 32 channels from `column` on. `bytes` are those of the first token, each has `width`, and
    // `picked` are its outliers, each has `kMostOutliers`.
    template <int Rows>
    void read(std::int64_t column, const Block<Rows> &block, std::uint8_t *bytes,
              std::int64_t width, float *picked) const {
        if (reading_.outliers != 0) {
#pragma GCC unroll 4
            for (int i = 0; i < Rows; ++i) {
                pick(column / kLanes, block.at[i][0], picked + i * kMostOutliers);
                pick(column / kLanes + 1, block.at[i][1], picked + i * kMostOutliers);
            }
        }
        const Floats left = load(reading_.factors + column);
        const Floats right = load(reading_.factors + column + kLanes);
        Ints words[Rows];  // of each four channels, those of `left` and then of `right`
#pragma GCC unroll 4
        for (int i = 0; i < Rows; ++i) {
            words[i] = _mm512_packs_epi32(
                _mm512_cvtps_epi32(_mm512_fmadd_ps(block.at[i][0], left, zero_)),
                _mm512_cvtps_epi32(_mm512_fmadd_ps(block.at[i][1], right, zero_)));
        }
        const Ints order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
        bytes += column;
#pragma GCC unroll 2
        for (int i = 0; i < Rows; i += 2, bytes += 2 * width) {
            const Ints both = _mm512_packus_epi16(words[i], words[i + 1 < Rows ? i + 1 : i]);
            const Ints found = _mm512_permutexvar_epi32(order, both);
            store_bytes(bytes, _mm512_castsi512_si256(found));
            if (i + 1 < Rows) store_bytes(bytes + width, _mm512_extracti64x4_epi64(found, 1));
        }
    }

private:
    static void store_bytes(std::uint8_t *to, __m256i values) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), values);
    }

    void pick(std::int64_t group, Floats values, float *picked) const {
        const unsigned chosen = reading_.picked[group];
        if (chosen == 0) return;
        // To a register first: compressing to memory is microcode on AMD's processors.
        const Floats packed = _mm512_maskz_compress_ps(static_cast<__mmask16>(chosen), values);
        const auto filled = static_cast<__mmask16>((1u << __builtin_popcount(chosen)) - 1);
        _mm512_mask_storeu_ps(picked + reading_.before[group], filled, packed);
    }

    const Reading &reading_;
    Floats zero_;
};

}  // namespace
}  // namespace embedrt
