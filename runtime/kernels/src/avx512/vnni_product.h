// Products with VNNI: 12 rows and 32 columns at a time, whose sums are kept in registers.
#pragma once

#include "product.h"

namespace embedrt {
namespace {

constexpr auto kAhead = _MM_HINT_T1;  // to the second cache

// Multiply `Rows` rows and 32 columns into sums[Rows][32], which start at `start`.
template <int Rows>
inline void multiply(const std::uint8_t *rows, std::int64_t inputs, const std::int8_t *columns,
                     const std::int32_t *start, std::int32_t *sums) {
    const std::int8_t *left = columns, *right = columns + inputs * kLanes;
    Ints found[Rows][2];
#pragma GCC unroll 12
    for (int i = 0; i < Rows; ++i) {
        found[i][0] = _mm512_loadu_si512(start);
        found[i][1] = _mm512_loadu_si512(start + kLanes);
    }
    for (std::int64_t k = 0; k < inputs; k += 4) {
        const Ints a = _mm512_load_si512(left + k * kLanes);
        const Ints b = _mm512_load_si512(right + k * kLanes);
        // The weights of the next 32 columns follow these; few rows would wait for them.
        _mm_prefetch(reinterpret_cast<const char *>(left + (2 * inputs + 2 * k) * kLanes), kAhead);
        _mm_prefetch(reinterpret_cast<const char *>(left + (2 * inputs + 2 * k + 4) * kLanes), kAhead);
#pragma GCC unroll 12
        for (int i = 0; i < Rows; ++i) {
            std::int32_t four = 0;
            __builtin_memcpy(&four, rows + i * inputs + k, sizeof four);
            const Ints input = _mm512_set1_epi32(four);
            found[i][0] = _mm512_dpbusd_epi32(found[i][0], input, a);
            found[i][1] = _mm512_dpbusd_epi32(found[i][1], input, b);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < Rows; ++i) {
        _mm512_store_si512(sums + i * kWidth, found[i][0]);
        _mm512_store_si512(sums + i * kWidth + kLanes, found[i][1]);
    }
}

using Multiply = void (*)(const std::uint8_t *, std::int64_t, const std::int8_t *,
                          const std::int32_t *, std::int32_t *);

constexpr Multiply kMultiply[] = {
    nullptr,     multiply<1>, multiply<2>, multiply<3>,  multiply<4>,  multiply<5>, multiply<6>,
    multiply<7>, multiply<8>, multiply<9>, multiply<10>, multiply<11>, multiply<12>};

class VnniProduct {
public:
    static constexpr int kRows = 12;  // 24 sums, two vectors of weights and one of inputs: 27 registers

    VnniProduct(const Linear &linear, std::int64_t rows) : linear_(linear), rows_(rows) {}

    // The rows are split evenly, so that no block is small.
    template <class Use>
    void multiply(const std::uint8_t *input, std::int64_t first, std::int64_t end, Use use) const {
        alignas(64) std::int32_t sums[kRows * kWidth];
        const std::int64_t inputs = linear_.inputs, blocks = (rows_ + kRows - 1) / kRows;
        for (std::int64_t column = first; column < end; column += kWidth) {
            const std::int8_t *weight = linear_.weight + column * inputs;
            for (std::int64_t block = 0; block < blocks; ++block) {
                const std::int64_t row = rows_ * block / blocks;
                const std::int64_t count = rows_ * (block + 1) / blocks - row;
                kMultiply[count](input + row * inputs, inputs, weight, linear_.start + column, sums);
                use(Sums{row, count, column, sums});
            }
        }
    }

private:
    const Linear &linear_;
    std::int64_t rows_;
};

static_assert(sizeof kMultiply / sizeof *kMultiply == VnniProduct::kRows + 1);

}  // namespace
}  // namespace embedrt
