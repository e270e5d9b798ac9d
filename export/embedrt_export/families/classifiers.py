"""The classifiers of the families: the modules after an encoder that score a text or pair.

Each classifier is a pooling, optional inner layers, and a linear layer to the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PretrainedConfig

from embedrt.errors import UnsupportedModelError
from embedrt_export.head import Dense, DenseActivation, Head, LayerNorm, Pooling
from embedrt_export.source.checkpoint import Tensors

ReadClassifier = Callable[[PretrainedConfig, Tensors], Head]

FIRST = Pooling(modes=("cls",))

# The activations of configs that a head can compute.
BY_NAME: dict[str, DenseActivation] = {
    "gelu": "GELU",
    "gelu_python": "GELU",
    "relu": "ReLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "linear": "Identity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The names of a classifier's layers on the first token: inner, activated, and last."""

    inner: str
    activation: DenseActivation = "Tanh"
    last: str = "classifier"

    def __call__(self, _: PretrainedConfig, tensors: Tensors) -> Head:
        """Read the head."""
        return (
            FIRST,
            _dense(tensors, self.inner, self.activation),
            _dense(tensors, self.last, "Identity"),
        )


PROJECTED = Layers(inner="classifier.dense", last="classifier.out_proj")


def _read_electra(config: PretrainedConfig, tensors: Tensors) -> Head:
    gelu = Layers(inner="classifier.dense", activation="GELU", last="classifier.out_proj")
    return gelu(config, tensors)


def _read_roformer(config: PretrainedConfig, tensors: Tensors) -> Head:
    activation = _by_name(config.hidden_act)
    layers = Layers(inner="classifier.dense", activation=activation, last="classifier.out_proj")
    return layers(config, tensors)


def _read_deberta(config: PretrainedConfig, tensors: Tensors) -> Head:
    activation = _by_name(config.pooler_hidden_act)
    return Layers(inner="pooler.dense", activation=activation)(config, tensors)


def _read_modernbert(config: PretrainedConfig, tensors: Tensors) -> Head:
    mode = config.classifier_pooling
    if mode not in ("cls", "mean"):
        raise UnsupportedModelError(f"config.json sets classifier_pooling to {mode!r}")
    dense = _dense(
        tensors, "head.dense", _by_name(config.classifier_activation), bias=config.classifier_bias
    )
    norm = tensors.norm("head.norm", config.norm_eps, bias=config.norm_bias)
    last = _dense(tensors, "classifier", "Identity")
    return Pooling(modes=(mode,)), dense, LayerNorm(name="head.norm", norm=norm), last


CLASSIFIERS: dict[str, ReadClassifier] = {
    "albert": Layers(inner="albert.pooler"),
    "bert": Layers(inner="bert.pooler.dense"),
    "camembert": PROJECTED,
    "data2vec-text": PROJECTED,
    "deberta": _read_deberta,
    "deberta-v2": _read_deberta,
    "distilbert": Layers(inner="pre_classifier", activation="ReLU"),
    "electra": _read_electra,
    "ernie": Layers(inner="ernie.pooler.dense"),
    "modernbert": _read_modernbert,
    "mpnet": PROJECTED,
    "rembert": Layers(inner="rembert.pooler.dense"),
    "roberta": PROJECTED,
    "roformer": _read_roformer,
    "xlm-roberta": PROJECTED,
    "xlm-roberta-xl": PROJECTED,
}


def read_classifier(config: PretrainedConfig, tensors: Tensors) -> Head:
    """Return the classifier of a cross-encoder.

    Raises UnsupportedModelError if the family's is not known, or its weights do not fit the config.
    """
    reader = CLASSIFIERS.get(config.model_type)
    if reader is None:
        raise UnsupportedModelError(
            f"the classifier of the architecture {config.model_type} is not among those that "
            f"embedrt exports as rerankers: {', '.join(sorted(CLASSIFIERS))}. Use "
            "sentence-transformers for this model"
        )
    head = reader(config, tensors)
    last = head[-1]
    assert isinstance(last, Dense)
    if last.outputs != config.num_labels:
        raise UnsupportedModelError(
            f"config.json has {config.num_labels} labels, and the weights of {last.name} have "
            f"{last.outputs}: the weights and config.json are not those of one model"
        )
    return head


def _dense(tensors: Tensors, name: str, activation: DenseActivation, *, bias: bool = True) -> Dense:
    return Dense(name=name, linear=tensors.linear(name, bias=bias), activation=activation)


def _by_name(name: str) -> DenseActivation:
    if name not in BY_NAME:
        raise UnsupportedModelError(
            f"its classifier's activation {name} is not one of {', '.join(sorted(BY_NAME))}"
        )
    return BY_NAME[name]
