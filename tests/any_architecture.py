"""Makes a small model of almost any architecture that transformers knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModel, PretrainedConfig

from model_folders import HIDDEN, randomize, trained_tokenizer, write_json, write_settings

MAX_TOKENS = 64
# Sizes by the names that configs use; a config takes those that it has.
SIZES: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "emb_dim", "embedding_size"], HIDDEN),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["intermediate_size", "n_inner", "d_ff", "d_inner", "ffn_dim"], 64),
    **dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim"], 64),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx"], 130),
    **dict.fromkeys(["head_dim", "d_kv", "rotary_dim"], 8),
    "word_embed_proj_dim": HIDDEN,
    "query_pre_attn_scalar": 8,
    "sliding_window": 16,
}
LAYERS = [
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    *("encoder_layers", "decoder_layers", "num_decoder_layers"),
]
# A config with one of these has layers of several kinds, or that share a table of positions.
SEVERAL_LAYERS = ("layer_types", "relative_attention")
TOKENS = {
    "pad_token_id": 1,
    "decoder_start_token_id": 0,
    **dict.fromkeys(["bos_token_id", "cls_token_id"], 0),
    **dict.fromkeys(["eos_token_id", "sep_token_id"], 2),
}
# Settings that an architecture needs in addition.
NEEDS: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "convbert": {"embedding_size": 16},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "conv_kernel_size": 3,
    },
    "falcon": {"head_dim": None},  # the hidden size and the number of heads determine it
    "gemma3_text": {"use_bidirectional_attention": True},
    "xlnet": {"max_position_embeddings": None},
    "mobilebert": {
        "embedding_size": 16,
        "intermediate_size": 32,
        "intra_bottleneck_size": 16,
        "true_hidden_size": 16,
    },
    "nystromformer": {"num_landmarks": 64, "segment_means_seq_len": 64},
}
# Encoders that transformers saves without their decoders.
CLASSES = {"mt5": "MT5EncoderModel", "t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}


def any_config(model_type: str, vocabulary: int, **changes: object) -> PretrainedConfig:
    """Return a config with narrow layers and the overrides in `changes`.

    There are two layers where they depend on each other, see `SEVERAL_LAYERS`, otherwise one,
    because tracing a layer takes seconds.
    """
    kind = CONFIG_MAPPING[model_type]
    default = kind()
    several = any(hasattr(default, name) for name in SEVERAL_LAYERS)
    layers = dict.fromkeys(LAYERS, 2 if several else 1)
    wanted = {**SIZES, **layers, **TOKENS, **NEEDS.get(model_type, {}), "vocab_size": vocabulary}
    known = {
        name: value
        for name, value in {**wanted, **changes}.items()
        if value is not None and hasattr(default, name)
    }
    if hasattr(default, "num_key_value_heads"):
        grouped = default.num_key_value_heads != default.num_attention_heads
        known["num_key_value_heads"] = 2 if grouped else 4
    return kind(**known)


def make_any(folder: Path, model_type: str, seed: int = 0, **changes: object) -> Path:
    """Save a small model of an architecture, with mean pooling and Normalize.

    `changes` override the encoder's config, by the names of that architecture.
    """
    tokenizer = trained_tokenizer()
    config = any_config(model_type, len(tokenizer), **changes)
    torch.manual_seed(seed)
    kind = CLASSES.get(model_type)
    model = getattr(transformers, kind)(config) if kind else AutoModel.from_config(config)
    randomize(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    hidden = config.hidden_size
    write_settings(folder, max_tokens=MAX_TOKENS, normalized=True, dimension=hidden)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS})
    return folder
