"""Compares every way to select a prompt with sentence-transformers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comparison import TOLERANCE, Pair, original
from embedrt import Embedder
from embedrt.cli import main
from embedrt.errors import ProofError, SourceError
from embedrt.text.prompts import Prompts
from embedrt_export import export_model
from embedrt_export.source.prompts import read_prompts
from embedrt_export.source.settings import read_settings
from model_folders import make_small, write_json

EXTRAS = "config_sentence_transformers.json"
TEXTS = ["a dog", "", " the fox", "\u0301a", "again and again " * 40]

QUERY = {"query": "query: "}
BOTH = {**QUERY, "document": "text: "}
SETS: dict[str, tuple[Mapping[str, str | None] | None, str | None]] = {
    "no prompts": (None, None),
    "none of them": ({}, None),
    "query": (QUERY, None),
    "query and document": (BOTH, None),
    "query and passage": ({**QUERY, "passage": "passage: "}, None),
    "corpus": ({"corpus": "corpus: "}, None),
    "default among them": (BOTH, "document"),
    "default of its own": ({"cluster": "group: "}, "cluster"),
    "default and passage": ({"cluster": "group: ", "passage": "passage: "}, "cluster"),
    "default of those that every model has": ({"passage": "passage: "}, "document"),
    "empty": ({"query": "", "document": ""}, None),
    "empty document before a passage": ({**QUERY, "document": "", "passage": "passage: "}, None),
    "empty default": ({**QUERY, "none": ""}, "none"),
    "empty queries beside a default": ({"query": "", "cluster": "group: "}, "cluster"),
    "null": ({"query": None, "document": "text: "}, None),
    "ends in spaces": ({"query": "query:  ", "document": " "}, "query"),
    "ends in a special token": ({"query": "query</s>", "document": "<mask>"}, None),
    "unicode": ({"query": "指令\uff1a", "document": "naïve e", "": "👩‍👧 "}, ""),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without prompts, whose tokenizer treats a space as an ordinary character."""
    return make_small(tmp_path_factory.mktemp("prompts") / "model", "roberta")


