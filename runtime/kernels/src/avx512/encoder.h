// The encoder: the order of the steps, and what is done with the results of each product.
#pragma once

#include "attention.h"
#include "product.h"
#include "rows.h"

namespace embedrt {
namespace {

// Rows of a group of texts that run through all layers before the next: their activations stay in
// the core's cache, and the weights are read once for all of them.
constexpr std::int64_t kRowsOfGroup = 256;

inline void project_heads(const Linear &linear, const Workspace &space, std::int64_t rows) {
    multiply_all(linear, space.bytes, rows,
                 [&](std::int64_t row, std::int64_t count, std::int64_t column,
                     const std::int32_t *sums) {
                     const Columns left(linear, column), right(linear, column + kLanes);
                     float *to = space.heads + (column / 32 * space.rows + row) * 32;
                     for (std::int64_t i = 0; i < count; ++i, sums += kWidth, to += 32) {
                         const float *picked = space.picked + (row + i) * kMostOutliers;
                         store(to, left.results(sums, picked));
                         store(to + kLanes, right.results(sums + kLanes, picked));
                     }
                 });
}

// Add the product to the states: the sum that a norm follows.
inline void add_product(const Linear &linear, const std::uint8_t *bytes, const float *picked,
                        std::int64_t rows, float *states) {
    multiply_all(linear, bytes, rows,
                 [&](std::int64_t row, std::int64_t count, std::int64_t column,
                     const std::int32_t *sums) {
                     const Columns left(linear, column), right(linear, column + kLanes);
                     float *to = states + row * linear.outputs + column;
                     const float *outliers = picked + row * kMostOutliers;
                     for (std::int64_t i = 0; i < count; ++i) {
                         store(to, _mm512_add_ps(load(to), left.results(sums, outliers)));
                         store(to + kLanes, _mm512_add_ps(load(to + kLanes),
                                                          right.results(sums + kLanes, outliers)));
                         sums += kWidth, to += linear.outputs, outliers += kMostOutliers;
                     }
                 });
}

inline void expand(const Linear &linear, const Linear &next, const Workspace &space,
                   std::int64_t rows) {
    multiply_all(linear, space.bytes, rows,
                 [&](std::int64_t row, std::int64_t count, std::int64_t column,
                     const std::int32_t *sums) {
                     const Columns left(linear, column), right(linear, column + kLanes);
                     const Reader reader(next.reading);
                     const std::int64_t group = column / kLanes;
                     for (std::int64_t i = 0; i < count; ++i, sums += kWidth) {
                         const std::int64_t token = row + i;
                         const float *read = space.picked + token * kMostOutliers;
                         std::uint8_t *bytes = space.inner + token * linear.outputs;
                         float *picked = space.picked_inner + token * kMostOutliers;
                         reader.read(group, gelu(left.results(sums, read)), bytes, picked);
                         reader.read(group + 1, gelu(right.results(sums + kLanes, read)), bytes,
                                     picked);
                     }
                 });
}

inline void attend(const Model &model, const Workspace &space, const Linear &output,
                   std::int64_t batch, std::int64_t tokens) {
    for (std::int64_t text = 0; text < batch; ++text) {
        for (std::int64_t head = 0; head < model.heads; ++head) {
            const Attention one{model, space, output, head, text * tokens, tokens};
            if (model.hidden / model.heads == 32) {
                attend_head<2>(one);
            } else {
                attend_head<4>(one);
            }
        }
    }
}

inline void encode(const Model &model, const Workspace &space, const std::int64_t *ids,
                   std::int64_t batch, std::int64_t tokens, float *embeddings) {
    const std::int64_t rows = batch * tokens, hidden = model.hidden;
    for (std::int64_t text = 0; text < batch; ++text) {
        embed_text(model, ids + text * tokens, tokens, space.states + text * tokens * hidden);
    }
    normalize_rows(model.embedding_norm, hidden, rows, space.states,
                   &model.layers[0].query_key_value, space.bytes, space.picked);
    for (std::int64_t i = 0; i < model.layer_count; ++i) {
        const Layer &layer = model.layers[i];
        const bool last = i + 1 == model.layer_count;
        project_heads(layer.query_key_value, space, rows);
        attend(model, space, layer.attention_output, batch, tokens);
        add_product(layer.attention_output, space.context, space.picked_context, rows,
                    space.states);
        normalize_rows(layer.attention_norm, hidden, rows, space.states, &layer.up, space.bytes,
                       space.picked);
        expand(layer.up, layer.down, space, rows);
        add_product(layer.down, space.inner, space.picked_inner, rows, space.states);
        normalize_rows(layer.output_norm, hidden, rows, space.states,
                       last ? nullptr : &model.layers[i + 1].query_key_value, space.bytes,
                       space.picked);
    }
    for (std::int64_t text = 0; text < batch; ++text) {
        pool(model, space.states + text * tokens * hidden, tokens, embeddings + text * hidden);
    }
}

void run(const Model &model, const Workspace &space, const std::int64_t *ids, std::int64_t batch,
         std::int64_t tokens, float *embeddings) {
    const std::int64_t fitting = kRowsOfGroup / tokens, most = fitting < 1 ? 1 : fitting;
    for (std::int64_t text = 0; text < batch; text += most) {
        const std::int64_t count = batch - text < most ? batch - text : most;
        encode(model, space, ids + text * tokens, count, tokens,
               embeddings + text * model.hidden);
    }
}

bool apply(std::int32_t which, const float *values, float *results, std::int64_t count) {
    if (which != 0 && which != 1) return false;
    for (std::int64_t i = 0; i < count; i += kLanes) {
        const std::int64_t left = count - i;
        const auto kept = static_cast<__mmask16>(left >= kLanes ? 0xffffu : (1u << left) - 1);
        const Floats read = _mm512_maskz_loadu_ps(kept, values + i);
        _mm512_mask_storeu_ps(results + i, kept, which == 0 ? gelu(read) : exp2_negative(read));
    }
    return true;
}

}  // namespace
}  // namespace embedrt
