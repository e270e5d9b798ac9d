// The path for AVX-512 with VNNI and BF16: AMD from Zen 4 on. Intel's processors multiply bf16 at
// half the rate of fp32, so that `avx512-vnni` is faster there.
#include "../interface.h"
#include "../path.h"
#include "cell_attention.h"
#include "encoder.h"
#include "vnni_product.h"

namespace embedrt {

extern const Path kAvx512Bf16;
const Path kAvx512Bf16{
    "avx512-bf16",
    EMBEDRT_FEATURE_AVX512 | EMBEDRT_FEATURE_AVX512_VNNI | EMBEDRT_FEATURE_AVX512_BF16,
    EMBEDRT_FEATURE_FAST_BF16, VnniProduct::kRows, run<VnniProduct, CellHeads>, apply};

}  // namespace embedrt
