"""Activations of scores in numpy, by their names in torch.nn.

They are computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import ScoreActivation

FloatArray = NDArray[np.float32]
Wide = NDArray[np.float64]
Activation = Callable[[Any], Any]


def softmax(scores: Wide) -> Wide:
    """Return the softmax of each row. Shape: (n, labels)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    shares: Wide = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(scores: Wide) -> Wide:
    small = np.exp(-np.abs(scores))  # never overflows
    return np.where(scores >= 0, 1.0, small) / (1.0 + small)


def _softplus(scores: Wide) -> Wide:
    return np.where(scores > 20, scores, np.logaddexp(0.0, scores))  # as torch does


def _log_softmax(scores: Wide) -> Wide:
    shifted = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    logarithms: Wide = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


FUNCTIONS: dict[ScoreActivation, Callable[[Wide], Wide]] = {
    "Hardsigmoid": lambda scores: np.clip(scores / 6.0 + 0.5, 0.0, 1.0),
    "Identity": lambda scores: scores,
    "LogSigmoid": lambda scores: -np.logaddexp(0.0, -scores),
    "LogSoftmax": _log_softmax,
    "ReLU": lambda scores: np.maximum(scores, 0.0),
    "Sigmoid": _sigmoid,
    "Softmax": softmax,
    "Softplus": _softplus,
    "Tanh": np.tanh,
}


def activate(scores: FloatArray, activation: ScoreActivation | Activation) -> FloatArray:
    """Apply an activation, by its name or as a function of an array. Shape: (n, labels)."""
    if callable(activation):
        found = np.asarray(activation(scores), np.float32)
        if found.size != scores.size or found.shape[:1] != scores.shape[:1]:
            raise ValueError(
                f"activation_fn returns the shape {found.shape} for scores of the shape "
                f"{scores.shape}; expected the same"
            )
        return found.reshape(scores.shape)
    if activation == "Identity":
        return scores
    return FUNCTIONS[activation](scores.astype(np.float64)).astype(np.float32)


def choose_activation(own: ScoreActivation, chosen: object) -> ScoreActivation | Activation:
    """Return the activation that a caller chose, otherwise the model's `own`.

    The choice is a name, a module of torch.nn with such a name, or a function of an array. Raises
    ValueError for an unknown name or module, TypeError for anything else.
    """
    if chosen is None:
        return own
    of_torch = type(chosen).__module__.startswith("torch.")
    name = type(chosen).__name__ if of_torch else chosen
    if isinstance(name, str):
        found = next((known for known in FUNCTIONS if known == name), None)
        if found is None:
            raise ValueError(
                f"activation_fn={name!r}; expected one of {', '.join(FUNCTIONS)}, or a function of "
                "a numpy array"
            )
        return found
    if not callable(chosen):
        raise TypeError(f"activation_fn is a {type(chosen).__name__}; pass a name or a function")
    return chosen
