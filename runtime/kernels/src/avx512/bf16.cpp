// The path for AVX-512 with VNNI and BF16: Intel from Sapphire Rapids on, AMD from Zen 4 on.
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
    VnniProduct::kRows, run<VnniProduct, CellHeads>, apply};

}  // namespace embedrt
