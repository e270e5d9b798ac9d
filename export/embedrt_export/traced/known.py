"""The architectures that can, or cannot, be traced, by model type.

Architectures that cannot be traced are refused at once, with the cause. Unknown ones are tried.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PretrainedConfig

from embedrt.errors import UnsupportedModelError

ELSEWHERE = "Use sentence-transformers for it, or another model"

TRACED = frozenset(
    """
    bart bert-generation big_bird biogpt bloom clip_text_model codegen cohere cohere2 convbert
    deberta deberta-v2 esm exaone exaone4 falcon flaubert fnet gemma gemma2 glm gpt2
    gpt_bigcode gpt_neox gptj granite helium ibert layoutlm luke megatron-bert mobilebert
    modernbert-decoder mpt mra nemotron nystromformer olmo olmo2 openai-gpt opt persimmon phi
    phi3 roberta-prelayernorm smollm3 squeezebert xlm xlnet
    """.split()
)
"""Each is exported in the tests."""

_CHUNKS = "its attention works on chunks, whose number depends on the text"
_RECURRENT = "it reads a text token by token"
UNTRACEABLE = {
    "canine": "it reads characters, without a vocabulary",
    "falcon_mamba": _RECURRENT,
    "fsmt": "its forward depends on the values of the token ids",
    "led": _CHUNKS,
    "longformer": _CHUNKS,
    "longt5": _CHUNKS,
    "mamba": _RECURRENT,
    "mamba2": _RECURRENT,
    "recurrent_gemma": _RECURRENT,
    "rwkv": _RECURRENT,
}
"""Cause by model type."""

# The number of experts, by the names that configs use.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def refuse_untraceable(folder: Path, config: PretrainedConfig) -> None:
    """Raise UnsupportedModelError if the config tells that the model cannot be traced."""
    cause = UNTRACEABLE.get(config.model_type)
    if cause is None and not hasattr(config, "vocab_size"):
        cause = "it has no vocabulary, and so takes no texts"
    experts = getattr(config, "is_moe", True)  # Doge has a number of them without using any
    if experts and any((getattr(config, name, None) or 0) > 1 for name in _EXPERTS):
        cause = "it is a mixture of experts, and each token runs through different experts"
    if cause:
        raise UnsupportedModelError(
            f"{folder} has the architecture {config.model_type}, which cannot be converted to a "
            f"graph: {cause}. {ELSEWHERE}"
        )
