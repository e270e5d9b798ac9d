// The threads of one run.
#pragma once

#include <cstdint>
#include <functional>

#include "model.h"

namespace embedrt {

// Run `work` for each part of `count`, in as many threads, and return when all are done. If the
// system gives fewer threads, there are fewer parts.
void run_parts(int count, const std::function<void(const Part &)> &work);

}  // namespace embedrt
