"""Tests that every key that the libraries obey at load is known and handled as its table says."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers.base.model
import sentence_transformers.sentence_transformer.model
import sentence_transformers.sentence_transformer.modules
import torch
from safetensors.torch import save_file
from sentence_transformers.base.modules import Transformer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.processing_auto import AutoProcessor

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.checks import Key, Table
from embedrt_export.source.config import read_config
from embedrt_export.source.encoder_keys import ENCODER
from embedrt_export.source.keys import (
    HEAD,
    MODEL,
    MODULE,
    TOKENIZER,
    TRANSFORMER,
    TRANSFORMER_FILES,
)
from embedrt_export.source.settings import read_settings
from model_folders import METADATA, small_config, write_json

PROCESSING = TRANSFORMER.inside["processing_kwargs"]
CALL = PROCESSING.inside["text"]
ODD: tuple[Any, ...] = (None, True, False, 5, -1.5, "x", ["x"], [[1]], {"a": [1]}, "\ud800")

# Arguments of these functions that only their caller passes and no file contains.
ARGUMENTS = set(
    """
    code_revision config force_download merges_file proxies resume_download tokenizer
    use_auth_token
    """.split()
)


def keys_read(code: str, *objects: str) -> set[str]:
    """Return the string keys that code reads from objects with these names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=owner, attr="get" | "pop" | "setdefault"),
                args=[ast.Constant(value=str(key)), *_],
            ):
                pass
            case ast.Subscript(value=owner, slice=ast.Constant(value=str(key))):
                pass
            case ast.Compare(left=ast.Constant(value=str(key)), comparators=[owner, *_]):
                pass
            case _:
                continue
        if ast.unparse(owner) in objects and not key.startswith("_"):
            found.add(key)
    return found


def source_of(thing: Any) -> str:
    return textwrap.dedent(inspect.getsource(thing))


