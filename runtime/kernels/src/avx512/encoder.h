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

// Call use(text, start, tokens) for each text, whose rows begin at `start`.
template <class Use>
inline void for_each_text(const Texts &texts, Use use) {
    std::int64_t start = 0;
    for (std::int64_t text = 0; text < texts.count; start += texts.tokens[text++]) {
        use(text, start, texts.tokens[text]);
    }
}

template <class Product>
inline void project_heads(const Linear &linear, const Workspace &space, const Share &share) {
    multiply_all<Product>(linear, space.bytes, share, [&](const Sums &sums) {
        const Columns columns(linear, sums.column);
        float *to = space.heads + (sums.column / kWidth * space.rows + sums.row) * kBlock;
        const float *picked = space.picked + sums.row * kMostOutliers;
        for_each_four(sums.count, [&](std::int64_t row, auto rows) {
            const auto found = columns.results<rows.value>(sums.at(row), picked + row * kMostOutliers);
#pragma GCC unroll 4
            for (int i = 0; i < rows.value; ++i) {
                store_channels(to + (row + i) * kBlock, found.at[i][0], found.at[i][1]);
            }
        });
    });
}

// Add the product to the states: the sum that a norm follows.
template <class Product>
inline void add_product(const Linear &linear, const std::uint8_t *bytes, const float *outliers,
                        const Share &share, float *states) {
    multiply_all<Product>(linear, bytes, share, [&](const Sums &sums) {
        const Columns columns(linear, sums.column);
        float *to = states + sums.row * linear.outputs + sums.column;
        const float *picked = outliers + sums.row * kMostOutliers;
        for_each_four(sums.count, [&](std::int64_t row, auto rows) {
            const auto found = columns.results<rows.value>(sums.at(row), picked + row * kMostOutliers);
#pragma GCC unroll 4
            for (int i = 0; i < rows.value; ++i) {
                float *state = to + (row + i) * linear.outputs;
                store(state, _mm512_add_ps(load(state), found.at[i][0]));
                store(state + kLanes, _mm512_add_ps(load(state + kLanes), found.at[i][1]));
            }
        });
    });
}

template <class Product>
inline void expand(const Linear &linear, const Linear &next, const Workspace &space,
                   const Share &share) {
    const Reader reader(next.reading);
    multiply_all<Product>(linear, space.bytes, share, [&](const Sums &sums) {
        const Columns columns(linear, sums.column);
        std::uint8_t *bytes = space.inner + sums.row * linear.outputs;
        const float *picked = space.picked + sums.row * kMostOutliers;
        float *picked_inner = space.picked_inner + sums.row * kMostOutliers;
        for_each_four(sums.count, [&](std::int64_t row, auto rows) {
            auto found = columns.results<rows.value>(sums.at(row), picked + row * kMostOutliers);
#pragma GCC unroll 4
            for (int i = 0; i < rows.value; ++i) {
                found.at[i][0] = gelu(found.at[i][0]);
                found.at[i][1] = gelu(found.at[i][1]);
            }
            reader.read(sums.column, found, bytes + row * linear.outputs, linear.outputs,
                        picked_inner + row * kMostOutliers);
        });
    });
}

// Compute a thread's share of the heads of all texts, each as much work as its text has tokens.
template <class Heads>
inline void attend_all(const Model &model, const Workspace &space, const Linear &output,
                       const Texts &texts, const Part &part) {
    const Heads heads;
    const std::int64_t work = texts.rows * model.heads;
    const std::int64_t first = part.first(work), last = part.last(work);
    for_each_text(texts, [&](std::int64_t, std::int64_t start, std::int64_t tokens) {
        std::int64_t before = start * model.heads;
        for (std::int64_t head = 0; head < model.heads; ++head, before += tokens) {
            if (first <= before && before < last) {
                attend(heads, model, space, output, head, start, tokens);
            }
        }
    });
}

