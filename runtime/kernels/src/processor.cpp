#include "processor.h"

#include "interface.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace embedrt {

#if defined(__x86_64__)

namespace {

struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers ask(unsigned leaf, unsigned subleaf) {
    Registers found;
    if (!__get_cpuid_count(leaf, subleaf, &found.eax, &found.ebx, &found.ecx, &found.edx)) return {};
    return found;
}

bool is_amd() {
    constexpr unsigned kAuth = 0x68747541, kEntiCAMD[] = {0x69746e65, 0x444d4163};  // by characters
    const Registers vendor = ask(0, 0);
    return vendor.ebx == kAuth && vendor.edx == kEntiCAMD[0] && vendor.ecx == kEntiCAMD[1];
}

bool has(unsigned word, int bit) { return (word >> bit & 1u) != 0; }

// The state that the operating system saves when it switches threads. Written in assembly because
// the intrinsic would need this file to be compiled for processors that have it.
std::uint64_t saved_state() {
    unsigned low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return static_cast<std::uint64_t>(high) << 32 | low;
}

}  // namespace

std::uint32_t processor_features() {
    constexpr std::uint64_t kAvx512State = 0xe6;  // SSE, AVX, mask registers, both halves of ZMM
    constexpr std::uint64_t kTileState = 0x60000;  // their sizes and their data
    const Registers basic = ask(1, 0);
    if (!has(basic.ecx, 27)) return 0;  // without OSXSAVE, xgetbv is an illegal instruction
    const std::uint64_t saved = saved_state();
    if ((saved & kAvx512State) != kAvx512State) return 0;
    const Registers extended = ask(7, 0), more = ask(7, 1);
    const bool fma = has(basic.ecx, 12), avx2 = has(extended.ebx, 5);
    const bool foundation = has(extended.ebx, 16), dq = has(extended.ebx, 17);
    const bool bw = has(extended.ebx, 30), vl = has(extended.ebx, 31);
    if (!(fma && avx2 && foundation && dq && bw && vl)) return 0;
    std::uint32_t features = EMBEDRT_FEATURE_AVX512;
    if (has(extended.ecx, 11)) features |= EMBEDRT_FEATURE_AVX512_VNNI;
    if (has(more.eax, 5)) features |= EMBEDRT_FEATURE_AVX512_BF16;
    const bool amx = has(extended.edx, 22) && has(extended.edx, 24) && has(extended.edx, 25);
    if (amx && (saved & kTileState) == kTileState) features |= EMBEDRT_FEATURE_AMX;
    if (has(more.eax, 5) && is_amd()) features |= EMBEDRT_FEATURE_FAST_BF16;
    return features;
}

#else

std::uint32_t processor_features() { return 0; }

#endif

bool ask_for_tiles() {
#if defined(__linux__) && defined(__x86_64__)
    constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, since Linux 5.16
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
    return false;
#endif
}

}  // namespace embedrt
