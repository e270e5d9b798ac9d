"""Tests of weights in every supported form, and of the forms that are refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Dense
from torch import nn
from transformers import AutoConfig

from comparison import Pair, assert_agrees
from embedrt import Bundle
from embedrt.errors import ExportError, SourceError, UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.families import READERS
from embedrt_export.source.checkpoint import load_tensors, weight_files
from model_folders import HIDDEN, METADATA, change_json, make_small, rename_weights

TEXTS = ["", "a", "How many people live in London?", "a lazy dog " * 30]

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with its weights in model.safetensors."""
    return make_small(tmp_path / "model", "bert")


def take_weights(folder: Path) -> Tensors:
    """Remove the weights from the folder and return them."""
    tensors: Tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return tensors


def save_safetensors(tensors: Tensors, file: Path) -> None:
    save_file(tensors, file, METADATA)


def save_shards(
    folder: Path, tensors: Tensors, name: str, save: Callable[[Tensors, Path], object]
) -> None:
    """Save every other tensor in each of two shards."""
    stem, _, suffix = name.partition(".")
    weight_map: dict[str, str] = {}
    for shard in (0, 1):
        file = f"{stem}-{shard + 1:05}-of-00002.{suffix}"
        part = dict(list(tensors.items())[shard::2])
        save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{name}.index.json").write_text(json.dumps(index), encoding="utf-8")


def save_as(folder: Path, form: str) -> list[str]:
    """Save the weights in another form; return the files that then contain them."""
    tensors = take_weights(folder)
    save = torch.save if form.endswith(".bin") else save_safetensors
    name = form.removeprefix("sharded ")
    if name == form:
        save(tensors, folder / name)
        return [name]
    save_shards(folder, tensors, name, save)
    stem, _, suffix = name.partition(".")
    return [f"{stem}-0000{shard}-of-00002.{suffix}" for shard in (1, 2)]


@pytest.mark.parametrize(
    "form", ["sharded model.safetensors", "pytorch_model.bin", "sharded pytorch_model.bin"]
)
def test_forms(folder: Path, tmp_path: Path, form: str) -> None:
    files = save_as(folder, form)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert list(Bundle.open(pair.bundle).manifest.source.weights) == files
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision(folder: Path, tmp_path: Path, form: str, kind: torch.dtype) -> None:
    tensors = take_weights(folder)
    save = torch.save if form.endswith(".bin") else save_safetensors
    save({name: tensor.to(kind) for name, tensor in tensors.items()}, folder / form)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


def test_parameters(folder: Path, tmp_path: Path) -> None:
    """A state dict made of a module's parameters, which torch would differentiate."""
    parameters = {name: nn.Parameter(tensor) for name, tensor in take_weights(folder).items()}
    torch.save(parameters, folder / "pytorch_model.bin")
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "mpnet", "roberta"])
@pytest.mark.parametrize("prefix", ["model.", "module.encoder."])
def test_encoder_inside_of_another_module(tmp_path: Path, family: str, prefix: str) -> None:
    """Its weights are not found by transformers, which initializes it randomly."""
    folder = make_small(tmp_path / "model", family)
    if (prefix, family) == ("model.", "modernbert"):
        prefix = "model.model."
    rename_weights(folder, lambda name: prefix + name)
    told = (
        rf"lack \S*embeddings\.\S+: they have {prefix}\S*, where transformers does not look .*Save"
    )
    with pytest.raises(UnsupportedModelError, match=told):
        export_model(str(folder), output=tmp_path / "bundle")


def test_safetensors_come_before_torch_files(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert weight_files(folder) == [folder / "model.safetensors"]


def test_weights_of_the_head_are_in_the_manifest(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 8)])
    bundle = Bundle.open(export_model(str(folder), output=tmp_path / "bundle"))
    assert set(bundle.manifest.source.weights) == {
        "model.safetensors",
        "2_Dense/model.safetensors",
    }


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def save_pickled(content: dict[str, Any], file: Path) -> None:
    """Save in the legacy format of torch, a bare pickle."""
    file.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("save", [torch.save, save_pickled])
@pytest.mark.parametrize("where", ["encoder", "shard", "head"])
def test_malicious_pickle(tmp_path: Path, where: str, save: Callable[..., object]) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 8)])
    marker = tmp_path / "it-ran"
    part = folder / "2_Dense" if where == "head" else folder
    content: dict[str, Any] = {**take_weights(part), "malice": Malice(marker)}
    if where == "shard":
        save_shards(part, content | {"b": torch.ones(1)}, "pytorch_model.bin", save)
    else:
        save(content, part / "pytorch_model.bin")
    with pytest.raises(ExportError):
        export_model(str(folder), output=tmp_path / "bundle")
    assert not marker.exists()
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(SourceError, match="save the model as safetensors") as refused:
        load_tensors(part)
    assert "\n" not in str(refused.value)
    assert "weights_only" not in str(refused.value)  # torch's own advice is to run the code


