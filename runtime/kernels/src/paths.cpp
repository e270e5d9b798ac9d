#include <cstring>

#include "interface.h"
#include "path.h"
#include "processor.h"

namespace embedrt {

#if defined(EMBEDRT_AVX512)
extern const Path kAmxInt8;
extern const Path kAvx512Bf16;
extern const Path kAvx512Vnni;
#endif
#if defined(EMBEDRT_EMULATED_TILES)
extern const Path kEmulatedAmxInt8;
#endif

namespace {

const Path *const kPaths[] = {  // fastest first
#if defined(EMBEDRT_AVX512)
    &kAmxInt8,
    &kAvx512Bf16,
    &kAvx512Vnni,
#endif
#if defined(EMBEDRT_EMULATED_TILES)
    &kEmulatedAmxInt8,
#endif
    nullptr,
};

bool runs(const Path &path, std::uint32_t features) {
    if ((path.features & features) != path.features) return false;
    return (path.features & EMBEDRT_FEATURE_AMX) == 0 || ask_for_tiles();
}

}  // namespace

const Path *fastest_path(std::uint32_t features) {
    for (const Path *const *path = kPaths; *path != nullptr; ++path) {
        const bool preferred = ((*path)->preferred & features) == (*path)->preferred;
        if (preferred && runs(**path, features)) return *path;
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