@pytest.fixture
def prompted(plain: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that gives the model these prompt settings."""

    def prompted(prompts: object, default: object = None) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(plain, folder)
        extras = {"default_prompt_name": default}
        write_json(folder / EXTRAS, extras if prompts is None else {**extras, "prompts": prompts})
        return folder

    return prompted


@pytest.mark.parametrize("name", SETS)
def test_every_call_agrees_with_the_original(
    prompted: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    prompts, default = SETS[name]
    folder = prompted(prompts, default)
    model = original(folder)
    calls: list[tuple[str, dict[str, str]]] = [
        *(("encode", {"prompt_name": name}) for name in model.prompts),
        *(("encode", {"prompt": prompt}) for prompt in ("", "x", "query: ")),
        *((method, {}) for method in ("encode", "encode_query", "encode_document")),
        *((method, {"prompt": "x"}) for method in ("encode_query", "encode_document")),
        ("encode_document", {"prompt_name": "query"}),
    ]
    with Embedder.load(export_model(str(folder), output=tmp_path / "bundle")) as embedder:
        for method, options in calls:
            as_documented = (method, options)
            if as_documented == ("encode_document", {}) and "document" not in (prompts or {}):
                # The original documents these two names, but its code never reaches them.
                first = next((n for n in ("passage", "corpus") if n in (prompts or {})), "document")
                as_documented = ("encode", {"prompt_name": first})
            expected = alone(model, *as_documented)
            found = alone(embedder, method, options)
            assert np.abs(found - expected).max() <= TOLERANCE, (method, options)
            together = getattr(embedder, method)(TEXTS, **options)
            assert together.tobytes() == found.tobytes(), (method, options)


def alone(model: Any, method: str, options: dict[str, str]) -> Any:
    return np.stack([getattr(model, method)(text, **options) for text in TEXTS])


def test_the_prompts_give_different_vectors(exported: Callable[[str], Pair]) -> None:
    prompts = {text or "" for named, _ in SETS.values() for text in (named or {}).values()}
    assert len(prompts) > 10
    with Embedder.load(exported("roberta").bundle) as embedder:
        vectors = [embedder.encode("a dog", prompt=prompt) for prompt in prompts]
    for index, one in enumerate(vectors):
        for other in vectors[:index]:
            assert np.abs(one - other).max() > 1000 * TOLERANCE


class TestReading:
    def test_empty_prompts_are_kept(self, prompted: Callable[..., Path]) -> None:
        settings = read_settings(prompted({"query": "", "none": None, "x": " "}, "none"))
        assert settings.prompts == {"query": "", "none": "", "x": " "}
        assert settings.default_prompt_name == "none"

    @pytest.mark.parametrize("default", ["query", "document"])
    def test_default_of_those_that_every_model_has(self, default: str) -> None:
        assert read_prompts({"default_prompt_name": default}, Path("x")) == ({}, None)

    @pytest.mark.parametrize(
        ("extras", "key", "expected"),
        [
            ({"prompts": "query: "}, "prompts", "an object"),
            ({"prompts": ["query: "]}, "prompts", "an object"),
            ({"prompts": None}, "prompts", "an object"),
            ({"prompts": {"query": 5}}, "prompts", "a string or null"),
            ({"prompts": {"query": ["a"]}}, "prompts", "a string or null"),
            ({"prompts": {"query": False}}, "prompts", "a string or null"),
            ({"prompts": {"query": "\ud83d"}}, "prompts['query']", "no unpaired surrogate"),
            ({"prompts": {"\ud83d": "a"}}, r"prompts['\ud83d']", "no unpaired surrogate"),
            ({"prompts": ["x" * 9_999_999]}, "prompts", "an object"),
            ({"default_prompt_name": 5}, "default_prompt_name", ""),
            ({"default_prompt_name": ["a"]}, "default_prompt_name", ""),
            (
                {"prompts": {"a": "b"}, "default_prompt_name": "c"},
                "default_prompt_name",
                "null or one of 'a', 'document', 'query'",
            ),
        ],
    )
    def test_refusals_name_file_and_key(
        self, prompted: Callable[..., Path], extras: dict[str, Any], key: str, expected: str
    ) -> None:
        file = prompted({}) / EXTRAS
        write_json(file, extras)
        with pytest.raises(SourceError) as caught:
            read_settings(file.parent)
        before, _, after = str(caught.value).partition("; expected ")
        assert before.startswith(f"{file} sets {key}")
        assert expected in after
        assert len(str(caught.value)) < 500


def drop_empty_ones(extras: Mapping[str, Any], file: Path) -> tuple[dict[str, str], str | None]:
    prompts, default = read_prompts(extras, file)
    prompts = {name: text for name, text in prompts.items() if text}
    return prompts, default if default in prompts else None


def strip_spaces(extras: Mapping[str, Any], file: Path) -> tuple[dict[str, str], str | None]:
    prompts, default = read_prompts(extras, file)
    return {name: f"{text.strip()}!" for name, text in prompts.items()}, default


def lose_the_default(extras: Mapping[str, Any], file: Path) -> tuple[dict[str, str], str | None]:
    return read_prompts(extras, file)[0], None


class TestProof:
    """Prompts are proven through the original's own methods."""

    @pytest.mark.parametrize(
        ("fault", "prompts", "default", "call"),
        [
            (
                drop_empty_ones,
                SETS["empty document before a passage"][0],
                None,
                "encode_document()",
            ),
            (drop_empty_ones, {"none": ""}, None, "encode(prompt_name='none')"),
            (strip_spaces, QUERY, None, "encode_query()"),
            (lose_the_default, {"cluster": "group: "}, "cluster", "encode()"),
        ],
    )
    def test_an_exporter_that_misreads_prompts_fails(
        self,
        prompted: Callable[..., Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        fault: Callable[..., Any],
        prompts: Mapping[str, str],
        default: str | None,
        call: str,
    ) -> None:
        folder = prompted(prompts, default)
        monkeypatch.setattr("embedrt_export.source.embedding.read_prompts", fault)
        with pytest.raises(ProofError) as caught:
            export_model(str(folder), output=tmp_path / "bundle")
        assert call in str(caught.value)
        assert not (tmp_path / "bundle").exists()

        monkeypatch.setattr("embedrt_export.proof.comparison.prompted_calls", lambda *_: [])
        export_model(str(folder), output=tmp_path / "bundle")  # no prompt, no error

    def test_a_runtime_that_prefers_the_default_fails(
        self, prompted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = prompted({"cluster": "group: "}, "cluster")
        monkeypatch.setattr(Prompts, "query", "cluster")
        with pytest.raises(ProofError) as caught:
            export_model(str(folder), output=tmp_path / "bundle")
        assert re.search(
            r"; encode_query\(\) on '.{1,40}' differs by \d\.\de-\d\d"
            r": token 1 is 75 \('g'\) in the bundle and \d+ \('.*?'\) in the original; ",
            str(caught.value),
        )

    def test_verify_against_the_original(
        self, prompted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A bundle without empty prompts, from an earlier version, and one repaired by hand."""
        folder = prompted({**QUERY, "document": "", "passage": "passage: "})
        bundle = export_model(str(folder), output=tmp_path / "bundle")
        assert main(["verify", str(bundle), "--against", str(folder)]) == 0
        file = bundle / "manifest.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        del manifest["prompts"]["document"]
        write_json(file, manifest)
        assert main(["verify", str(bundle), "--against", str(folder)]) == 1
        assert "encode_document() on " in capsys.readouterr().err
