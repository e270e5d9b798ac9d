"""NomicBERT, GTE and Jina v3: BERT with rotary positions, two of them with a gated feed-forward.

Their checkpoints have the names of transformers 5, or those of the authors' own code, whose
projections are packed; transformers renames and unpacks the latter in the same way.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from embedrt_export.encoder import ACTIVATIONS, Encoder, Layer, Lazy, Linear, Norms, Rotation
from embedrt_export.families.rotations import tabulate
from embedrt_export.source.checkpoint import Tensors

PREFIXES = {
    "gte": ("gte.", "new."),
    "jina_embeddings_v3": ("roberta.",),
    "nomic_bert": ("nomic_bert.",),
}
# Parts of the authors' names, and of transformers'.
RENAMED = {
    "encoder.layers.": "layers.",
    "encoder.layer.": "layers.",
    "emb_ln.": "embeddings.LayerNorm.",
    ".attn.Wqkv.": ".self_attn.qkv_proj.",
    ".mixer.Wqkv.": ".self_attn.qkv_proj.",
    ".attention.qkv_proj.": ".self_attn.qkv_proj.",
    ".attn.out_proj.": ".self_attn.o_proj.",
    ".mixer.out_proj.": ".self_attn.o_proj.",
    ".attention.o_proj.": ".self_attn.o_proj.",
    ".norm1.": ".post_attention_layernorm.",
    ".attn_ln.": ".post_attention_layernorm.",
    ".norm2.": ".post_mlp_layernorm.",
    ".mlp_ln.": ".post_mlp_layernorm.",
}
NOMIC_FEED_FORWARD = {
    ".mlp.fc11.": ".mlp.up_proj.",
    ".mlp.fc12.": ".mlp.gate_proj.",
    ".mlp.fc2.": ".mlp.down_proj.",
}


def read(config: PretrainedConfig, tensors: Tensors) -> Encoder:
    """Map a checkpoint of any of the three families."""
    weights = tensors.under(*PREFIXES[config.model_type]).renamed(RENAMED)
    if config.model_type == "nomic_bert":
        weights = weights.renamed(NOMIC_FEED_FORWARD)
    rotary: Any = LlamaRotaryEmbedding  # the computation is the same in all of these families
    rotation = tabulate(rotary, config, config.max_position_embeddings)
    types = "embeddings.token_type_embeddings"
    return Encoder(
        word_embeddings=weights.table("embeddings.word_embeddings"),
        token_types=weights.table(types) if config.type_vocab_size else None,
        embedding_norm=weights.norm("embeddings.LayerNorm", config.layer_norm_eps),
        layers=Lazy(
            config.num_hidden_layers,
            lambda index: _read_layer(weights, config, f"layers.{index}", rotation),
        ),
        heads=config.num_attention_heads,
        head_size=getattr(config, "head_dim", None),
        activation=ACTIVATIONS[config.hidden_act],
    )


def _read_layer(weights: Tensors, config: PretrainedConfig, name: str, rotation: Rotation) -> Layer:
    biased = config.model_type != "nomic_bert"
    query, key, value = _projections(weights, f"{name}.self_attn", biased=biased)
    epsilon = config.layer_norm_eps
    gate, up, down = _feed_forward(weights, f"{name}.mlp", config.model_type)
    return Layer(
        query=query,
        key=key,
        value=value,
        attention_output=weights.linear(f"{name}.self_attn.o_proj", bias=biased),
        attention_norms=Norms(after=weights.norm(f"{name}.post_attention_layernorm", epsilon)),
        rotation=rotation,
        gate=gate,
        up=up,
        down=down,
        feed_forward_norms=Norms(after=weights.norm(f"{name}.post_mlp_layernorm", epsilon)),
    )


def _projections(weights: Tensors, name: str, *, biased: bool) -> list[Linear]:
    """Return the projections of queries, keys and values."""
    if weights.has(f"{name}.qkv_proj.weight"):
        return weights.linear(f"{name}.qkv_proj", bias=biased).split(3)
    return [weights.linear(f"{name}.{part}_proj", bias=biased) for part in "qkv"]


def _feed_forward(weights: Tensors, name: str, family: str) -> tuple[Linear | None, Linear, Linear]:
    """Return the gate, if there is one, and the two layers of a feed-forward layer."""
    if family == "jina_embeddings_v3":
        return None, weights.linear(f"{name}.fc1"), weights.linear(f"{name}.fc2")
    if weights.has(f"{name}.up_gate_proj.weight"):
        up, gate = weights.linear(f"{name}.up_gate_proj", bias=False).split(2)
    else:
        up = weights.linear(f"{name}.up_proj", bias=False)
        gate = weights.linear(f"{name}.gate_proj", bias=False)
    return gate, up, weights.linear(f"{name}.down_proj", bias=family == "gte")
