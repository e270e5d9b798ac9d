#include "description.h"

#include <cmath>
#include <cstring>
#include <string>

namespace embedrt {

namespace {

[[noreturn]] void refuse(const std::string &what) { throw InvalidDescription(what); }

void check_range(const std::string &name, std::int64_t value, std::int64_t least,
                 std::int64_t most) {
    if (value < least || value > most) {
        refuse(name + " is " + std::to_string(value) + "; expected " + std::to_string(least) +
               " to " + std::to_string(most));
    }
}

void check_array(const std::string &name, const embedrt_array &array, std::uint64_t bytes) {
    if (array.bytes != bytes) {
        refuse(name + " has " + std::to_string(array.bytes) + " bytes; expected " +
               std::to_string(bytes));
    }
    if (bytes != 0 && array.data == nullptr) refuse(name + " has no data");
}

void check_optional(const std::string &name, const embedrt_array &array, std::uint64_t bytes) {
    if (array.bytes != 0) check_array(name, array, bytes);
}

void check_positive(const std::string &name, float value) {
    if (!(value > 0) || !std::isfinite(value)) refuse(name + " is not a positive number");
}

void check_outliers(const std::string &name, const embedrt_linear &linear, std::int64_t inputs,
                    std::int64_t outputs) {
    const std::uint64_t count = linear.outliers.bytes / sizeof(std::int64_t);
    if (count > static_cast<std::uint64_t>(kMostOutliers)) {
        refuse(name + " has " + std::to_string(count) + " outliers; at most " +
               std::to_string(kMostOutliers) + " are allowed");
    }
    check_array(name + ".outliers", linear.outliers, count * sizeof(std::int64_t));
    check_array(name + ".outlier_rows", linear.outlier_rows,
                count * static_cast<std::uint64_t>(outputs) * sizeof(float));
    std::int64_t channels[kMostOutliers];
    if (count != 0) std::memcpy(channels, linear.outliers.data, count * sizeof(std::int64_t));
    for (std::uint64_t i = 0; i < count; ++i) {
        check_range(name + ".outliers", channels[i], 0, inputs - 1);
        for (std::uint64_t j = 0; j < i; ++j) {
            if (channels[i] == channels[j]) refuse(name + ".outliers has a channel twice");
        }
    }
}

void check_linear(const std::string &name, const embedrt_linear &linear, std::int64_t inputs,
                  std::int64_t outputs) {
    const auto in = static_cast<std::uint64_t>(inputs), out = static_cast<std::uint64_t>(outputs);
    check_positive(name + ".scale", linear.scale);
    check_range(name + ".zero", linear.zero, 0, 255);
    check_optional(name + ".smoothing", linear.smoothing, in * sizeof(float));
    check_array(name + ".weight", linear.weight, in * out);
    check_array(name + ".weight_scale", linear.weight_scale, out * sizeof(float));
    check_optional(name + ".bias", linear.bias, out * sizeof(float));
    check_outliers(name, linear, inputs, outputs);
}

void check_norm(const std::string &name, const embedrt_norm &norm, std::int64_t hidden) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(hidden) * sizeof(float);
    check_array(name + ".weight", norm.weight, bytes);
    check_array(name + ".bias", norm.bias, bytes);
    if (!(norm.epsilon >= 0) || !std::isfinite(norm.epsilon)) {
        refuse(name + ".epsilon is not a number of at least 0");
    }
}

void check_sizes(const embedrt_encoder &encoder) {
    check_range("hidden", encoder.hidden, kColumns, kMostHidden);
    check_range("inner", encoder.inner, kColumns, kMostInner);
    if (encoder.hidden % kColumns != 0 || encoder.inner % kColumns != 0) {
        refuse("hidden and inner must be multiples of " + std::to_string(kColumns));
    }
    check_range("heads", encoder.heads, 1, encoder.hidden);
    const bool fits = encoder.heads * 32 == encoder.hidden || encoder.heads * 64 == encoder.hidden;
    if (!fits) refuse("heads must have 32 or 64 channels each");
    check_range("vocabulary", encoder.vocabulary, 1, std::int64_t{1} << 24);
    check_range("positions", encoder.positions, 1, 2 * kMostTokens);
    check_range("padding_id", encoder.padding_id, -1, encoder.vocabulary - 1);
    check_range("distances", encoder.distances, 0, 1 << 16);
    if (encoder.distances != 0 && encoder.distances % 2 == 0) refuse("distances is even");
    check_range("layers", encoder.layers, 1, 256);
    check_range("pooling", encoder.pooling, EMBEDRT_MEAN, EMBEDRT_CLS);
    check_range("normalized", encoder.normalized, 0, 1);
    check_positive("attention_scale", encoder.attention_scale);
}

}  // namespace

void check(const embedrt_encoder &encoder) {
    check_sizes(encoder);
    const auto hidden = static_cast<std::uint64_t>(encoder.hidden);
    const auto vocabulary = static_cast<std::uint64_t>(encoder.vocabulary);
    check_array("words", encoder.words, vocabulary * hidden);
    check_array("word_scales", encoder.word_scales, vocabulary * sizeof(float));
    check_array("position_rows", encoder.position_rows,
                static_cast<std::uint64_t>(encoder.positions) * hidden * sizeof(float));
    check_array("relative_bias", encoder.relative_bias,
                static_cast<std::uint64_t>(encoder.heads * encoder.distances) * sizeof(float));
    check_norm("embedding_norm", encoder.embedding_norm, encoder.hidden);
    if (encoder.layer == nullptr) refuse("layer has no data");
    for (std::int64_t i = 0; i < encoder.layers; ++i) {
        const embedrt_layer &layer = encoder.layer[i];
        const std::string name = "layer " + std::to_string(i) + " ";
        check_linear(name + "query_key_value", layer.query_key_value, encoder.hidden,
                     3 * encoder.hidden);
        check_linear(name + "attention_output", layer.attention_output, encoder.hidden,
                     encoder.hidden);
        check_norm(name + "attention_norm", layer.attention_norm, encoder.hidden);
        check_linear(name + "up", layer.up, encoder.hidden, encoder.inner);
        check_linear(name + "down", layer.down, encoder.inner, encoder.hidden);
        check_norm(name + "output_norm", layer.output_norm, encoder.hidden);
    }
}

}  // namespace embedrt
