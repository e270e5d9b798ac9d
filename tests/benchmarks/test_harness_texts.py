"""Tests that every contender gets the same texts, of the stated lengths."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks import MAIN_MODEL, REFERENCE
from benchmarks.checkout import CALIBRATION
from benchmarks.harness.catalog import contenders, preparations
from benchmarks.harness.environments import HARNESS, REQUIREMENTS
from benchmarks.harness.measuring import KINDS
from benchmarks.harness.odd_texts import odd_texts
from benchmarks.harness.plan import (
    LENGTHS,
    LONG_CONTENDERS,
    QUICK_CONTENDERS,
    full_plan,
    quick_plan,
)
from benchmarks.harness.texts import Texts, exact_texts, many_texts, mixed_texts, sentences
from benchmarks.models import LONG_MODELS, MAX_TOKENS
from benchmarks.padding import open_tokenizer


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return open_tokenizer(minilm, 10**6)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_exact_texts_have_the_exact_number_of_tokens(tokenizer: Tokenizer, tokens: int) -> None:
    texts = exact_texts(tokenizer, tokens, 20)
    assert {len(tokenizer.encode(text).ids) for text in texts} == {tokens}
    assert len(set(texts)) == 20
    assert texts == exact_texts(tokenizer, tokens, 20)


def test_texts_are_distinct_and_reproducible(tokenizer: Tokenizer) -> None:
    assert len(set(sentences())) == len(sentences()) > 2000
    for make in (mixed_texts, many_texts):
        texts = make(500, seed=1)
        assert len(set(texts)) == 500
        assert make(500, seed=1) == texts
        assert make(500, seed=2) != texts
        lengths = [len(tokenizer.encode(text).ids) for text in texts]
        assert min(lengths) < 12
        assert max(lengths) > 180
        assert lengths != sorted(lengths)


def test_odd_texts_are_distinct_reproducible_and_odd() -> None:
    texts = odd_texts(2000, seed=1)
    assert len(set(texts)) == 2000
    assert odd_texts(2000, seed=1) == texts
    assert odd_texts(2000, seed=2) != texts
    for character in "\x00\ud800\u0301\u202e\U0001d400":
        assert any(character in text for text in texts)
    assert any(text.isascii() for text in texts)
    assert max(map(len, texts)) > 250


def test_files_of_texts_are_made_once(minilm: Path, tmp_path: Path) -> None:
    shutil.copy(minilm / "tokenizer.json", tmp_path)
    texts = Texts(tmp_path / "texts", tmp_path, max_tokens=16)
    file = texts.file("exact/64")
    assert texts.tokens("exact/64") == 20 * 16  # truncated as the model truncates them
    file.write_text('["changed"]', encoding="utf-8")
    assert texts.read("exact/64") == ["changed"]


def test_every_contender_has_what_it_needs() -> None:
    known, made = contenders(), preparations()
    assert len(known) == 15
    assert {one.needs for one in known.values()} <= made.keys()
    assert {one.needs for one in made.values()} <= made.keys() | {""}
    named = {one.environment for one in known.values()}
    named |= {one.environment for one in made.values()}
    named |= {"infinity", "fastapi"}  # used by benchmarks.serving
    assert named - {HARNESS} == {file.stem for file in REQUIREMENTS.glob("*.txt")}
    assert {*QUICK_CONTENDERS, *LONG_CONTENDERS} <= known.keys()
    assert REFERENCE in known
    assert CALIBRATION.is_file()  # used by NNCF


def test_every_workload_can_be_measured(minilm: Path, tmp_path: Path) -> None:
    shutil.copy(minilm / "tokenizer.json", tmp_path)
    texts = Texts(tmp_path / "texts", tmp_path, max_tokens=256)
    plan = [*full_plan(MAIN_MODEL, beir=True), *quick_plan(MAIN_MODEL, beir=True)]
    plan += full_plan(next(iter(LONG_MODELS)), beir=True)
    assert {workload.kind for workload in plan} == KINDS.keys()
    assert all(texts.read(key) for workload in plan for key in workload.keys)


def test_plans_name_each_workload_once() -> None:
    for plan in (full_plan, quick_plan):
        for model in MAX_TOKENS:
            ids = [workload.id for workload in plan(model, beir=True)]
            assert len(set(ids)) == len(ids)
    quick = {workload.id for workload in quick_plan(MAIN_MODEL, beir=True)}
    assert quick <= {workload.id for workload in full_plan(MAIN_MODEL, beir=True)}