// Only attention and pooling know where a text ends. A thread computes its share of the rows, and in
// attention its share of the heads. Where there are few rows, it computes its share of each
// product's columns, and reads only their weights. Returns false for a pause between layers.
template <class Product, class Heads>
inline bool encode(const Model &model, const Workspace &space, const Texts &texts,
                   float *embeddings, const Part &part, Progress &progress) {
    const std::int64_t rows = texts.rows, hidden = model.hidden;
    const std::int64_t first = part.first(rows), last = part.last(rows);
    const Share share{part, rows, part.count > 1 && rows < Product::kRows * part.count};
    if (progress.layers == 0) {
        for_each_text(texts, [&](std::int64_t, std::int64_t start, std::int64_t tokens) {
            if (start < last && first < start + tokens) {
                embed_text(model, texts.ids, start, tokens, first, last, space.states);
            }
        });
        normalize_rows(model.embedding_norm, hidden, first, last, space.states,
                       &model.layers[0].query_key_value, space.bytes, space.picked);
    }
    while (progress.layers < model.layer_count) {
        const Layer &layer = model.layers[progress.layers++];
        const bool is_last = progress.layers == model.layer_count;
        const Linear *next = is_last ? nullptr : &model.layers[progress.layers].query_key_value;
        share.turn();
        project_heads<Product>(layer.query_key_value, space, share);
        part.wait(part.barrier);
        attend_all<Heads>(model, space, layer.attention_output, texts, part);
        part.wait(part.barrier);
        add_product<Product>(layer.attention_output, space.context, space.picked_context, share,
                    space.states);
        share.turn();
        normalize_rows(layer.attention_norm, hidden, first, last, space.states, &layer.up,
                       space.bytes, space.picked);
        share.turn();
        expand<Product>(layer.up, layer.down, space, share);
        share.turn();
        add_product<Product>(layer.down, space.inner, space.picked_inner, share, space.states);
        share.turn();
        normalize_rows(layer.output_norm, hidden, first, last, space.states, next, space.bytes,
                       space.picked);
        if (progress.pauses()) return false;
    }
    part.wait(part.barrier);
    const std::int64_t first_text = part.first(texts.count), last_text = part.last(texts.count);
    for_each_text(texts, [&](std::int64_t text, std::int64_t start, std::int64_t tokens) {
        if (first_text <= text && text < last_text) {
            pool(model, space.states + start * hidden, tokens, embeddings + text * hidden);
        }
    });
    part.wait(part.barrier);  // the next texts overwrite the states
    return true;
}

// Return the texts from the first one on that run together.
inline Texts first_group(const Texts &texts) {
    Texts group{texts.ids, texts.tokens, 1, texts.tokens[0]};
    while (group.count < texts.count && group.rows + texts.tokens[group.count] <= kRowsOfGroup) {
        group.rows += texts.tokens[group.count++];
    }
    return group;
}

inline void skip(Texts &texts, std::int64_t count, std::int64_t rows) {
    texts = {texts.ids + rows, texts.tokens + count, texts.count - count, texts.rows - rows};
}

template <class Product, class Heads>
bool run(const Model &model, const Workspace &space, const Texts &texts, float *embeddings,
         const Part &part, Progress &progress) {
    Texts left = texts;
    for (std::int64_t text = 0; text < progress.texts; ++text) skip(left, 1, texts.tokens[text]);
    while (left.count > 0) {
        const Texts group = first_group(left);
        float *to = embeddings + progress.texts * model.hidden;
        if (!encode<Product, Heads>(model, space, group, to, part, progress)) return false;
        progress.texts += group.count;
        progress.layers = 0;
        skip(left, group.count, group.rows);
    }
    return true;
}

bool apply(std::int32_t which, const float *values, float *results, std::int64_t count) {
    if (which != 0 && which != 1) return false;
    for (std::int64_t i = 0; i < count; i += kLanes) {
        const Floats read = _mm512_maskz_loadu_ps(kept(count - i), values + i);
        const Floats found = which == 0 ? gelu(read) : exp2_negative(read);
        _mm512_mask_storeu_ps(results + i, kept(count - i), found);
    }
    return true;
}

}  // namespace
}  // namespace embedrt
