// A path: the kernels for one kind of processor, compiled with its instructions.
//
// A new path is a file that defines a `Path`, with its flags in CMakeLists.txt, and a line in
// paths.cpp.
#pragma once

#include <cstdint>

#include "model.h"

namespace embedrt {

struct Path {
    const char *name;
    std::uint32_t features;   // that it needs: bits of EMBEDRT_FEATURE_...
    std::uint32_t preferred;  // features without which the next path is faster

    // A thread with fewer rows would spend most of its time reading weights: it takes columns.
    std::int64_t rows_of_thread;

    // Do a thread's part of embedding texts whose ids are in the vocabulary and which are neither
    // empty nor too long, in a workspace with room for all tokens. Returns false for a pause, after
    // which the same call with the same memory continues.
    bool (*run)(const Model &model, const Workspace &workspace, const Texts &texts,
                float *embeddings, const Part &part, Progress &progress);

    // Apply one of the functions of `embedrt_apply`; false if there is none of this number.
    bool (*apply)(std::int32_t which, const float *values, float *results, std::int64_t count);
};

// Return the fastest path for a processor with these features; nullptr if there is none. Both this
// and `find_path` ask the system for AMX's tiles before they return a path that uses them.
const Path *fastest_path(std::uint32_t features);

// Return the path of this name if a processor with these features can run it.
const Path *find_path(const char *name, std::uint32_t features);

}  // namespace embedrt
