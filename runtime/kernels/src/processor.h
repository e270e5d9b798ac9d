// What the processor can do, and what the operating system lets it.
#pragma once

#include <cstdint>

namespace embedrt {

// Bits of EMBEDRT_FEATURE_... in interface.h.
std::uint32_t processor_features();

}  // namespace embedrt
