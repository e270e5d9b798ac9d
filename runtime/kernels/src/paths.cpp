#include <cstring>

#include "path.h"

namespace embedrt {

#if defined(EMBEDRT_AVX512)
extern const Path kAvx512Bf16;
extern const Path kAvx512Vnni;
#endif

namespace {

const Path *const kPaths[] = {  // fastest first
#if defined(EMBEDRT_AVX512)
    &kAvx512Bf16,
    &kAvx512Vnni,
#endif
    nullptr,
};

bool runs(const Path &path, std::uint32_t features) {
    return (path.features & features) == path.features;
}

}  // namespace

const Path *fastest_path(std::uint32_t features) {
    for (const Path *const *path = kPaths; *path != nullptr; ++path) {
        if (runs(**path, features)) return *path;
    }
    return nullptr;
}

const Path *find_path(const char *name, std::uint32_t features) {
    for (const Path *const *path = kPaths; *path != nullptr; ++path) {
        if (std::strcmp((*path)->name, name) == 0) return runs(**path, features) ? *path : nullptr;
    }
    return nullptr;
}

}  // namespace embedrt
