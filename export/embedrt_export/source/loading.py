"""Loads a model's encoder in torch, in float32 and without custom code."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from embedrt.errors import UnsupportedModelError
from embedrt_export.quiet import gist, quiet

# A model's files may name kernels that transformers would download and run, and transformers 5
# computes in the dtype of the weights by default.
MODEL_OPTIONS: dict[str, Any] = {
    "attn_implementation": "eager",
    "use_kernels": False,
    "dtype": torch.float32,
}

# sentence-transformers runs only the encoder of these encoder-decoders: class by model type.
ENCODERS = {
    "blenderbot": "models.blenderbot.modeling_blenderbot.BlenderbotEncoder",
    "blenderbot-small": "models.blenderbot_small.modeling_blenderbot_small.BlenderbotSmallEncoder",
    "longt5": "LongT5EncoderModel",
    "m2m_100": "models.m2m_100.modeling_m2m_100.M2M100Encoder",
    "marian": "models.marian.modeling_marian.MarianEncoder",
    "mt5": "MT5EncoderModel",
    "pegasus": "models.pegasus.modeling_pegasus.PegasusEncoder",
    "pegasus_x": "models.pegasus_x.modeling_pegasus_x.PegasusXEncoder",
    "prophetnet": "ProphetNetEncoder",
    "switch_transformers": "SwitchTransformersEncoderModel",
    "t5": "T5EncoderModel",
    "t5gemma": "T5GemmaEncoderModel",
    "umt5": "UMT5EncoderModel",
}


def load_encoder(folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """Load the encoder in `folder` for inference, with a copy of `config`.

    The class is the one that sentence-transformers takes.

    Raises UnsupportedModelError if transformers cannot load it or initializes a weight randomly.
    """
    try:
        with quiet():
            encoder, info = class_of(config).from_pretrained(
                folder,
                config=_encoder_config(config),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **MODEL_OPTIONS,
            )
    except Exception as error:  # malformed files raise any kind
        raise UnsupportedModelError(
            f"transformers does not load {folder}: {mismatch(folder, error) or gist(error)}"
            f"{upgrade_advice(folder)}"
        ) from error
    wrong = {name for name in info["missing_keys"] if "pooler" not in name}
    wrong |= {str(key) for key in info["mismatched_keys"]}
    if wrong:
        raise UnsupportedModelError(f"the weights in {folder} lack {', '.join(sorted(wrong)[:5])}")
    loaded: PreTrainedModel = encoder.eval()
    return loaded


def mismatch(folder: Path, error: Exception) -> str | None:
    """Return the tensor whose shape is not that of ``config.json``; None for another error.

    transformers 5 names it in a log record only, and transformers 4 does not say where it belongs.
    """
    if all(sign not in str(error) for sign in ("ignore_mismatched_sizes", "size mismatch")):
        return None
    with suppress(Exception), quiet(errors=True):  # the first error is reported then
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        named = getattr(transformers, str((config.architectures or [""])[0]), None)
        for kind in filter(None, (class_of(config), named)):
            _, info = kind.from_pretrained(
                folder,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            if found := min(info["mismatched_keys"], default=None):
                remedy = "Correct config.json, or take both files from one model"
                return f"{_shapes(found, error)}. {remedy}"
    return None


def _shapes(found: str | tuple[str, Any, Any], error: Exception) -> str:
    if isinstance(found, str):  # from transformers 4, whose error has the shapes
        return f"{found}: {gist(error)}"
    name, stored, configured = found
    return f"{name} has the shape {tuple(stored)}, and config.json says {tuple(configured)}"


def load_original(folder: Path, **model_options: Any) -> SentenceTransformer:
    """Load a model in sentence-transformers, on the CPU and without custom code.

    Exceptions of sentence-transformers propagate: malformed files raise any kind.
    """
    with quiet():
        return SentenceTransformer(str(folder), **_options(model_options))


def load_cross_encoder(folder: Path, **model_options: Any) -> CrossEncoder:
    """Load a cross-encoder as `load_original` loads a model of embeddings."""
    with quiet():
        model: CrossEncoder = CrossEncoder(str(folder), **_options(model_options))
        return model


def load_sparse_encoder(folder: Path, **model_options: Any) -> SparseEncoder:
    """Load a sparse encoder as `load_original` loads a model of embeddings."""
    with quiet():
        return SparseEncoder(str(folder), **_options(model_options))


def load_multi_vector_encoder(folder: Path, **model_options: Any) -> Any:
    """Load a late interaction model as `load_original` loads a model of embeddings.

    Raises RuntimeError for versions of sentence-transformers that have no such models.
    """
    found = getattr(sentence_transformers, "MultiVectorEncoder", None)
    if found is None:
        raise RuntimeError("late interaction models need sentence-transformers 6: upgrade it")
    with quiet():
        return found(str(folder), **_options(model_options))


def _options(model_options: dict[str, Any]) -> dict[str, Any]:
    return {
        "device": "cpu",
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": model_options,
    }


def class_of(config: PretrainedConfig) -> Any:
    """Return the class that sentence-transformers loads for an encoder."""
    path = ENCODERS.get(config.model_type)
    if path is None:
        return AutoModel
    module, _, name = f"transformers.{path}".rpartition(".")
    return getattr(import_module(module), name)


def _encoder_config(config: PretrainedConfig) -> PretrainedConfig:
    copied = copy.deepcopy(config)
    if config.model_type in ENCODERS:
        copied.is_encoder_decoder = False
    return copied


def upgrade_advice(folder: Path) -> str:
    """Return a hint for error messages if the model in `folder` needs a newer transformers.

    The hint is empty unless a later major version than the installed one saved the model.
    """
    saved_by = max(map(_saved_by, folder.rglob("*config.json")), default=0)
    if saved_by <= _major(transformers.__version__):
        return ""
    return (
        f". It was saved by transformers {saved_by}, newer than the installed "
        f"{transformers.__version__}: pip install --upgrade transformers sentence-transformers"
    )


def _saved_by(file: Path) -> int:
    """Return the major version of transformers that wrote a settings file; 0 if unknown."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return 0
    if not isinstance(content, dict):
        return 0
    named_backend = content.get("tokenizer_class") == "TokenizersBackend"
    if named_backend or isinstance(content.get("extra_special_tokens"), list):
        return 5  # tokenizer_config.json does not record the version
    return _major(str(content.get("transformers_version", "")))


def _major(version: str) -> int:
    major = version.partition(".")[0]
    return int(major) if major.isdecimal() else 0
