"""Creates late interaction models with sentence-transformers: random weights, real tokenizers."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers.base.modules import Transformer
from torch import nn

from model_folders import HIDDEN, randomize, small_config, tokenizer_for, write_json

PYLATE_DENSE = "pylate.models.Dense.Dense"
WIDTH = 24  # components of a token's vector


def make_late(
    folder: Path,
    family: str,
    *,
    expansion: Mapping[str, object] | None = None,
    query_length: int | None = None,
    document_length: int | None = 40,
    skipped: Sequence[str] = (),
    skipped_in: Sequence[str] = ("document",),
    normalized: bool = True,
    activation: nn.Module | None = None,
    max_tokens: int = 64,
    config: Mapping[str, object] | None = None,
    seed: int = 0,
    **saved: Any,
) -> Path:
    """Save a small model of a family with sentence-transformers; return its folder.

    `saved` are arguments of MultiVectorEncoder, such as prompts.
    """
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    encoder = folder.with_name(f"{folder.name}-encoder")
    encoder.mkdir(parents=True)
    tokenizer = tokenizer_for(family, encoder)
    tokenizer.save_pretrained(encoder)
    kinds: Any = transformers.AutoModel
    model = kinds.from_config(small_config(family, len(tokenizer), **(config or {})))
    randomize(model, seed)
    model.save_pretrained(encoder)
    with redirect_stderr(io.StringIO()):  # progress bars, where a test reads what was written
        transformer: Any = Transformer(
            str(encoder),
            max_seq_length=max_tokens,
            query_length=query_length,
            document_length=document_length,
            query_expansion=expansion,
        )
        torch.manual_seed(seed)
        dense = Dense(
            HIDDEN,
            WIDTH,
            bias=activation is not None,
            activation_function=activation or nn.Identity(),
            module_input_name="token_embeddings",
        )
        mask = MultiVectorMask(list(skipped), skiplist_tasks=list(skipped_in))
        modules: list[Any] = [transformer, dense, mask]
        if normalized:
            modules.append(Normalize("token_embeddings"))
        MultiVectorEncoder(modules=modules, device="cpu", **saved).save(
            str(folder), create_model_card=False
        )
    shutil.rmtree(encoder)
    return folder


def make_pylate(folder: Path, family: str, settings: Mapping[str, object], **options: Any) -> Path:
    """Save a small model of a family in the form of PyLate's files, with its `settings`."""
    make_late(folder, family, document_length=None, **options)
    transformer, dense, *_ = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    write_json(folder / "modules.json", [transformer, {**dense, "type": PYLATE_DENSE}])
    file = folder / dense["path"] / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, {key: value for key, value in config.items() if "module_" not in key})
    known = {"__version__": {}, "similarity_fn_name": "MaxSim", "model_type": "ColBERT"}
    given = {key: value for key, value in {**known, **settings}.items() if value is not None}
    write_json(folder / "config_sentence_transformers.json", given)
    return folder