def parameters(call: Callable[..., Any], *but: str) -> set[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = inspect.signature(call).parameters
    return {name for name in found if found[name].kind not in kinds} - {"self", *but}


def module_class(kind: str) -> Any:
    return getattr(sentence_transformers.sentence_transformer.modules, kind)


class TestEveryKeyIsKnown:
    """These tests fail if a newer version of a library obeys a key that the tables lack."""

    def test_keys_read(self) -> None:
        """Without this, the tests below could pass because no key is found."""
        code = "if 'a' in x: y = x['b']\nx.get('c', x.pop('d'))\nother['e']\nx['_f']"
        assert keys_read(code, "x") == set("abcd")

    def test_of_the_transformer(self) -> None:
        read = parameters(Transformer.__init__, "model_name_or_path") | set(Transformer.config_keys)
        read |= keys_read(source_of(Transformer._load_init_kwargs), "config")
        read |= keys_read(source_of(Transformer.load_config), "config")
        assert {"max_seq_length", "processing_kwargs", "modality_config"} <= read
        assert read - {"model_name_or_path"} <= TRANSFORMER.keys.keys()

    def test_names_of_the_transformers_file(self) -> None:
        names = re.findall(r"sentence_[\w-]+_config\.json", source_of(Transformer.load_config))
        assert tuple(names) == TRANSFORMER_FILES

    def test_of_the_tokenizers_call(self) -> None:
        assert set(Transformer._VALID_PROCESSING_KWARGS_KEYS) <= PROCESSING.keys.keys()
        read = parameters(PreTrainedTokenizerBase.__call__, "text", "tokenizer_kwargs")
        assert {"max_length", "add_special_tokens"} <= read
        assert read <= CALL.keys.keys()

    @pytest.mark.parametrize("kind", HEAD)
    def test_of_a_module(self, kind: str) -> None:
        module = module_class(kind)
        read = parameters(module.__init__) | set(module.config_keys)
        read |= set(getattr(module, "config_key_renames", {}))
        if kind == "Pooling":
            read |= set(vars(inspect.getmodule(module))["_LEGACY_POOLING_MODE_KWARGS"])
            assert "pooling_mode_lasttoken" in read
        assert read <= HEAD[kind].keys.keys()

    def test_of_the_model(self) -> None:
        files = (
            sentence_transformers.base.model,
            sentence_transformers.sentence_transformer.model,
        )
        read = set().union(*(keys_read(source_of(file), "model_config") for file in files))
        loader = sentence_transformers.base.model.BaseModel._get_model_type
        read |= keys_read(source_of(loader), "config")
        assert {"prompts", "truncate_dim", "model_type"} <= read
        assert read <= MODEL.keys.keys()

    def test_of_the_list_of_modules(self) -> None:
        read = keys_read(source_of(sentence_transformers.base.model), "module_config")
        assert {"type", "path", "name"} <= read
        assert read <= MODULE.keys.keys()

    def test_of_the_tokenizer(self) -> None:
        fast = PreTrainedTokenizerFast
        functions = [
            PreTrainedTokenizerBase.__init__,
            PreTrainedTokenizerBase.from_pretrained,
            PreTrainedTokenizerBase._from_pretrained,
            fast.__init__,
            AutoTokenizer.from_pretrained,
            AutoProcessor.from_pretrained,
        ]
        if hasattr(fast, "convert_to_native_format"):  # transformers 5
            functions.append(fast.convert_to_native_format)
        objects = "kwargs", "init_kwargs", "local_kwargs", "tokenizer_config", "config_dict"
        read = set().union(*(keys_read(source_of(call), *objects) for call in functions))
        assert {"model_max_length", "truncation_side", "split_special_tokens"} <= read
        assert read - ARGUMENTS <= TOKENIZER.keys.keys()

    def test_files_that_are_read(self) -> None:
        """A new settings file would need a new function to read it."""
        modules = [
            sentence_transformers.base.model,
            sentence_transformers.sentence_transformer.model,
            inspect.getmodule(Transformer),
            *(inspect.getmodule(base) for base in Transformer.__mro__[1:3]),
            *(inspect.getmodule(module_class(kind)) for kind in HEAD),
        ]
        readers = {
            function.name
            for module in modules
            for function in ast.walk(ast.parse(source_of(module)))
            if isinstance(function, ast.FunctionDef) and "json.load(" in ast.unparse(function)
        }
        assert readers == {"_load_config_modules", "_get_model_type", "load_config"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a module of every kind and every settings file; only the head has weights."""
    folder = tmp_path / "model"
    paths = ["", "1_Pooling", "2_Dense", "3_LayerNorm", "4_Normalize", "5_Dropout"]
    kinds = ["Transformer", *(path.partition("_")[2] for path in paths[1:])]
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    configs = {
        "1_Pooling": {"word_embedding_dimension": 8},
        "2_Dense": {"in_features": 8, "out_features": 4},
        "3_LayerNorm": {"dimension": 4},
    }
    for path in paths[1:]:
        write_json(folder / path / "config.json", configs.get(path, {}))
    weights = {"linear.weight": torch.ones(4, 8), "linear.bias": torch.ones(4)}
    save_file(weights, folder / "2_Dense" / "model.safetensors", METADATA)
    norm = {"norm.weight": torch.ones(4), "norm.bias": torch.ones(4)}
    save_file(norm, folder / "3_LayerNorm" / "model.safetensors", METADATA)
    small_config("bert", 100, hidden_size=8).save_pretrained(folder)
    return folder


FILES: Mapping[str, Table] = {
    "config_sentence_transformers.json": MODEL,
    "sentence_bert_config.json": TRANSFORMER,
    "tokenizer_config.json": TOKENIZER,
    "config.json": ENCODER,
    "1_Pooling/config.json": HEAD["Pooling"],
    "2_Dense/config.json": HEAD["Dense"],
    "3_LayerNorm/config.json": HEAD["LayerNorm"],
    "4_Normalize/config.json": HEAD["Normalize"],
    "5_Dropout/config.json": HEAD["Dropout"],
}
Place = tuple[str, tuple[str, ...], Key]


def places(table: Table, file: str, above: tuple[str, ...] = ()) -> Iterator[Place]:
    """Yield the keys of a table and of the tables inside it."""
    for name, key in table.keys.items():
        yield file, (*above, name), key
    for name, inner in table.inside.items():
        yield from places(inner, file, (*above, name))


PLACES = [place for file, table in FILES.items() for place in places(table, file)]


def set_key(file: Path, path: tuple[str, ...], value: Any) -> None:
    """Set a key of a JSON file, nested if the path has several names."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    inner = content
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    write_json(file, content)


def restore(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def test_the_unchanged_folder_is_accepted(folder: Path) -> None:
    """Without this, everything below could be refused for another reason."""
    settings = read_settings(folder)
    assert [type(module).__name__ for module in settings.head] == [
        "Pooling",
        "Dense",
        "LayerNorm",
        "Normalize",
    ]
    assert read_config(settings).hidden_size == 8


def test_refused_keys_are_named(folder: Path) -> None:
    refused = [place for place in PLACES if place[2].handling == "refused"]
    assert len(refused) > 50
    for file, path, key in refused:
        kept = (folder / file).read_bytes() if (folder / file).exists() else None
        values = [odd for odd in ODD if key.kind.accepts(odd) and odd not in key.harmless]
        set_key(folder / file, path, values[0])
        with pytest.raises(UnsupportedModelError, match=re.escape(".".join(path))) as caught:
            read_config(read_settings(folder))
        assert file in str(caught.value)
        assert key.reason in str(caught.value)
        for harmless in key.harmless:
            set_key(folder / file, path, harmless)
            read_settings(folder)
        restore(folder / file, kept)


# For these, `source.prompts` says which value is wrong.
IN_OTHER_WORDS = {"prompts": "", "default_prompt_name": "null or one of"}


def test_values_of_the_wrong_kind_are_named(folder: Path) -> None:
    wrong = 0
    for file, path, key in PLACES:
        kept = (folder / file).read_bytes() if (folder / file).exists() else None
        for value in ODD:
            if key.kind.accepts(value) or key.handling == "refused":
                continue
            wrong += 1
            set_key(folder / file, path, value)
            with pytest.raises(SourceError) as caught:
                read_config(read_settings(folder))
            kind = IN_OTHER_WORDS.get(path[-1], key.kind.name)
            place = path[-1] if path[-1] in IN_OTHER_WORDS else f"{'.'.join(path)} to"
            assert f"{folder / file} sets {place}" in str(caught.value)
            assert f"expected {kind}" in str(caught.value)
            restore(folder / file, kept)
    assert wrong > 500


@pytest.mark.parametrize("file", ["sentence_bert_config.json", "2_Dense/config.json"])
def test_keys_of_a_newer_version_are_refused(folder: Path, file: str) -> None:
    set_key(folder / file, ("brand_new",), 1)
    with pytest.raises(UnsupportedModelError, match="brand_new, which embedrt does not know"):
        read_settings(folder)


@pytest.mark.parametrize(
    "file", ["config_sentence_transformers.json", "tokenizer_config.json", "config.json"]
)
def test_keys_that_nobody_reads_are_ignored(folder: Path, file: str) -> None:
    set_key(folder / file, ("brand_new",), 1)
    read_config(read_settings(folder))


@pytest.mark.parametrize("name", TRANSFORMER_FILES)
def test_every_name_of_the_transformers_file(folder: Path, name: str) -> None:
    write_json(folder / name, {"query_length": 32})
    with pytest.raises(UnsupportedModelError, match=f"{name} sets query_length to 32"):
        read_settings(folder)


def test_an_empty_file_is_ignored(folder: Path) -> None:
    write_json(folder / TRANSFORMER_FILES[0], {})
    write_json(folder / TRANSFORMER_FILES[1], {"query_length": 32})
    with pytest.raises(UnsupportedModelError, match=TRANSFORMER_FILES[1]):
        read_settings(folder)
    write_json(folder / TRANSFORMER_FILES[0], {"max_seq_length": 16})
    read_settings(folder)


def test_two_modules_of_one_name(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[3]["name"] = modules[2]["name"]
    write_json(folder / "modules.json", modules)
    with pytest.raises(SourceError, match="two modules '2'"):
        read_settings(folder)


@pytest.mark.parametrize("key", MODULE.keys)
def test_entries_of_the_wrong_kind(folder: Path, key: str) -> None:
    for value in ODD:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        modules[1][key] = value
        write_json(folder / "other" / "modules.json", modules)
        if not MODULE.keys[key].kind.accepts(value):
            with pytest.raises(SourceError, match=rf"modules\.json sets {key} to"):
                read_settings(folder / "other")
