// What a processor computes at most: the limit that the kernels are measured against.
#pragma once

#include <cstdint>

namespace embedrt {

// Measure the peak `which`, one of EMBEDRT_PEAK_..., on this thread for a twentieth of a second.
// Writes operations per second, 0 if the processor cannot do them; returns false if there is no
// such peak.
bool measure_peak(std::int32_t which, double &rate);

}  // namespace embedrt
