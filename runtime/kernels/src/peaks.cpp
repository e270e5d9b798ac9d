#include "peaks.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "avx512/tiles.h"
#include "interface.h"
#include "processor.h"

namespace embedrt {

#if defined(__x86_64__)

namespace {

// The loops are assembly, because compilers keep some of so many sums in memory, and so that this
// file runs on every processor. They read nothing but registers. The values are 1 in fp32 and in
// bf16, and not 0 in int8, because products of zeros may take less power and so run faster.
constexpr std::uint32_t kOnes = 0x3f803f80;

// With it, a function may say that it overwrites the registers of AVX-512.
#define EMBEDRT_WIDE __attribute__((target("avx512f")))

// More sums than instructions that a core has under way: at most 6 cycles, two a cycle.
#define EMBEDRT_SUMS "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"
constexpr double kSums = 24;

#define EMBEDRT_LOOP(INSTRUCTION)                                                              \
    __asm__ volatile("vpbroadcastd %[ones], %%zmm30\n"                                         \
                     "vmovdqa64 %%zmm30, %%zmm31\n"                                            \
                     ".irp sum," EMBEDRT_SUMS "\n"                                             \
                     "vpxord %%zmm\\sum, %%zmm\\sum, %%zmm\\sum\n"                             \
                     ".endr\n"                                                                 \
                     "0:\n"                                                                    \
                     ".irp sum," EMBEDRT_SUMS "\n" INSTRUCTION                                 \
                     " %%zmm30, %%zmm31, %%zmm\\sum\n"                                         \
                     ".endr\n"                                                                 \
                     "dec %[turns]\n"                                                          \
                     "jnz 0b\n"                                                                \
                     "vzeroupper\n"                                                            \
                     : [turns] "+r"(turns)                                                     \
                     : [ones] "m"(kOnes)                                                       \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",   \
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",   \
                       "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", \
                       "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31")

EMBEDRT_WIDE void run_fp32(std::int64_t turns) { EMBEDRT_LOOP("vfmadd231ps"); }
EMBEDRT_WIDE void run_vnni(std::int64_t turns) { EMBEDRT_LOOP("vpdpbusd"); }
EMBEDRT_WIDE void run_bf16(std::int64_t turns) { EMBEDRT_LOOP("vdpbf16ps"); }

// Six sums of 16 x 16, in tiles 0 to 5; the rows and columns are in tiles 6 and 7.
constexpr double kTiles = 6;

void run_amx(std::int64_t turns) {
    const Tiles tiles(whole_tiles());
    alignas(64) std::uint32_t ones[256];
    std::fill(std::begin(ones), std::end(ones), kOnes);
    load_tile<6>(ones, 64);
    load_tile<7>(ones, 64);
    for (; turns > 0; --turns) {
        multiply_tiles<0, 6, 7>();
        multiply_tiles<1, 6, 7>();
        multiply_tiles<2, 6, 7>();
        multiply_tiles<3, 6, 7>();
        multiply_tiles<4, 6, 7>();
        multiply_tiles<5, 6, 7>();
    }
}

struct Peak {
    std::uint32_t features;
    void (*run)(std::int64_t turns);
    double operations;  // of a turn: a multiplication and an addition are two
};

constexpr Peak kPeaks[] = {
    // By EMBEDRT_PEAK_...: a register has 16 sums, to each of which 1, 4 or 2 products are added.
    {EMBEDRT_FEATURE_AVX512, run_fp32, kSums * 16 * 1 * 2},
    {EMBEDRT_FEATURE_AVX512 | EMBEDRT_FEATURE_AVX512_VNNI, run_vnni, kSums * 16 * 4 * 2},
    {EMBEDRT_FEATURE_AVX512 | EMBEDRT_FEATURE_AVX512_BF16, run_bf16, kSums * 16 * 2 * 2},
    {EMBEDRT_FEATURE_AMX, run_amx, kTiles * 16 * 16 * 64 * 2},
};

double seconds_of(const Peak &peak, std::int64_t turns) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    peak.run(turns);
    return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

bool measure_peak(std::int32_t which, double &rate) {
    constexpr double kShortest = 0.001;  // seconds
    constexpr int kRepetitions = 50;     // of which the fastest met nothing else on its core
    if (which < 0 || which >= static_cast<std::int32_t>(std::size(kPeaks))) return false;
    const Peak &peak = kPeaks[which];
    rate = 0;
    if ((processor_features() & peak.features) != peak.features) return true;
    if (which == EMBEDRT_PEAK_AMX && !ask_for_tiles()) return true;
    std::int64_t turns = 1000;
    while (seconds_of(peak, turns) < kShortest) turns *= 2;
    for (int i = 0; i < kRepetitions; ++i) {
        const double turned = static_cast<double>(turns) / seconds_of(peak, turns);
        rate = std::max(rate, turned * peak.operations);
    }
    return true;
}

#else

bool measure_peak(std::int32_t which, double &rate) {
    rate = 0;
    return which >= EMBEDRT_PEAK_FP32 && which <= EMBEDRT_PEAK_AMX;
}

#endif

}  // namespace embedrt
