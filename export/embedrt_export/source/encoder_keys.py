"""Tables of the keys of an encoder's ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping

from embedrt_export.source.checks import (
    ANY,
    COUNT,
    FLAG,
    FLAG_OR_TEXT,
    NUMBER,
    OBJECT,
    POSITIVE,
    TEXT,
    TEXTS,
    WHOLE,
    Table,
    honored,
    object_of,
    overruled,
    refused,
)

OTHER_WEIGHTS = (
    "embedrt reads only floating-point weights in model.safetensors or pytorch_model.bin"
)

# transformers reads many more keys of config.json. This table lists the keys that embedrt reads,
# and keys that mark the weights as quantized or compressed.
ENCODER = Table(
    unknown="ignored",
    keys={
        "model_type": honored(TEXT, "the architecture"),
        "hidden_size": honored(COUNT, "the width of a token's vector"),
        "dim": honored(COUNT, "hidden_size of DistilBERT"),
        "num_hidden_layers": honored(COUNT, "layers"),
        "n_layers": honored(COUNT, "layers of DistilBERT"),
        "num_attention_heads": honored(COUNT, "heads of each layer"),
        "n_heads": honored(COUNT, "heads of each layer of DistilBERT"),
        "num_key_value_heads": honored(COUNT.or_null, "heads of keys and values, shared by heads"),
        "head_dim": honored(COUNT.or_null, "components of a head"),
        "hidden_act": honored(TEXT, "the activation"),
        "hidden_activation": honored(TEXT, "the activation of Gemma and ModernBERT"),
        "dense_act_fn": honored(TEXT, "the activation of T5, instead of that of feed_forward_proj"),
        "feed_forward_proj": honored(TEXT, "the activation of T5, and whether it is gated"),
        "type_vocab_size": honored(WHOLE.or_null, "GTE may have no token types"),
        "use_task_id": honored(FLAG, "ERNIE adds the embedding of the first task"),
        "embedding_size": honored(COUNT.or_null, "the width of embeddings that are projected"),
        "num_hidden_groups": honored(COUNT, "groups of layers of ALBERT that share weights"),
        "inner_group_num": honored(COUNT, "layers in each of these groups"),
        "rotary_value": honored(FLAG, "a RoFormer that rotates values is traced"),
        "d_kv": honored(COUNT, "components of a head of T5"),
        "num_layers": honored(COUNT, "layers of T5"),
        "num_heads": honored(COUNT, "heads of each layer of T5"),
        "layer_norm_epsilon": honored(POSITIVE, "what each norm of T5 adds to the mean square"),
        "relative_attention_max_distance": honored(
            COUNT, "the distance beyond which T5's relative bias is the same"
        ),
        "norm_eps": honored(POSITIVE, "what each LayerNorm of ModernBERT adds to the variance"),
        "norm_bias": honored(FLAG, "the LayerNorms of ModernBERT may have biases"),
        "local_attention": honored(COUNT, "tokens that a local layer of ModernBERT attends to"),
        "global_attn_every_n_layers": honored(COUNT, "which layers of ModernBERT are not local"),
        "global_rope_theta": honored(POSITIVE, "the base of their rotary positions"),
        "local_rope_theta": honored(POSITIVE.or_null, "the same, of the local layers"),
        "classifier_pooling": honored(TEXT, "what the classifier of ModernBERT reads"),
        "classifier_activation": honored(FLAG_OR_TEXT, "the activation of its inner layer"),
        "classifier_bias": honored(FLAG, "this layer may have a bias"),
        "pooler_hidden_act": honored(TEXT, "the activation of the classifier of DeBERTa"),
        "id2label": honored(object_of(TEXT).or_null, "the names of a classifier's scores"),
        "layer_norm_eps": honored(POSITIVE, "what each LayerNorm adds to the variance"),
        "rms_norm_eps": honored(POSITIVE, "what each RMS normalization adds to the mean square"),
        "attention_bias": honored(FLAG.or_null, "the projections of attention may have biases"),
        "mlp_bias": honored(FLAG.or_null, "the feed-forward layers may have biases"),
        "query_pre_attn_scalar": honored(POSITIVE, "the scale of Gemma's attention scores"),
        "attn_logit_softcapping": overruled(ANY, "transformers' Gemma 3 does not read it"),
        "is_causal": honored(FLAG.or_null, "false if tokens attend to those after them too"),
        "use_bidirectional_attention": honored(FLAG.or_null, "the same, in Gemma"),
        "use_sliding_window": honored(FLAG.or_null, "whether layers of Qwen attend locally"),
        "max_window_layers": honored(WHOLE.or_null, "the first layer of Qwen that does"),
        "sliding_window": honored(WHOLE.or_null, "the number of tokens attended to locally"),
        "layer_types": honored(TEXTS.or_null, "which layers attend locally"),
        "rope_theta": honored(POSITIVE.or_null, "the base of rotary positions"),
        "rope_local_base_freq": honored(POSITIVE.or_null, "the same, of Gemma's local layers"),
        "rope_scaling": honored(OBJECT.or_null, "rotary positions are tabulated with it"),
        "rope_parameters": honored(OBJECT.or_null, "rotary positions are tabulated with them"),
        "pad_token_id": honored(WHOLE.or_null, "the token without a position in RoBERTa"),
        "max_position_embeddings": honored(NUMBER.or_null, "the longest text"),
        "vocab_size": honored(COUNT.or_null, "rows of the table that token ids index"),
        "position_embedding_type": honored(TEXT.or_null, "absolute, else the encoder is traced"),
        "is_decoder": honored(FLAG, "a decoder is traced"),
        "pruned_heads": honored(object_of(WHOLE.in_list).or_null, "these heads contribute nothing"),
        "auto_map": honored(OBJECT, "code of the model's author is refused, or ignored on request"),
        "quantization_config": refused(OTHER_WEIGHTS),
        "compression_config": refused(OTHER_WEIGHTS),
    },
)

_AUTHORS_CODE = "only the author's own code reads it, and transformers computes without"

# Keys of config.json by model_type that transformers' class of this name does not obey, with the
# values that match its behavior.
UNHEEDED: Mapping[str, Table] = {
    "nomic_bert": Table(
        unknown="ignored",
        keys={
            "activation_function": refused(_AUTHORS_CODE, but=(None, "swiglu")),
            "causal": refused(_AUTHORS_CODE, but=(None, False)),
            "mlp_fc1_bias": refused(_AUTHORS_CODE, but=(None, False)),
            "mlp_fc2_bias": refused(_AUTHORS_CODE, but=(None, False)),
            "moe_every_n_layers": refused(_AUTHORS_CODE, but=(None, 0)),
            "num_experts": refused(_AUTHORS_CODE, but=(None, 0)),
            "parallel_block": refused(_AUTHORS_CODE, but=(None, False)),
            "prenorm": refused(_AUTHORS_CODE, but=(None, False)),
            "qkv_proj_bias": refused(_AUTHORS_CODE, but=(None, False)),
            "rotary_emb_base": refused(_AUTHORS_CODE, but=(None, 1000, 1000.0)),
            "rotary_emb_fraction": refused(_AUTHORS_CODE, but=(None, 1, 1.0)),
            "rotary_emb_interleaved": refused(_AUTHORS_CODE, but=(None, False)),
            "rotary_emb_scale_base": refused(_AUTHORS_CODE),
            "rotary_scaling_factor": refused(_AUTHORS_CODE),
            "use_rms_norm": refused(_AUTHORS_CODE, but=(None, False)),
        },
    ),
}
