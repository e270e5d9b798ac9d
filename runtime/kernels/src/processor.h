// What the processor can do, and what the operating system lets it.
#pragma once

#include <cstdint>

namespace embedrt {

// Bits of EMBEDRT_FEATURE_... in interface.h.
std::uint32_t processor_features();

// Ask the operating system for AMX's tiles, for all threads of this process. False if it refuses.
bool ask_for_tiles();

}  // namespace embedrt
