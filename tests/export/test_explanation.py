"""Tests that a failed proof reports the texts, the call, and the token ids or components."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from comparison import Pair
from embedrt import Embedder
from embedrt.errors import ProofError, UnsupportedModelError
from embedrt_export import prove_bundle
from embedrt_export.proof.calls import PLAIN, Call
from embedrt_export.proof.comparison import Comparison, compare, compare_texts
from embedrt_export.proof.explanation import explain
from embedrt_export.proof.oracle import Oracle
from model_folders import METADATA, write_json

LONDON = 2414  # in BERT's vocabulary


@pytest.fixture
def embedder(exported: Callable[[str], Pair]) -> Iterator[Embedder]:
    with Embedder.load(exported("bert").bundle) as embedder:
        yield embedder


@pytest.fixture
def folder(exported: Callable[[str], Pair], tmp_path: Path) -> Path:
    """A copy of the original that a test may change."""
    return Path(shutil.copytree(exported("bert").folder, tmp_path / "changed"))


@pytest.fixture
def bytewise(exported: Callable[[str], Pair]) -> Iterator[Embedder]:
    """A model whose tokenizer is completely defined by its tokenizer.json."""
    with Embedder.load(exported("roberta").bundle) as embedder:
        yield embedder


@pytest.fixture
def bytewise_folder(exported: Callable[[str], Pair], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported("roberta").folder, tmp_path / "changed"))


def change_tokenizer(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer.json"
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | changes)


def template(*parts: str) -> dict[str, Any]:
    """Return a post-processor that adds special tokens around a text, ``A``."""
    pieces = [
        {"Sequence": {"id": part, "type_id": 0}}
        if part == "A"
        else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in parts
    ]
    special = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
    return {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": special}


def ids_and_tokens(folder: Path, text: str) -> list[str]:
    """Return the token ids of a text from the tokenizers library, formatted as in messages."""
    encoding = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    return [
        f"{number} ({token!r})" for number, token in zip(encoding.ids, encoding.tokens, strict=True)
    ]


def explained(embedder: Embedder, folder: Path, text: str, call: Call = PLAIN) -> str:
    """Return the explanation for one text."""
    oracle = Oracle(folder)
    oracle.limit(embedder.max_tokens)
    (told,) = explain(compare_texts(embedder, oracle, call, [text]), embedder, oracle)
    return told


def test_numbers(embedder: Embedder, folder: Path) -> None:
    """Only texts that contain the word differ; the worst are named and shortened."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings.word_embeddings.weight"][LONDON] += torch.linspace(-1, 1, 32)
    save_file(tensors, file, METADATA)
    with pytest.raises(ProofError) as caught:
        prove_bundle(embedder, str(folder))
    message = str(caught.value)
    named = re.findall(r"; (encode\w*\([^)]*\)) on ('.*?') differs by (\d\.\de-\d\d)", message)
    assert len(named) == 3
    assert all("London" in text for _, text, _ in named)
    differences = [float(difference) for _, _, difference in named]
    assert differences == sorted(differences, reverse=True)
    oracle = Oracle(folder)
    oracle.limit(64)
    all_of_them = sorted((one.difference for one in compare(embedder, oracle)), reverse=True)
    assert differences == pytest.approx(all_of_them[:3], rel=0.05)
    apart = sum(difference > 2e-6 for difference in all_of_them)
    assert f"; {apart - 3} more texts differ. Nothing was written" in message
    assert len(re.findall(r"with the same \d+ token ids: component", message)) == 3

    text = "London is known for its financial district, and for its weather"
    told = explained(embedder, folder, text)
    found, expected = embedder.encode(text, prompt=""), oracle.embed([text])[0]
    at = int(np.abs(found - expected).argmax())
    assert told == (
        "encode(prompt='') on 'London is known for its financial distri…' differs by "
        f"{abs(found - expected).max():.1e} with the same 14 token ids: component {at} "
        f"is {found[at]:.7g} in the bundle and {expected[at]:.7g} in the original"
    )


def test_token_ids(bytewise: Embedder, bytewise_folder: Path) -> None:
    text = "the quick FOX"
    ours = ids_and_tokens(bytewise_folder, text)
    change_tokenizer(bytewise_folder, normalizer={"type": "Lowercase"})
    theirs = ids_and_tokens(bytewise_folder, text)
    at = next(at for at, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1)
    assert at > 1
    assert re.fullmatch(
        rf"encode\(prompt=''\) on 'the quick FOX' differs by \d\.\de-\d\d: token {at} is "
        + re.escape(f"{ours[at]} in the bundle and {theirs[at]} in the original"),
        explained(bytewise, bytewise_folder, text),
    )


