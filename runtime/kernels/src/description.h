// Checks of a description, made before any of its pointers is followed.
#pragma once

#include <stdexcept>

#include "interface.h"
#include "model.h"

namespace embedrt {

// The description does not fit itself, or what the kernels can do. The message says where.
struct InvalidDescription : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr std::int64_t kColumns = 32;      // widths are multiples of it
constexpr std::int64_t kMostHidden = 4096;
constexpr std::int64_t kMostInner = 16384;  // 255 * 128 * 16384 products fit an int32
constexpr std::int64_t kMostTokens = 1024;

void check(const embedrt_encoder &encoder);

}  // namespace embedrt
