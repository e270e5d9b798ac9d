"""Tests that every file that the libraries access is downloaded, from recorded loads of models."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Dense
from sentencepiece import SentencePieceTrainer

from embedrt_export.source import needed_files
from model_folders import HIDDEN, TRAINING_TEXTS, make_small, write_json

FOLDERS = {"additional_chat_templates"}  # chat templates, which encoders do not need
SENTENCEPIECE = {
    "spm.model": "DebertaV2Tokenizer",
    "sentencepiece.model": "RemBertTokenizer",
    "spiece.model": "AlbertTokenizer",
    "sentencepiece.bpe.model": "XLMRobertaTokenizer",
}


def make_models(parent: Path) -> dict[str, Path]:
    """Make models whose settings, tokenizers and weights are in files of different names."""
    models = {"bert": make_small(parent / "bert", "bert")}

    models["vocab.txt"] = copy(models["bert"], "vocabulary")
    (models["vocab.txt"] / "tokenizer.json").unlink()

    models["merges.txt"] = make_small(parent / "bpe", "roberta")
    vocabulary = json.loads((models["merges.txt"] / "tokenizer.json").read_text(encoding="utf-8"))[
        "model"
    ]
    (models["merges.txt"] / "tokenizer.json").unlink()
    write_json(models["merges.txt"] / "vocab.json", vocabulary["vocab"])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in vocabulary["merges"]]
    (models["merges.txt"] / "merges.txt").write_text("\n".join(merges), encoding="utf-8")
    write_json(
        models["merges.txt"] / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"}
    )

    for file, kind in SENTENCEPIECE.items():
        models[file] = copy(models["bert"], kind)
        for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
            (models[file] / name).unlink(missing_ok=True)
        write_json(models[file] / "tokenizer_config.json", {"tokenizer_class": kind})
        (models[file] / file).write_bytes(sentencepiece_model())

    models["0_Transformer"] = old_layout(parent / "old")
    return models


def copy(model: Path, name: str) -> Path:
    return Path(shutil.copytree(model, model.with_name(name)))


def sentencepiece_model() -> bytes:
    trained = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXTS[:2] * 5),
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        unk_id=3,
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        pad_piece="[PAD]",
        unk_piece="[UNK]",
    )
    return trained.getvalue()


def old_layout(folder: Path) -> Path:
    """Make a model with the transformer in a subfolder and a Dense module in torch's format."""
    make_small(folder, "bert", tail=[Dense(HIDDEN, 16)])
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            file.rename(inner / file.name)
    (inner / "sentence_bert_config.json").rename(inner / "sentence_roberta_config.json")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["path"] = "0_Transformer"
    write_json(folder / "modules.json", modules)
    dense = folder / "2_Dense" / "model.safetensors"
    torch.save(Dense(HIDDEN, 16).state_dict(), dense.with_name("pytorch_model.bin"))
    dense.unlink()
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def wanted(models: Mapping[str, Path]) -> dict[str, set[str]]:
    """The names of the files that the libraries accessed, by model."""
    run = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "loading.py", *models.values()],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    asked = json.loads(run.stdout.splitlines()[-1])
    return {name: set(asked[str(folder)]) for name, folder in models.items()}


def test_nothing_else_is_wanted(models: Mapping[str, Path], wanted: Mapping[str, set[str]]) -> None:
    """Every file that the libraries access is downloaded if the hub has it."""
    for name, folder in models.items():
        files = {path for path in wanted[name] - FOLDERS if not (folder / path).is_dir()}
        assert sorted(path for path in files if not needed_files([path])) == []


@pytest.mark.parametrize(
    ("model", "read"),
    [
        ("bert", {"modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json"}),
        ("vocab.txt", {"vocab.txt", "tokenizer_config.json"}),
        ("merges.txt", {"vocab.json", "merges.txt"}),
        ("0_Transformer", {"0_Transformer/sentence_roberta_config.json"}),
        ("0_Transformer", {"0_Transformer/tokenizer.json", "2_Dense/pytorch_model.bin"}),
        *((file, {file}) for file in SENTENCEPIECE),
    ],
)
def test_the_record_is_complete(
    models: Mapping[str, Path], wanted: Mapping[str, set[str]], model: str, read: set[str]
) -> None:
    """The record is complete: it contains the files that each model cannot be loaded without."""
    assert read <= wanted[model]
    weights = {"model.safetensors", "0_Transformer/model.safetensors"}
    assert weights & wanted[model]
    assert {PurePosixPath(path).name for path in wanted[model]} > {"config.json", "modules.json"}
    assert (models[model] / min(read)).is_file()
