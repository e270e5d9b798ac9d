"""ModernBERT: norms before, gated feed-forward, rotary positions; most layers attend locally.

Warner et al. 2024, arXiv:2412.13663. The encoder of gte-modernbert, ModernBERT-embed and granite.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Norm, Norms, Rotation
from embedrt_export.families.rotations import BY_KIND, tabulate
from embedrt_export.source.checkpoint import Tensors

GLOBAL, LOCAL = "full_attention", "sliding_attention"


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a ModernBERT checkpoint."""
    weights = tensors.under("model.")
    kinds = _kinds(config)
    rotations = {kind: _rotation(config, kind) for kind in sorted(set(kinds))}
    return Encoder(
        word_embeddings=weights.table("embeddings.tok_embeddings"),
        embedding_norm=_norm(weights, "embeddings.norm", config),
        layers=Lazy(
            len(kinds),
            lambda index: _read_layer(
                weights, config, index, kinds[index], rotations[kinds[index]]
            ),
        ),
        final_norm=_norm(weights, "final_norm", config),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS[config.hidden_activation],
    )


def _kinds(config: PretrainedConfig) -> list[str]:
    """Return the kind of each layer's attention; in transformers 4, a rule determines it."""
    layers = config.num_hidden_layers
    listed: list[str] | None = getattr(config, "layer_types", None)
    if listed is not None:
        return listed[:layers]
    step = config.global_attn_every_n_layers
    return [LOCAL if index % step else GLOBAL for index in range(layers)]


def _rotation(config: PretrainedConfig, kind: str) -> Rotation:
    """Return the rotation of the layers of one kind, which has a base frequency of its own."""
    positions = config.max_position_embeddings
    if BY_KIND:
        # Imported here, because the module of transformers 4 starts torch's compiler.
        from transformers.models.modernbert import modeling_modernbert  # noqa: PLC0415

        rotary: Any = modeling_modernbert.ModernBertRotaryEmbedding
        return tabulate(rotary, config, positions, layer_type=kind)
    config = copy.deepcopy(config)
    local = config.local_rope_theta if kind == LOCAL else None
    config.rope_theta = config.global_rope_theta if local is None else local
    rotary = LlamaRotaryEmbedding
    return tabulate(rotary, config, positions)


def _read_layer(
    weights: Tensors, config: PretrainedConfig, index: int, kind: str, rotation: Rotation
) -> Layer:
    name = f"layers.{index}"
    bias = config.attention_bias
    query, key, value = weights.linear(f"{name}.attn.Wqkv", bias=bias).split(3)
    gate, up = weights.linear(f"{name}.mlp.Wi", bias=config.mlp_bias).split(2)
    return Layer(
        query=query,
        key=key,
        value=value,
        attention_output=weights.linear(f"{name}.attn.Wo", bias=bias),
        # The first layer reads the embeddings, which are normalized already.
        attention_norms=Norms(
            before=_norm(weights, f"{name}.attn_norm", config) if index else None
        ),
        rotation=rotation,
        reach=config.local_attention // 2 if kind == LOCAL else None,
        gate=gate,
        up=up,
        down=weights.linear(f"{name}.mlp.Wo", bias=config.mlp_bias),
        feed_forward_norms=Norms(before=_norm(weights, f"{name}.mlp_norm", config)),
    )


def _norm(weights: Tensors, name: str, config: PretrainedConfig) -> Norm:
    return weights.norm(name, config.norm_eps, bias=config.norm_bias)
