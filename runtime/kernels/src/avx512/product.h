// Products of uint8 rows and int8 columns, exact in int32.
//
// A path multiplies with a class `Product`, which is made for a share of a product and for so many
// rows. Its `multiply` takes at most `Product::kRows` rows and 32 columns, and writes their sums,
// which begin at `linear.start`, as [rows][32]. What follows is the same code for every path.
#pragma once

#include "vectors.h"

namespace embedrt {
namespace {

constexpr int kWidth = 2 * kLanes;  // columns at a time

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
template <class Product, class Use>
inline void multiply_all(const Linear &linear, const std::uint8_t *input, const Share &share,
                         Use use) {
    alignas(64) std::int32_t sums[Product::kRows * kWidth];
    const std::int64_t first = share.first_row(), rows = share.last_row() - first;
    const std::int64_t blocks = (rows + Product::kRows - 1) / Product::kRows;
    const std::int64_t end = share.last_column(linear.outputs);
    const Product product(linear, rows);
    for (std::int64_t column = share.first_column(linear.outputs); column < end; column += kWidth) {
        for (std::int64_t block = 0; block < blocks; ++block) {
            const std::int64_t row = first + rows * block / blocks;
            const std::int64_t count = first + rows * (block + 1) / blocks - row;
            product.multiply(input + row * linear.inputs, count, column, sums);
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
