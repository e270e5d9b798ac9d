// The path for AMX with its tiles emulated, for tests on processors without them.
#include "../interface.h"
#include "../path.h"
#include "amx_attention.h"
#include "amx_product.h"
#include "encoder.h"

namespace embedrt {

extern const Path kEmulatedAmxInt8;
const Path kEmulatedAmxInt8{
    "amx-int8-emulated",
    EMBEDRT_FEATURE_AVX512 | EMBEDRT_FEATURE_AVX512_VNNI | EMBEDRT_FEATURE_AVX512_BF16,
    0, AmxProduct::kRows, run<AmxProduct, AmxHeads>, apply};

}  // namespace embedrt