def test_the_malicious_pickle_runs_when_loaded(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Malice(tmp_path / "it-ran")))
    assert (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "form", ["model.safetensors", "pytorch_model.bin", "sharded model.safetensors"]
)
@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_truncated(folder: Path, tmp_path: Path, form: str, left: int) -> None:
    file = folder / save_as(folder, form)[0]
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(SourceError, match=file.name) as caught:
        export_model(str(folder), output=tmp_path / "bundle")
    assert "Download it again" in str(caught.value)


def test_no_weights(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"pytorch_model\.bin"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("name", ["model-q8.gguf", "model.fp16.safetensors", "onnx/model.onnx"])
@pytest.mark.parametrize("modules", [True, False])
def test_weights_of_another_format_are_named(
    folder: Path, tmp_path: Path, name: str, modules: bool
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / "model.safetensors").rename(folder / name)
    if not modules:
        (folder / "modules.json").unlink()
    with pytest.raises(SourceError, match=f"{name} is of a format that embedrt does not .*Export"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("family", ["bert", "squeezebert"])
def test_shapes_that_config_does_not_have(tmp_path: Path, family: str) -> None:
    """As after tokens were added, and only one of the two files was saved."""
    folder = make_small(tmp_path / "model", family)
    change_json(folder / "config.json", vocab_size=50)
    told = r" has the shape .* says \(50, \d+\)|: .* in current model is .*\[50, \d+\].*"
    name = r"embeddings\.word_embeddings\.weight"
    with pytest.raises(UnsupportedModelError, match=rf"{name}({told})\. Correct config\.json"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("form", ["model.safetensors", "sharded pytorch_model.bin"])
def test_pointer_of_git_lfs(folder: Path, tmp_path: Path, form: str) -> None:
    """A clone without Git LFS has pointer files in place of the weights."""
    last = save_as(folder, form)[-1]
    (folder / last).write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    with pytest.raises(SourceError, match=f"{last} is a pointer of Git LFS.*git lfs pull"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sharded model.safetensors", "sharded pytorch_model.bin"])
def test_forms_of_traced_encoders(tmp_path: Path, form: str) -> None:
    folder = make_small(tmp_path / "model", "albert")
    tensors = take_weights(folder)
    save_safetensors(
        {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    save_as(folder, form)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    shards = {name: tensor.float() for name, tensor in load_tensors(folder).tensors.items()}
    for file in weight_files(folder):
        file.unlink()
    for file in folder.glob("*.index.json"):
        file.unlink()
    save_safetensors(shards, folder / "model.safetensors")
    assert_agrees(pair, TEXTS)


def test_missing_shard(folder: Path, tmp_path: Path) -> None:
    file = save_as(folder, "sharded model.safetensors")[1]
    (folder / file).unlink()
    with pytest.raises(SourceError, match=file):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}'])
def test_broken_index(folder: Path, tmp_path: Path, content: str) -> None:
    take_weights(folder)
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=r"index\.json"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_index_that_leaves_the_folder(folder: Path, tmp_path: Path) -> None:
    save_safetensors(take_weights(folder), tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(SourceError, match="elsewhere"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "distilbert"])
def test_every_missing_tensor_is_named(tmp_path: Path, family: str) -> None:
    """The export fails, although transformers would fill in random weights, or zeros for a bias."""
    folder = make_small(tmp_path / "model", family)
    tensors = take_weights(folder)
    for name in [name for name in tensors if "pooler" not in name]:
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        save_safetensors(rest, folder / "model.safetensors")
        with pytest.raises(UnsupportedModelError, match=name):
            read_encoder(folder)


def test_missing_tensor_ends_the_export(folder: Path, tmp_path: Path) -> None:
    tensors = take_weights(folder)
    name = "encoder.layer.1.attention.output.dense.bias"
    del tensors[name]
    save_safetensors(tensors, folder / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match=name):
        export_model(str(folder), output=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [folder]


def read_encoder(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    encoder = READERS[config.model_type](config, load_tensors(folder))
    assert len([*encoder.layers]) == config.num_hidden_layers  # each layer is read when it is used
