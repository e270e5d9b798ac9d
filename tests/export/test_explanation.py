"""A proof that fails says where: which texts, which call, which token ids or numbers."""

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
    """A copy of the original, to be changed."""
    return Path(shutil.copytree(exported("bert").folder, tmp_path / "changed"))


def change_tokenizer(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer.json"
    write_json(file, json.loads(file.read_text()) | changes)


def explained(embedder: Embedder, folder: Path, text: str, call: Call = PLAIN) -> str:
    """Return what is said of one text."""
    oracle = Oracle(folder)
    oracle.limit(embedder.max_tokens)
    (told,) = explain(compare_texts(embedder, oracle, call, [text]), embedder, oracle)
    return told


def test_numbers(embedder: Embedder, folder: Path) -> None:
    """Only the texts that hold the word differ; the worst are named, shortened."""
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
    assert f"; {apart - 3} more differ too much. Nothing was written" in message
    assert len(re.findall(r"though all \d+ token ids are the same: component", message)) == 3

    text = "London is known for its financial district, and for its weather"
    told = explained(embedder, folder, text)
    found, expected = embedder.encode(text, prompt=""), oracle.embed([text])[0]
    at = int(np.abs(found - expected).argmax())
    assert told == (
        "encode(prompt='') on 'London is known for its financial distri…' differs by "
        f"{abs(found - expected).max():.1e}, though all 14 token ids are the same: component {at} "
        f"is {found[at]:.7g} in the bundle and {expected[at]:.7g} in the original"
    )


def test_token_ids(embedder: Embedder, folder: Path) -> None:
    change_tokenizer(folder, normalizer={"type": "Lowercase"})
    told = explained(embedder, folder, "a naïve fox")
    assert re.fullmatch(
        r"encode\(prompt=''\) on 'a naïve fox' differs by \d\.\de-\d\d, for token 2 is 15743 "
        r"\('naive'\) in the bundle and 100 \('\[UNK\]'\) in the original",
        told,
    )


def test_missing_token(embedder: Embedder, folder: Path) -> None:
    file = folder / "tokenizer.json"
    processor = json.loads(file.read_text())["post_processor"]
    template = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    change_tokenizer(folder, post_processor=processor | {"single": template})
    told = explained(embedder, folder, "fox")
    assert "token 2 is 102 ('[SEP]') in the bundle and missing in the original" in told


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
    """The original's ids are those that it runs, whatever put the prompt there."""
    prompts = {"query": "find: ", "document": "quick brown dog"}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    told = explained(embedder, folder, "quick brown fox", call)
    assert told.startswith(f"{call} on 'quick brown fox' differs by ")
    assert f", for token {position} is " in told


def test_a_prompt_of_the_caller(embedder: Embedder, folder: Path) -> None:
    change_tokenizer(folder, normalizer={"type": "Lowercase"})
    told = explained(embedder, folder, "fox", Call(method="encode_query", prompt="a naïve "))
    assert told.startswith("encode_query(prompt='a naïve ') on 'fox' differs by ")
    assert "for token 2 is 15743 ('naive') in the bundle and 100 ('[UNK]') in the orig" in told


def test_number_that_is_none_comes_first(embedder: Embedder, folder: Path) -> None:
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
    assert [re.findall(r"'(text \d)' differs by (\S+),", line) for line in told] == [
        [("text 2", "nan")],
        [("text 4", "4.0e-01")],
        [("text 1", "3.0e-01")],
        [],
    ]
    assert "component 0 is nan in the bundle" in told[0]
    assert told[3] == "2 more differ too much"


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
        "encode_query() on 'b' gives other bytes in a batch"
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
    assert "fails at encode_query(prompt='query: ') on 'How many people live in London?'" in message
    assert message.endswith(": its prompt has no tokens")


def test_texts_without_tokens_are_left_out(embedder: Embedder, folder: Path) -> None:
    """The original makes an error of them, and the bundle zeros."""
    change_tokenizer(folder, post_processor=None)
    oracle = Oracle(folder)
    oracle.limit(64)
    compared = compare(embedder, oracle)
    assert not {"", " ", "\t\n "} & {one.text for one in compared}
    assert {PLAIN, Call(), Call(method="encode_query")} <= {one.call for one in compared}
