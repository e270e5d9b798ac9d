"""The masked-LM heads of the encoder families.

Each reader maps the tensor names of a ``*ForMaskedLM`` checkpoint to a `MaskedHead`. As in
transformers, the decoder is the table of word embeddings unless the checkpoint has a decoder of its
own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from transformers import PretrainedConfig

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import ACTIVATIONS, FloatArray
from embedrt_export.families.distilbert import EPSILON
from embedrt_export.families.shapes import require_shape
from embedrt_export.masked import MaskedHead
from embedrt_export.source.checkpoint import Tensors
from embedrt_export.source.model import SparseSettings

Reader = Callable[[PretrainedConfig, Tensors, FloatArray], MaskedHead]


def read_masked_head(
    config: PretrainedConfig, tensors: Tensors, words: FloatArray, settings: SparseSettings
) -> MaskedHead:
    """Return the masked-LM head of a checkpoint with the word embeddings `words`.

    Raises UnsupportedModelError if the family's heads are unknown or the weights do not match.
    """
    reader = READERS.get(config.model_type)
    if reader is None:
        raise UnsupportedModelError(
            f"embedrt does not export sparse encoders of the architecture {config.model_type}; it "
            f"exports those of {', '.join(sorted(READERS))}"
        )
    head = reader(config, tensors, words)
    require_shape("the decoder's bias", head.bias, (len(head.decoder),))
    require_shape("the decoder", head.decoder, (len(head.bias), len(head.norm.weight)))
    table = settings.queries
    if table is not None and len(table.weights) != head.vocabulary:
        raise UnsupportedModelError(
            f"{table.folder} has weights for {len(table.weights)} tokens, and documents have "
            f"{head.vocabulary}: the two are not of one vocabulary"
        )
    return replace(
        head, pooling=settings.pooling, query_weights=None if table is None else table.weights
    )


def _read_bert(config: PretrainedConfig, tensors: Tensors, words: FloatArray) -> MaskedHead:
    weights = tensors.under("cls.predictions.")
    return MaskedHead(
        dense=weights.linear("transform.dense"),
        activation=ACTIVATIONS[config.hidden_act],
        norm=weights.norm("transform.LayerNorm", config.layer_norm_eps),
        decoder=_decoder(config, weights, "decoder", words),
        bias=_bias(weights, "decoder.bias", "bias"),
    )


def _read_distilbert(config: PretrainedConfig, tensors: Tensors, words: FloatArray) -> MaskedHead:
    return MaskedHead(
        dense=tensors.linear("vocab_transform"),
        activation=ACTIVATIONS[config.activation],
        norm=tensors.norm("vocab_layer_norm", EPSILON),
        decoder=_decoder(config, tensors, "vocab_projector", words),
        bias=_bias(tensors, "vocab_projector.bias"),
    )


def _read_roberta(config: PretrainedConfig, tensors: Tensors, words: FloatArray) -> MaskedHead:
    weights = tensors.under("lm_head.")
    return MaskedHead(
        dense=weights.linear("dense"),
        activation="gelu",  # a constant in transformers, independent of the config
        norm=weights.norm("layer_norm", config.layer_norm_eps),
        decoder=_decoder(config, weights, "decoder", words),
        bias=_bias(weights, "decoder.bias", "bias"),
    )


def _read_electra(config: PretrainedConfig, tensors: Tensors, words: FloatArray) -> MaskedHead:
    return MaskedHead(
        dense=tensors.linear("generator_predictions.dense"),
        activation="gelu",  # a constant too
        norm=tensors.norm("generator_predictions.LayerNorm", config.layer_norm_eps),
        decoder=_decoder(config, tensors, "generator_lm_head", words),
        bias=_bias(tensors, "generator_lm_head.bias"),
    )


def _read_modernbert(config: PretrainedConfig, tensors: Tensors, words: FloatArray) -> MaskedHead:
    decoder = _decoder(config, tensors, "decoder", words)
    activation = config.classifier_activation
    if activation not in ACTIVATIONS:
        raise UnsupportedModelError(
            f"its classifier_activation {activation} is not one of {', '.join(ACTIVATIONS)}"
        )
    biased = config.decoder_bias
    return MaskedHead(
        dense=tensors.linear("head.dense", bias=config.classifier_bias),
        activation=ACTIVATIONS[activation],
        norm=tensors.norm("head.norm", config.norm_eps, bias=config.norm_bias),
        decoder=decoder,
        bias=_bias(tensors, "decoder.bias") if biased else np.zeros(len(decoder), np.float32),
    )


READERS: dict[str, Reader] = {
    "bert": _read_bert,
    "camembert": _read_roberta,
    "data2vec-text": _read_roberta,
    "distilbert": _read_distilbert,
    "electra": _read_electra,
    "ernie": _read_bert,
    "modernbert": _read_modernbert,
    "mpnet": _read_roberta,
    "roberta": _read_roberta,
    "roformer": _read_bert,
    "xlm-roberta": _read_roberta,
}


def _decoder(
    config: PretrainedConfig, weights: Tensors, name: str, words: FloatArray
) -> FloatArray:
    """Return the decoder: the word embeddings if none is stored and the config ties the two."""
    stored = weights.has(f"{name}.weight") or not getattr(config, "tie_word_embeddings", True)
    return weights.table(name) if stored else words


def _bias(weights: Tensors, *names: str) -> FloatArray:
    """Return the first of these biases that is stored; transformers ties those of one layer."""
    stored = next((name for name in names if weights.has(name)), names[-1])
    return weights.array(stored, axes=1)
