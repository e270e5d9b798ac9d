// The path for AVX-512 with VNNI: Intel from Ice Lake on, AMD from Zen 4 on.
#include "../interface.h"
#include "../path.h"
#include "cell_attention.h"
#include "encoder.h"
#include "vnni_product.h"

namespace embedrt {

extern const Path kAvx512Vnni;
const Path kAvx512Vnni{"avx512-vnni", EMBEDRT_FEATURE_AVX512 | EMBEDRT_FEATURE_AVX512_VNNI,
                       0, VnniProduct::kRows, run<VnniProduct, CellHeads>, apply};

}  // namespace embedrt
