// Products of uint8 rows and int8 columns, exact in int32.
//
// A path multiplies with a class `Product`, which is made for a share of a product and for so many
// rows. Its `multiply` computes these rows and some columns, and calls use(Sums) for each block of
// rows and 32 columns. What follows is the same code for every path. A thread with fewer rows than
// `Product::kRows` takes columns of all rows.
#pragma once

#include "vectors.h"

namespace embedrt {
namespace {

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

// The sums of `count` rows from `row` on, and of 32 columns from `column` on: [count][32]. Those of a
// column begin at `linear.start`.
struct Sums {
    std::int64_t row, count, column;
    const std::int32_t *first;

    // Those of the row that is `offset` rows after the first.
    const std::int32_t *at(std::int64_t offset) const { return first + offset * kWidth; }
};

// Multiply a share of the rows and columns; call use(Sums) for each block.
template <class Product, class Use>
inline void multiply_all(const Linear &linear, const std::uint8_t *input, const Share &share,
                         Use use) {
    const std::int64_t first = share.first_row(), rows = share.last_row() - first;
    Product(linear, rows).multiply(
        input + first * linear.inputs, share.first_column(linear.outputs),
        share.last_column(linear.outputs),
        [&](const Sums &sums) { use(Sums{first + sums.row, sums.count, sums.column, sums.first}); });
}

// Makes results of 32 columns' sums: scaled, with the bias and the outliers.
class Columns {
public:
    Columns(const Linear &linear, std::int64_t column)
        : scale_{load(linear.scale + column), load(linear.scale + column + kLanes)},
          bias_{load(linear.bias + column), load(linear.bias + column + kLanes)},
          outlier_rows_(linear.outlier_rows + column),
          outliers_(linear.reading.outliers),
          outputs_(linear.outputs) {}

    // `picked` are the outliers of the first token.
    template <int Rows>
    Block<Rows> results(const std::int32_t *sums, const float *picked) const {
        Block<Rows> found;
#pragma GCC unroll 4
        for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < 2; ++j) {
                const Ints exact = _mm512_load_si512(sums + i * kWidth + j * kLanes);
                found.at[i][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact), scale_[j], bias_[j]);
            }
        }
        const float *row = outlier_rows_;
        for (int outlier = 0; outlier < outliers_; ++outlier, row += outputs_) {
            const Floats left = load(row), right = load(row + kLanes);
#pragma GCC unroll 4
            for (int i = 0; i < Rows; ++i) {
                const Floats value = all(picked[i * kMostOutliers + outlier]);
                found.at[i][0] = _mm512_fmadd_ps(value, left, found.at[i][0]);
                found.at[i][1] = _mm512_fmadd_ps(value, right, found.at[i][1]);
            }
        }
        return found;
    }

private:
    Floats scale_[2], bias_[2];
    const float *outlier_rows_;
    int outliers_;
    std::int64_t outputs_;
};

}  // namespace
}  // namespace embedrt
