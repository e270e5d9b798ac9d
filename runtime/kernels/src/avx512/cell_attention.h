// Attention with vectors of cells: 6 queries at a time.
#pragma once

#include "attention.h"

namespace embedrt {
namespace {

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

class CellHeads {
public:
    template <int Vectors>
    void attend(const Attention &one) const {
        transpose_keys(one, Vectors / 2);
        arrange_values(one, Vectors / 2);
        std::int64_t row = 0;
        for (; row + kRows <= one.tokens; row += kRows) attend_rows<kRows, Vectors>(one, row);
        switch (one.tokens - row) {
            case 5: return attend_rows<5, Vectors>(one, row);
            case 4: return attend_rows<4, Vectors>(one, row);
            case 3: return attend_rows<3, Vectors>(one, row);
            case 2: return attend_rows<2, Vectors>(one, row);
            case 1: return attend_rows<1, Vectors>(one, row);
            default: return;
        }
    }

private:
    static constexpr int kRows = 6;
    static_assert(kRows <= kMostQueries);

    template <int Rows, int Vectors>
    static void attend_rows(const Attention &one, std::int64_t row) {
        float inverses[Rows];
        score_all<Rows>(one, row, Vectors / 2);
        weigh<Rows>(one, row, one.space.scores, one.padded, inverses);
        Floats sums[Rows][Vectors] = {};
        multiply_cells(one.space.scores, one.padded, (one.tokens + kPerCell - 1) / kPerCell,
                       one.space.values, Vectors * kLanes, sums);
        for_each_four(Rows, [&](std::int64_t i, auto count) {
            write_context<count.value, Vectors>(one, row + i, inverses + i,
                                                [&](int k, int j) { return sums[i + k][j]; });
        });
    }
};

}  // namespace
}  // namespace embedrt
