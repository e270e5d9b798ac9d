"""Reads a model's head: the modules after its transformer, with their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.head import (
    EMBEDDING,
    Dense,
    DenseActivation,
    HeadModule,
    Input,
    LayerNorm,
    Normalize,
    Pooling,
)
from embedrt_export.source.checkpoint import Tensors, load_tensors
from embedrt_export.source.checks import JsonObject, check_object
from embedrt_export.source.keys import HEAD, WITHOUT_CONFIG
from embedrt_export.source.modules import Module

LAYER_NORM_EPSILON = 1e-5  # torch's default, which the module uses
DEFAULT_ACTIVATION = "torch.nn.modules.activation.Tanh"

# The switches of configs written before sentence-transformers 5.7, in the order of concatenation.
POOLING_SWITCHES: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING_NAMES: dict[str, PoolingMode] = {"mean_sqrt_len_tokens": "mean_sqrt_len"}


def check_head(folder: Path, modules: Sequence[Module]) -> list[str]:
    """Return all reasons why the modules after the transformer cannot be exported."""
    reasons = check_modules(folder, modules)
    active = [module for module in modules if module.kind != "Dropout"]
    if [module.kind for module in active].count("Pooling") != 1 or active[0].kind != "Pooling":
        reasons.append("its transformer is not followed by one Pooling")
    return reasons


def check_modules(folder: Path, modules: Sequence[Module]) -> list[str]:
    """Return all reasons why modules after the first cannot be exported, each by itself."""
    reasons = [
        f"its module {module.kind} is not one of {', '.join(sorted(HEAD))}"
        for module in modules
        if module.kind not in HEAD
    ]
    for module in modules:
        if module.kind in HEAD:
            _require_config(module)
            table = HEAD[module.kind]
            reasons += check_object(folder, module.config_file, module.config, table)
    for module in modules:
        if module.kind == "Pooling":
            reasons += _check_modes(pooling_modes(module.config))
        elif module.kind == "Dense" and _activation(module.config) is None:
            reasons.append(
                f"{module.config_file.relative_to(folder)} sets activation_function to "
                f"{module.config['activation_function']}, which is not one of torch's "
                f"{', '.join(get_args(DenseActivation))}"
            )
    return reasons


def _require_config(module: Module) -> None:
    """Raise SourceError if a module has no settings, and sentence-transformers needs them."""
    if not module.config and module.kind not in WITHOUT_CONFIG:
        raise SourceError(
            f"{module.config_file} is missing or empty: it has the settings of the module "
            f"{module.kind}. Copy the model again, with all folders that modules.json names"
        )


def _check_modes(modes: Sequence[str]) -> list[str]:
    if not modes:
        return ["its pooling has no mode"]
    unknown = [mode for mode in modes if mode not in get_args(PoolingMode)]
    return [f"its pooling {', '.join(unknown)} is unknown"] if unknown else []


def pooling_modes(config: JsonObject) -> tuple[PoolingMode, ...]:
    """Return the pooling modes of a module, in the order of concatenation."""
    modes = config.get("pooling_mode")
    if modes is None:
        switched = tuple(mode for key, mode in POOLING_SWITCHES.items() if config.get(key))
        return switched or ("mean",)
    modes = [modes] if isinstance(modes, str) else modes
    return tuple(POOLING_NAMES.get(mode, mode) for mode in modes)


def read_head_module(module: Module) -> HeadModule | None:
    """Return a checked module as data; None for Dropout, which has no effect in inference.

    Raises UnsupportedModelError or SourceError if its weights do not match its config.
    """
    match module.kind:
        case "Pooling":
            return Pooling(
                modes=pooling_modes(module.config),
                includes_prompt=module.config.get("include_prompt", True),
            )
        case "Dense":
            return _read_dense(module)
        case "LayerNorm":
            norm = load_tensors(module.path).norm("norm", LAYER_NORM_EPSILON)
            _require_size(module, "dimension", norm.weight.shape[0])
            return LayerNorm(name=module.path.name, norm=norm)
        case "Normalize":
            return Normalize()
    return None


def _read_dense(module: Module) -> Dense:
    config, tensors = module.config, load_tensors(module.path)
    linear = tensors.linear("linear", bias=config.get("bias", True))
    inputs, outputs = linear.weight.shape
    _require_size(module, "in_features", inputs)
    _require_size(module, "out_features", outputs)
    reads = config.get("module_input_name", EMBEDDING)
    activation = _activation(config)
    assert activation is not None
    return Dense(
        name=module.path.name,
        linear=linear,
        activation=activation,
        residual=_read_residual(module, tensors, linear),
        reads=reads,
        writes=config.get("module_output_name") or reads,
    )


def _read_residual(module: Module, tensors: Tensors, linear: Linear) -> FloatArray | Input | None:
    """Return the residual connection of a Dense module; None if it has none."""
    if not module.config.get("use_residual", False):
        return None
    if linear.weight.shape[0] == linear.weight.shape[1]:
        return "input"
    return tensors.linear("residual", bias=False).weight


def _activation(config: JsonObject) -> DenseActivation | None:
    """Return the activation; None if it is not torch's or if graphs do not support it."""
    path = config.get("activation_function", DEFAULT_ACTIVATION)
    kind = path.rpartition(".")[2]
    known = path.startswith("torch.") and kind in get_args(DenseActivation)
    return kind if known else None


def _require_size(module: Module, key: str, found: int) -> None:
    expected = module.config.get(key, found)
    if expected != found:
        raise UnsupportedModelError(
            f"{module.config_file} sets {key} to {expected}, but the weights beside it have {found}"
        )
