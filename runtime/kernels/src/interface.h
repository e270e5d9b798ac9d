/* The C interface of the library.
 *
 * Every function that can fail returns 0, or a message's kind other than 0, and writes the message
 * to `error`. No exception leaves the library. A model may be run by several threads at once.
 */
#ifndef EMBEDRT_KERNELS_INTERFACE_H
#define EMBEDRT_KERNELS_INTERFACE_H

#include <stdint.h>

#if defined(_WIN32)
#define EMBEDRT_EXPORT __declspec(dllexport)
#else
#define EMBEDRT_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Increased with every change of a structure or a function below. */
#define EMBEDRT_INTERFACE 6

/* Values without a copy. They must fit the sizes that the description gives. */
typedef struct {
    const void *data;
    uint64_t bytes;
} embedrt_array;

/* A product of uint8 rows and an int8 matrix, after x * smoothing / scale + zero.
 *
 * The channels of `outliers` are multiplied in fp32 as well, and their rows of `weight` are 0. */
typedef struct {
    float scale;
    int32_t zero;
    embedrt_array smoothing;     /* float[inputs], or empty */
    embedrt_array weight;        /* int8[inputs][outputs] */
    embedrt_array weight_scale;  /* float[outputs] */
    embedrt_array bias;          /* float[outputs], or empty */
    embedrt_array outliers;      /* int64[n], at most 16 different channels, or empty */
    embedrt_array outlier_rows;  /* float[n][outputs] */
} embedrt_linear;

typedef struct {
    embedrt_array weight;  /* float[hidden] */
    embedrt_array bias;    /* float[hidden] */
    float epsilon;
} embedrt_norm;

typedef struct {
    embedrt_linear query_key_value;  /* hidden to 3 * hidden: all heads' queries, keys, values */
    embedrt_linear attention_output;
    embedrt_norm attention_norm;
    embedrt_linear up;  /* followed by GELU */
    embedrt_linear down;
    embedrt_norm output_norm;
} embedrt_layer;

enum { EMBEDRT_MEAN = 0, EMBEDRT_CLS = 1 };

/* An encoder with the norms after each sum, and the pooling of its token vectors. */
typedef struct {
    int64_t hidden, heads, inner, vocabulary;
    int64_t positions;   /* rows of `position_rows` */
    int64_t padding_id;  /* -1: positions are 0, 1, 2; otherwise they count the other tokens */
    int64_t distances;   /* columns of `relative_bias`, an odd number; 0 without it */
    int64_t layers;
    float attention_scale;
    int32_t pooling;     /* EMBEDRT_MEAN or EMBEDRT_CLS */
    int32_t normalized;  /* 1: embeddings are divided by their length */
    embedrt_array words;          /* int8[vocabulary][hidden]; read by every run, not copied */
    embedrt_array word_scales;    /* float[vocabulary]; read by every run, not copied */
    embedrt_array position_rows;  /* float[positions][hidden] */
    embedrt_array relative_bias;  /* float[heads][distances], or empty */
    embedrt_norm embedding_norm;
    const embedrt_layer *layer;
} embedrt_encoder;

typedef struct embedrt_model embedrt_model;

enum { EMBEDRT_OK = 0, EMBEDRT_INVALID = 1, EMBEDRT_UNSUPPORTED = 2, EMBEDRT_FAILED = 3 };

EMBEDRT_EXPORT int32_t embedrt_interface(void);

/* The name of the fastest path that this processor and its operating system allow; NULL if the
 * library has none for it. `masked` removes features: bits of EMBEDRT_FEATURE_... Unless it has
 * EMBEDRT_FEATURE_AMX, this asks Linux for AMX's registers, for all threads of the process. */
EMBEDRT_EXPORT const char *embedrt_path(uint32_t masked);

enum {
    EMBEDRT_FEATURE_AVX512 = 1,       /* F, BW, DQ, VL, and their registers saved by the system */
    EMBEDRT_FEATURE_AVX512_VNNI = 2,
    EMBEDRT_FEATURE_AVX512_BF16 = 4,
    EMBEDRT_FEATURE_AMX = 8,         /* TILE, INT8, BF16; their registers, too, saved by the system */
    EMBEDRT_FEATURE_FAST_BF16 = 16   /* its products take half the time of those in fp32: AMD's */
};

/* Copy and pack a model's weights. `path` is the name of a path that this processor allows. */
EMBEDRT_EXPORT int32_t embedrt_create(const embedrt_encoder *encoder, const char *path,
                                      embedrt_model **model, char *error, uint64_t error_bytes);

/* What a paused run has computed so far. */
typedef struct embedrt_rest embedrt_rest;

/* Embed `texts` texts into `embeddings`, (texts, hidden). `token_counts` has the number of tokens of
 * each text, at least 1, and `ids` the `tokens` ids of all texts, one text after another. A text's
 * embedding depends neither on the other texts, whatever their lengths, nor on the number of
 * threads, which is at most `threads`.
 *
 * With one thread, and if both `pause` and `rest` are given, a run pauses after a layer if `*pause` is
 * not 0: it returns EMBEDRT_OK and writes to `*rest`, which is NULL at first, what the same call then
 * continues from. `*rest` is NULL again after the last layer and after an error. */
EMBEDRT_EXPORT int32_t embedrt_run(embedrt_model *model, int32_t threads, const int64_t *ids,
                                   int64_t tokens, const int64_t *token_counts, int64_t texts,
                                   float *embeddings, uint64_t embeddings_bytes,
                                   const volatile int32_t *pause, embedrt_rest **rest, char *error,
                                   uint64_t error_bytes);

/* Free the rest of a run that does not continue. */
EMBEDRT_EXPORT void embedrt_drop(embedrt_rest *rest);

/* Write to `block` where a part of a model's packed weights is, of which there is one for each
 * `index` from 0 on, and EMBEDRT_INVALID is returned after the last. It is in small pages at first,
 * and starts where a huge page of 2 MB would. */
EMBEDRT_EXPORT int32_t embedrt_block(const embedrt_model *model, uint64_t index,
                                     embedrt_array *block);

EMBEDRT_EXPORT void embedrt_destroy(embedrt_model *model);

/* The functions of a path on their own, for its tests. `which`: 0 GELU, 1 exp2 of values <= 0. */
EMBEDRT_EXPORT int32_t embedrt_apply(const char *path, int32_t which, const float *values,
                                     float *results, int64_t count);

enum {
    EMBEDRT_PEAK_FP32 = 0, /* FMA of AVX-512 */
    EMBEDRT_PEAK_VNNI = 1, /* uint8 by int8, of AVX-512 */
    EMBEDRT_PEAK_BF16 = 2, /* of AVX-512 */
    EMBEDRT_PEAK_AMX = 3   /* uint8 by int8 */
};

/* Measure what this thread computes at most, from registers alone, in operations per second: 0 if
 * the processor cannot. A multiplication and an addition are two operations. */
EMBEDRT_EXPORT int32_t embedrt_peak(int32_t which, double *rate);

#ifdef __cplusplus
}
#endif
#endif
