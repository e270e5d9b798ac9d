// A model with its weights packed in the order in which the kernels read them.
//
// Only pointers and numbers, because code that is compiled for one processor must not bring
// functions that others share: the linker keeps one copy of a template's functions, which would
// then run on every processor.
#pragma once

#include <cstdint>

namespace embedrt {

// fp32 or int32 values in a vector register of 512 bits.
constexpr int kLanes = 16;

// Room for a token's outliers, the channels of an activation that are multiplied in fp32.
constexpr int kMostOutliers = 16;

// Room for the scores of so many queries at once.
constexpr int kMostQueries = 16;

// How a product reads its input: bytes = x * factor + zero, and outliers in fp32.
struct Reading {
    const float *factors;  // [inputs]: smoothing / scale
    std::int32_t zero;
    int outliers;
    const std::uint16_t *picked;  // [inputs / 16]: a bit for each outlier of 16 channels
    const std::int32_t *before;   // [inputs / 16]: the number of outliers in earlier channels
};

struct Linear {
    std::int64_t inputs, outputs;
    Reading reading;
    // [outputs / 16][inputs / 4][16][4]: what VNNI multiplies at once, and a row of an AMX tile
    const std::int8_t *weight;
    const std::int32_t *start;  // [outputs]: -zero * sum of the column
    const float *scale, *bias;  // [outputs]
    const float *outlier_rows;  // [outliers][outputs], by ascending channel
};

struct Norm {
    const float *weight, *bias;  // [hidden]
    float epsilon;
};

struct Layer {
    Linear query_key_value, attention_output, up, down;
    Norm attention_norm, output_norm;
};

struct Model {
    std::int64_t hidden, heads, inner, vocabulary, positions, padding_id;
    float attention_scale;  // times log2(e), as the bias
    bool mean, normalized;
    const std::int8_t *words;     // [vocabulary][hidden], the caller's
    const float *word_scales;     // [vocabulary]
    const float *position_rows;   // [positions][hidden]
    const float *relative_bias;   // [heads][2 * positions - 1], by distance from 1 - positions
    Norm embedding_norm;
    const Layer *layers;
    std::int64_t layer_count;
    std::int64_t most_tokens;  // of a text
};

// Texts of any lengths. Each row of a workspace belongs to a token of them, in this order.
struct Texts {
    const std::int64_t *ids;     // of all texts, one text after another
    const std::int64_t *tokens;  // [count]: the number of tokens of each text
    std::int64_t count, rows;    // of texts, and of the tokens of all texts
};

// A thread's share of a run. All threads run the same steps, and wait for each other between some.
struct Part {
    int index, count;
    void (*wait)(void *barrier);
    void *barrier;

    // Where this thread's share of `total` rows begins, and that of the next one.
    std::int64_t first(std::int64_t total) const { return total * index / count; }
    std::int64_t last(std::int64_t total) const { return total * (index + 1) / count; }
};

// How far a run on one thread has come: it may pause after each layer of a group of texts.
struct Progress {
    const volatile std::int32_t *wanted;  // a pause, if it points to another number than 0
    std::int64_t texts;                   // that are done, with all layers
    std::int64_t layers;                  // that are done of the next group of texts

    bool pauses() const { return wanted != nullptr && *wanted != 0; }
};

// Memory of one run. Each run has its own, and each thread its keys, values and scores.
struct Workspace {
    std::int64_t rows;       // room for so many tokens
    float *states;           // [rows][hidden]
    float *heads;            // [3 * hidden / 32][rows][32]: queries, keys and values, in cells
    std::uint8_t *bytes;     // [rows][hidden]: the input of the next product
    std::uint8_t *context;   // [rows][hidden]: the result of attention
    std::uint8_t *inner;     // [rows][inner]
    float *picked;           // [rows][16]: outliers that belong to `bytes`
    float *picked_context;   // [rows][16]
    float *picked_inner;     // [rows][16]
    float *keys;             // [head size][tokens]: the keys of a head, transposed
    float *values;           // [tokens][head size]: the values of a head
    float *scores;           // [queries at once][tokens]
};

}  // namespace embedrt
