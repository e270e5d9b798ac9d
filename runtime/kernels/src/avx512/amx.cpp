// The path for AMX: Intel from Sapphire Rapids on.
#include "../interface.h"
#include "../path.h"
#include "amx_attention.h"
#include "amx_product.h"
#include "encoder.h"

namespace embedrt {

extern const Path kAmxInt8;
const Path kAmxInt8{"amx-int8",
                    EMBEDRT_FEATURE_AVX512 | EMBEDRT_FEATURE_AVX512_VNNI |
                        EMBEDRT_FEATURE_AVX512_BF16 | EMBEDRT_FEATURE_AMX,
                    0, AmxProduct::kRows, run<AmxProduct, AmxHeads>, apply};

}  // namespace embedrt
