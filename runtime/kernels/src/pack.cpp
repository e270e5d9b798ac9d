#include "pack.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "description.h"

namespace embedrt {

namespace {

constexpr double kLog2E = 1.4426950408889634;

// Numbers are copied before they are read, because they may lie at any address.
template <class T>
T *copy(const embedrt_array &array, Arena &arena) {
    T *copied = arena.add<T>(array.bytes / sizeof(T));
    if (copied != nullptr) std::memcpy(copied, array.data, array.bytes / sizeof(T) * sizeof(T));
    return copied;
}

Norm pack_norm(const embedrt_norm &norm, Arena &arena) {
    return {copy<float>(norm.weight, arena), copy<float>(norm.bias, arena), norm.epsilon};
}

std::vector<std::int64_t> channels_of(const embedrt_linear &linear) {
    std::vector<std::int64_t> channels(linear.outliers.bytes / sizeof(std::int64_t));
    if (!channels.empty()) {
        std::memcpy(channels.data(), linear.outliers.data, linear.outliers.bytes);
    }
    return channels;
}

Reading pack_reading(const embedrt_linear &linear, std::int64_t inputs, Arena &arena) {
    const auto channels = channels_of(linear);
    const std::int64_t groups = inputs / kLanes;
    auto *picked = arena.add<std::uint16_t>(static_cast<std::size_t>(groups));
    auto *before = arena.add<std::int32_t>(static_cast<std::size_t>(groups));
    for (const std::int64_t channel : channels) {
        picked[channel / kLanes] |= static_cast<std::uint16_t>(1u << channel % kLanes);
        for (std::int64_t group = channel / kLanes + 1; group < groups; ++group) ++before[group];
    }
    auto *factors = copy<float>(linear.smoothing, arena);
    if (factors == nullptr) {
        factors = arena.add_unset<float>(static_cast<std::size_t>(inputs));
        std::fill_n(factors, inputs, 1.0F);
    }
    for (std::int64_t i = 0; i < inputs; ++i) factors[i] /= linear.scale;
    return {factors, linear.zero, static_cast<int>(channels.size()), picked, before};
}

// Pack 16 columns of four rows into 64 bytes, and add them to the columns' sums.
void pack_four_rows(const std::int8_t *rows, std::int64_t outputs, std::int8_t *packed,
                    std::int32_t *sums) {
    std::uint32_t fours[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
        const std::int8_t a = rows[lane], b = rows[outputs + lane];
        const std::int8_t c = rows[2 * outputs + lane], d = rows[3 * outputs + lane];
        sums[lane] += a + b + c + d;
        fours[lane] = static_cast<std::uint8_t>(a) |
                      static_cast<std::uint32_t>(static_cast<std::uint8_t>(b)) << 8 |
                      static_cast<std::uint32_t>(static_cast<std::uint8_t>(c)) << 16 |
                      static_cast<std::uint32_t>(static_cast<std::uint8_t>(d)) << 24;
    }
    std::memcpy(packed, fours, sizeof fours);  // the first row in the first byte: little-endian
}

void pack_weight(const std::int8_t *weight, const Linear &linear, std::int8_t *packed,
                 std::int32_t *start) {
    constexpr std::int64_t kAtOnce = 2 * kLanes;  // half a cache line of each row
    for (std::int64_t first = 0; first < linear.outputs; first += kAtOnce) {
        for (std::int64_t row = 0; row < linear.inputs; row += 4) {
            for (std::int64_t column = first; column < first + kAtOnce; column += kLanes) {
                pack_four_rows(weight + row * linear.outputs + column, linear.outputs,
                               packed + column * linear.inputs + row * kLanes, start + column);
            }
        }
    }
    for (std::int64_t column = 0; column < linear.outputs; ++column) {
        start[column] *= -linear.reading.zero;
    }
}

// Return the outliers' rows in the order in which their channels ascend.
const float *pack_outliers(const embedrt_linear &linear, std::int64_t outputs, Arena &arena) {
    const auto channels = channels_of(linear);
    std::vector<std::size_t> order(channels.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return channels[a] < channels[b]; });
    const auto width = static_cast<std::size_t>(outputs) * sizeof(float);
    auto *packed = arena.add<float>(channels.size() * static_cast<std::size_t>(outputs));
    auto *to = reinterpret_cast<char *>(packed);
    for (const std::size_t from : order) {
        std::memcpy(to, static_cast<const char *>(linear.outlier_rows.data) + from * width, width);
        to += width;
    }
    return packed;
}

Linear pack_linear(const embedrt_linear &linear, std::int64_t inputs, std::int64_t outputs,
                   Arena &arena) {
    const auto width = static_cast<std::size_t>(outputs);
    auto *weight = arena.add_unset<std::int8_t>(static_cast<std::size_t>(inputs) * width);
    auto *start = arena.add<std::int32_t>(width);
    auto *scale = copy<float>(linear.weight_scale, arena);
    for (std::size_t i = 0; i < width; ++i) scale[i] *= linear.scale;
    const auto *bias = linear.bias.bytes != 0 ? copy<float>(linear.bias, arena)
                                              : arena.add<float>(width);
    const Linear packed{inputs, outputs, pack_reading(linear, inputs, arena),
                        weight, start,   scale,
                        bias,   pack_outliers(linear, outputs, arena)};
    pack_weight(static_cast<const std::int8_t *>(linear.weight.data), packed, weight, start);
    return packed;
}

Layer pack_layer(const embedrt_layer &layer, const embedrt_encoder &encoder, Arena &arena) {
    const std::int64_t hidden = encoder.hidden, inner = encoder.inner;
    return {pack_linear(layer.query_key_value, hidden, 3 * hidden, arena),
            pack_linear(layer.attention_output, hidden, hidden, arena),
            pack_linear(layer.up, hidden, inner, arena),
            pack_linear(layer.down, inner, hidden, arena),
            pack_norm(layer.attention_norm, arena),
            pack_norm(layer.output_norm, arena)};
}

// Expand the bias by distance to all distances of two positions; far ones share the last.
const float *expand_bias(const embedrt_encoder &encoder, Arena &arena) {
    if (encoder.distances == 0) return nullptr;
    const auto *table = copy<float>(encoder.relative_bias, arena);
    const std::int64_t furthest = encoder.distances / 2, reach = encoder.positions - 1;
    auto *expanded = arena.add<float>(static_cast<std::size_t>(encoder.heads * (2 * reach + 1)));
    float *to = expanded;
    for (std::int64_t head = 0; head < encoder.heads; ++head) {
        for (std::int64_t distance = -reach; distance <= reach; ++distance) {
            const std::int64_t column = std::clamp(distance, -furthest, furthest) + furthest;
            *to++ = static_cast<float>(table[head * encoder.distances + column] * kLog2E);
        }
    }
    return expanded;
}

}  // namespace

