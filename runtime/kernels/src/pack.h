// Makes a model of a description, and the memory of a run.
#pragma once

#include "interface.h"
#include "memory.h"
#include "model.h"

namespace embedrt {

// Pack a description that `check` has accepted. The arena must outlive the model.
Model pack(const embedrt_encoder &encoder, Arena &arena);

Workspace make_workspace(const Model &model, std::int64_t rows, Arena &arena);

// Give a workspace the memory that each thread has for itself.
void add_scratch(const Model &model, Workspace &workspace, Arena &arena);

}  // namespace embedrt
