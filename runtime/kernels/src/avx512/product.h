// Products of uint8 rows and int8 columns, exact in int32.
#pragma once

#include "vectors.h"

namespace embedrt {
namespace {

constexpr int kRowsAtOnce = 12;   // 24 sums, two vectors of weights and one of inputs: 27 registers
constexpr int kWidth = 2 * kLanes;
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

constexpr Multiply kMultiply[kRowsAtOnce + 1] = {
    nullptr,     multiply<1>, multiply<2>, multiply<3>,  multiply<4>,  multiply<5>, multiply<6>,
    multiply<7>, multiply<8>, multiply<9>, multiply<10>, multiply<11>, multiply<12>};

// What a thread computes of each product: some rows, or of all rows some columns.
struct Share {
    const Part &part;
    std::int64_t rows;
    bool by_columns;

    std::int64_t first_row() const { return by_columns ? 0 : part.first(rows); }
    std::int64_t last_row() const { return by_columns ? rows : part.last(rows); }
    std::int64_t first_column(std::int64_t outputs) const {
        return by_columns ? part.first(outputs / kWidth) * kWidth : 0;
    }
    std::int64_t last_column(std::int64_t outputs) const {
        return by_columns ? part.last(outputs / kWidth) * kWidth : outputs;
    }

    // Wait for the others between a step that makes rows and one that makes columns.
    void turn() const {
        if (by_columns) part.wait(part.barrier);
    }
};

// Multiply a share of the rows and columns; call use(row, count, column, sums) for each block of
// `count` rows and 32 columns. The rows are split evenly, so that no block is small.
template <class Use>
inline void multiply_all(const Linear &linear, const std::uint8_t *input, const Share &share,
                         Use use) {
    alignas(64) std::int32_t sums[kRowsAtOnce * kWidth];
    const std::int64_t first = share.first_row(), rows = share.last_row() - first;
    const std::int64_t blocks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    const std::int64_t end = share.last_column(linear.outputs);
    for (std::int64_t column = share.first_column(linear.outputs); column < end; column += kWidth) {
        const std::int8_t *columns = linear.weight + column * linear.inputs;
        for (std::int64_t block = 0; block < blocks; ++block) {
            const std::int64_t row = first + rows * block / blocks;
            const std::int64_t count = first + rows * (block + 1) / blocks - row;
            kMultiply[count](input + row * linear.inputs, linear.inputs, columns,
                             linear.start + column, sums);
            use(row, count, column, sums);
        }
    }
}

// Makes results of 16 columns' sums: scaled, with the bias and the outliers.
class Columns {
public:
    Columns(const Linear &linear, std::int64_t column)
        : scale_(load(linear.scale + column)),
          bias_(load(linear.bias + column)),
          outlier_rows_(linear.outlier_rows + column),
          outliers_(linear.reading.outliers),
          outputs_(linear.outputs) {}

    // `picked` holds the outliers of the token.
    Floats results(const std::int32_t *sums, const float *picked) const {
        const Floats exact = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
        Floats found = _mm512_fmadd_ps(exact, scale_, bias_);
        for (int i = 0; i < outliers_; ++i) {
            found = _mm512_fmadd_ps(all(picked[i]), load(outlier_rows_ + i * outputs_), found);
        }
        return found;
    }

private:
    Floats scale_, bias_;
    const float *outlier_rows_;
    int outliers_;
    std::int64_t outputs_;
};

}  // namespace
}  // namespace embedrt
