"""Models at the size of published ones, with seeded random weights in bfloat16."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModel, PretrainedConfig

from model_folders import METADATA, small_config, tokenizer_for, write_json, write_settings

# Settings from the models' config files: Qwen/Qwen3-Embedding-0.6B, google/embeddinggemma-300m and
# Alibaba-NLP/gte-modernbert-base.
SIZES: dict[str, dict[str, Any]] = {
    "qwen3": {
        "vocabulary": 151_669,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32_768,
        "rope_theta": 1_000_000.0,
    },
    "gemma3": {
        "vocabulary": 262_144,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 24,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 2048,
        "sliding_window": 512,
        "layer_types": ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(24)],
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    },
    "modernbert": {
        "vocabulary": 50_368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
    },
}


def make_large(
    folder: Path,
    family: str,
    max_tokens: int = 48,
    *,
    layers: int | None = None,
    tokenizer: str | None = None,
) -> int:
    """Write a model of a family; return the bytes of its weights in float32.

    It has all layers of the published model unless `layers` says how many, and the small tokenizer
    of its family unless `tokenizer` names another one.
    """
    size = SIZES[family] | ({} if layers is None else {"num_hidden_layers": layers})
    config = small_config(family, **size)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    tokenizer_for(tokenizer or family, folder, whole=True).save_pretrained(folder)
    write_settings(folder, max_tokens=max_tokens, normalized=True, dimension=config.hidden_size)
    if family == "qwen3":
        pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_lasttoken": True}
        write_json(folder / "1_Pooling" / "config.json", pooling)
    shapes = _shapes(config)
    generator = torch.Generator().manual_seed(0)
    middle = 0 if family == "gemma3" else 1  # Gemma stores how much a norm's weight is above 1
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        fitted = noise / math.sqrt(shape[-1]) if len(shape) > 1 else middle + 0.1 * noise
        weights[name] = fitted.to(torch.bfloat16)
    save_file(weights, folder / "model.safetensors", METADATA)
    return 4 * sum(map(math.prod, shapes.values()))


def _shapes(config: PretrainedConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return {name: weight.shape for name, weight in model.state_dict().items()}