Model pack(const embedrt_encoder &encoder, Arena &arena) {
    auto *layers = arena.add<Layer>(static_cast<std::size_t>(encoder.layers));
    for (std::int64_t i = 0; i < encoder.layers; ++i) {
        layers[i] = pack_layer(encoder.layer[i], encoder, arena);
    }
    Model model{};
    model.hidden = encoder.hidden;
    model.heads = encoder.heads;
    model.inner = encoder.inner;
    model.vocabulary = encoder.vocabulary;
    model.positions = encoder.positions;
    model.padding_id = encoder.padding_id;
    model.attention_scale = static_cast<float>(encoder.attention_scale * kLog2E);
    model.mean = encoder.pooling == EMBEDRT_MEAN;
    model.normalized = encoder.normalized != 0;
    model.words = static_cast<const std::int8_t *>(encoder.words.data);
    model.word_scales = copy<float>(encoder.word_scales, arena);
    model.position_rows = copy<float>(encoder.position_rows, arena);
    model.relative_bias = expand_bias(encoder, arena);
    model.embedding_norm = pack_norm(encoder.embedding_norm, arena);
    model.layers = layers;
    model.layer_count = encoder.layers;
    // With a padding token, its own position is the first.
    const std::int64_t rows = encoder.padding_id < 0 ? encoder.positions : encoder.positions - 1;
    model.most_tokens = std::min(kMostTokens, rows);
    return model;
}

Workspace make_workspace(const Model &model, std::int64_t rows, Arena &arena) {
    const auto count = static_cast<std::size_t>(rows);
    const auto hidden = static_cast<std::size_t>(model.hidden);
    Workspace made{};
    made.rows = rows;
    made.states = arena.add<float>(count * hidden);
    made.heads = arena.add<float>(count * hidden * 3);
    made.bytes = arena.add<std::uint8_t>(count * hidden);
    made.context = arena.add<std::uint8_t>(count * hidden);
    made.inner = arena.add<std::uint8_t>(count * static_cast<std::size_t>(model.inner));
    made.picked = arena.add<float>(count * kMostOutliers);
    made.picked_context = arena.add<float>(count * kMostOutliers);
    made.picked_inner = arena.add<float>(count * kMostOutliers);
    return made;
}

void add_scratch(const Model &model, Workspace &workspace, Arena &arena) {
    const auto tokens = static_cast<std::size_t>(model.most_tokens + 2 * kLanes);
    const auto head_size = static_cast<std::size_t>(model.hidden / model.heads);
    workspace.keys = arena.add<float>(tokens * head_size);
    workspace.values = arena.add<float>(tokens * head_size);
    workspace.scores = arena.add<float>(tokens * kMostQueries);
}

}  // namespace embedrt