def test_token_ids_behind_a_prompt(bytewise: Embedder, bytewise_folder: Path) -> None:
    change_tokenizer(bytewise_folder, normalizer={"type": "Lowercase"})
    call = Call(method="encode_query", prompt="the FOX: ")
    told = explained(bytewise, bytewise_folder, "fox", call)
    assert told.startswith("encode_query(prompt='the FOX: ') on 'fox' differs by ")
    assert told.endswith(" ('Ġ') in the bundle and 356 ('Ġfox') in the original")


def test_missing_token(bytewise: Embedder, bytewise_folder: Path) -> None:
    change_tokenizer(bytewise_folder, post_processor=template("<s>", "A"))
    told = explained(bytewise, bytewise_folder, "x")
    assert ": token 2 is 2 ('</s>') in the bundle and missing in the original" in told


def test_a_text_truncated_at_another_length(bytewise: Embedder, bytewise_folder: Path) -> None:
    oracle = Oracle(bytewise_folder)
    oracle.limit(9)
    compared = compare_texts(bytewise, oracle, PLAIN, ["x" * 99])
    (told,) = explain(compared, bytewise, oracle)
    assert re.search(r": token 8 is \d+ \('x+'\) in the bundle and 2 \('</s>'\) in the", told)


@pytest.mark.parametrize(
    ("call", "position"),
    [
        (Call(method="encode_query"), 1),
        (Call(method="encode_document"), 3),
        (Call(prompt_name="document"), 3),
        (Call(method="encode_query", prompt_name="document"), 3),
    ],
)
def test_prompts(embedder: Embedder, folder: Path, call: Call, position: int) -> None:
    """The message shows the ids that the original runs, whatever adds the prompt."""
    prompts = {"query": "find: ", "document": "quick brown dog"}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    told = explained(embedder, folder, "quick brown fox", call)
    assert told.startswith(f"{call} on 'quick brown fox' differs by ")
    assert f": token {position} is " in told


def test_nan_comes_first(embedder: Embedder, folder: Path) -> None:
    oracle = Oracle(folder)
    oracle.limit(64)
    texts = [f"text {number}" for number in range(6)]
    comparisons = compare_texts(embedder, oracle, PLAIN, texts)
    assert explain(comparisons, embedder, oracle) == []
    spoiled = [
        with_difference(one, difference)
        for one, difference in zip(comparisons, (0.1, 0.3, math.nan, 0.2, 0.4, 0.0), strict=True)
    ]
    told = explain(spoiled, embedder, oracle)
    assert [re.findall(r"'(text \d)' differs by (\S+) with", line) for line in told] == [
        [("text 2", "nan")],
        [("text 4", "4.0e-01")],
        [("text 1", "3.0e-01")],
        [],
    ]
    assert "component 0 is nan in the bundle" in told[0]
    assert told[3] == "2 more texts differ"


def with_difference(one: Comparison, difference: float) -> Comparison:
    found = one.expected.copy()
    found[0] += difference
    return dataclasses.replace(one, found=found, difference=difference)


def test_a_cosine_alone(embedder: Embedder, folder: Path) -> None:
    oracle = Oracle(folder)
    (one,) = compare_texts(embedder, oracle, PLAIN, ["a"])
    assert explain([one], embedder, oracle) == []
    (told,) = explain([dataclasses.replace(one, cosine=math.nan)], embedder, oracle)
    assert told.startswith("encode(prompt='') on 'a' differs by")


def test_other_bytes_in_a_batch(embedder: Embedder, folder: Path) -> None:
    oracle = Oracle(folder)
    oracle.limit(64)
    comparisons = compare_texts(embedder, oracle, Call(method="encode_query"), ["a", "b"])
    unsteady = [dataclasses.replace(one, same_bytes=False) for one in comparisons]
    assert explain([comparisons[0], unsteady[1]], embedder, oracle) == [
        "encode_query() on 'b' gives different bytes in a batch"
    ]


def test_an_original_that_fails(embedder: Embedder, folder: Path, monkeypatch: Any) -> None:
    oracle = Oracle(folder)

    def fail(*_: object, **__: object) -> None:
        raise IndexError("its prompt has no tokens")

    monkeypatch.setattr(oracle._model, "encode_query", fail)
    with pytest.raises(UnsupportedModelError) as caught:
        compare(embedder, oracle)
    message = str(caught.value)
    assert message.startswith("sentence-transformers ")
    assert (
        "fails at encode_query(prompt='query: [MASK]') on 'How many people live in London?'"
        in message
    )
    assert message.endswith(": its prompt has no tokens")


def test_texts_without_tokens_are_left_out(bytewise: Embedder, bytewise_folder: Path) -> None:
    """The original fails on texts without tokens; the bundle returns zeros."""
    change_tokenizer(bytewise_folder, post_processor=None)
    oracle = Oracle(bytewise_folder)
    oracle.limit(64)
    compared = compare(bytewise, oracle)
    assert "" not in {one.text for one in compared}
    assert {PLAIN, Call(), Call(method="encode_query")} <= {one.call for one in compared}
