"""Rerankers agree with CrossEncoder of sentence-transformers: families, activations, odd pairs."""

from __future__ import annotations

import dataclasses
import io
import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder

from embedrt import Bundle, Reranker
from embedrt.activations import activate
from embedrt.bundle.manifest import Reranking, ScoreActivation
from embedrt.bundle.quantization import ScoreQuantization
from embedrt.cli import main
from embedrt.errors import ProofError, UnsupportedModelError
from embedrt_export import export_model, prove_bundle
from embedrt_export.source.settings import read_settings
from model_folders import BEFORE_5, change_json, is_known, make_small
from rerankers import (
    FAMILIES,
    TOLERANCE,
    Made,
    export_cross_encoder,
    largest_difference,
    make_cross_encoder,
    original,
    scores_alone,
)
from sharing import made_once

LONG = "the quick brown fox jumps over the lazy dog, again and again " * 10
QUERY = "How many people live in London?"
PAIRS = [
    (QUERY, "Around 9 million people live in London."),
    (QUERY, ""),
    ("", "the lazy dog"),
    ("", ""),
    (QUERY, LONG),
    (LONG, QUERY),
    (LONG, LONG + LONG),
    (LONG + LONG, LONG),
    ("a [SEP] b", "c [SEP] d"),
    ("a </s> b", "c <s> d"),
    ("[CLS] a", "b [PAD] [MASK]"),
    ("敏捷的棕色狐狸", "naïve façade 😀"),
]
OF_SEVERAL = ("LogSoftmax", "Softmax")  # activations that say something of several labels

MakeReranker = Callable[[str], Made]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> MakeReranker:
    """Return a function that maps a family to a small cross-encoder and its bundle."""

    def make(family: str) -> Made:
        parent = made_once(
            tmp_path_factory, f"ranks-{family}", lambda to: export_cross_encoder(to, family)
        )
        return Made(parent / family, parent / f"{family}-fp32")

    return make


@pytest.fixture(scope="module")
def bert(made: MakeReranker) -> Iterator[Reranker]:
    with Reranker.load(made("bert").bundle, threads=2) as reranker:
        yield reranker


@pytest.mark.parametrize("family", FAMILIES)
def test_family(made: MakeReranker, family: str) -> None:
    if not is_known(family):
        pytest.skip("this transformers does not know it")
    pair = made(family)
    expected = scores_alone(original(pair.folder), PAIRS, activation_fn=torch.nn.Identity())
    with Reranker.load(pair.bundle, verify="sha256") as reranker:
        found = reranker.predict(PAIRS, activation_fn="Identity")
        assert reranker.manifest.builder == "fused"
    assert found.dtype == np.float32
    assert largest_difference(found, expected) <= TOLERANCE


def test_types_are_an_input_only_where_families_have_two(made: MakeReranker) -> None:
    for family, typed in {
        "bert": True,
        "electra": True,
        "distilbert": False,
        "mpnet": False,
    }.items():
        manifest = Bundle.open(made(family).bundle).manifest
        names = [value.name for value in manifest.inputs]
        assert names == ["input_ids", "token_type_ids"][: 1 + typed]


def test_traced(made: MakeReranker) -> None:
    """DeBERTa, whose tokenizer gives types that the encoder does not read."""
    pair = made("deberta-v2")
    expected = scores_alone(original(pair.folder), PAIRS, activation_fn=torch.nn.Identity())
    with Reranker.load(pair.bundle) as reranker:
        assert reranker.manifest.builder == "traced"
        assert [value.name for value in reranker.manifest.inputs] == ["input_ids"]
        found = reranker.predict(PAIRS, activation_fn="Identity")
    assert largest_difference(found, expected) <= TOLERANCE


@pytest.mark.parametrize("classifier_pooling", ["cls", "mean"])
def test_modernbert_pools_both_ways(tmp_path: Path, classifier_pooling: str) -> None:
    config = {"classifier_pooling": classifier_pooling, "num_hidden_layers": 3}
    pair = export_cross_encoder(tmp_path, "modernbert", config=config)
    assert Bundle.open(pair.bundle).manifest.pooling == (classifier_pooling,)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")  # torch's, of Softmax()
@pytest.mark.parametrize(
    ("labels", "activation"),
    [
        *(
            pytest.param(1, name, marks=pytest.mark.slow if name in OF_SEVERAL else [])
            for name in get_args(ScoreActivation)
        ),
        *(
            pytest.param(
                3, name, marks=[] if name in (*OF_SEVERAL, "Identity") else pytest.mark.slow
            )
            for name in get_args(ScoreActivation)
        ),
    ],
)
def test_activation(tmp_path: Path, activation: str, labels: int) -> None:
    """Its own activation, and those that a caller passes as a module of torch."""
    path = f"torch.nn.modules.activation.{activation}"
    if activation == "Identity":
        path = "torch.nn.modules.linear.Identity"
    pair = export_cross_encoder(tmp_path, activation=path, labels=labels, seed=labels)
    model = original(pair.folder)
    with Reranker.load(pair.bundle) as reranker:
        assert reranker.activation == activation
        calls: list[dict[str, Any]] = [{}, {"activation_fn": torch.nn.Sigmoid()}]
        if labels > 1 or not BEFORE_5:  # sentence-transformers 5 makes 1 of every single score
            calls.append({"apply_softmax": True})
        for options in calls:
            expected = scores_alone(model, PAIRS, **options)
            found = reranker.predict(PAIRS, **options)
            assert largest_difference(found, expected) <= TOLERANCE
        assert reranker.predict(PAIRS[0]).tobytes() == reranker.predict(PAIRS)[0].tobytes()


def test_activations_in_numpy_are_those_of_torch() -> None:
    generator = np.random.default_rng(0)
    scores = (10 ** generator.uniform(-3, 2.5, (2_000, 4))).astype(np.float32)
    scores *= generator.choice([-1, 1], scores.shape).astype(np.float32)
    scores[0] = 0
    for name in get_args(ScoreActivation):
        options = {"dim": 1} if name.endswith("Softmax") and name != "Softmax2d" else {}
        wide = torch.from_numpy(scores.astype(np.float64))
        expected = getattr(torch.nn, name)(**options)(wide).numpy()
        found = activate(scores, name)
        assert found.dtype == np.float32
        assert np.allclose(found, expected, rtol=1.2e-7, atol=1e-38), name


class TestDefaultActivation:
    """Where no file names one, or one that is not torch's."""

    @pytest.mark.parametrize(("labels", "activation"), [(1, "Sigmoid"), (2, "Identity")])
    def test_by_labels(self, tmp_path: Path, labels: int, activation: str) -> None:
        pair = export_cross_encoder(tmp_path, labels=labels, activation="somebody.Else")
        manifest = Bundle.open(pair.bundle).manifest
        assert (
            manifest.reranking
            == Reranking(
                activation=activation,  # type: ignore[arg-type]
                labels=("LABEL_0", "LABEL_1")[:labels],
            )
        )

    def test_old_key(self, tmp_path: Path) -> None:
        folder = make_cross_encoder(tmp_path / "old")
        old = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
        change_json(folder / "config.json", **old)
        assert read_settings(folder).activation == "Identity"

    def test_one_that_no_bundle_has(self, tmp_path: Path) -> None:
        folder = make_cross_encoder(tmp_path / "m", activation="torch.nn.modules.activation.Mish")
        with pytest.raises(
            UnsupportedModelError, match="Mish, which is not one of torch's Hardsig"
        ):
            read_settings(folder)


def test_saved_by_sentence_transformers(tmp_path: Path) -> None:
    """With ``modules.json``, prompts and an activation in its own settings."""
    bare = make_cross_encoder(tmp_path / "bare")
    model = CrossEncoder(
        str(bare),
        device="cpu",
        prompts={"query": "query: ", "web": "Given a web search query: "},
        default_prompt_name="web",
        activation_fn=torch.nn.Tanh(),
        max_length=20,
    )
    folder = tmp_path / "saved"
    with redirect_stderr(io.StringIO()):
        model.save_pretrained(str(folder))
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    model = original(folder)
    with Reranker.load(bundle) as reranker:
        assert reranker.prompts == {"query": "query: ", "web": "Given a web search query: "}
        assert (reranker.default_prompt_name, reranker.activation) == ("web", "Tanh")
        assert reranker.max_tokens == 20
        calls: list[dict[str, Any]] = [{}, {"prompt_name": "query"}, {"prompt": "ask: "}]
        for options in calls:
            expected = scores_alone(model, PAIRS, **options)
            assert largest_difference(reranker.predict(PAIRS, **options), expected) <= TOLERANCE
        documents = ["one", "two", "three"]
        ranked = model.rank(QUERY, documents, top_k=2, return_documents=True)
        found = reranker.rank(QUERY, documents, top_k=2, return_documents=True)
    assert [(one["corpus_id"], one["text"]) for one in found] == [
        (one["corpus_id"], one["text"]) for one in ranked
    ]


class TestOddPairs:
    """What a text can hold, on either side."""

    TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.lists(
        st.sampled_from(
            ["[SEP]", "[CLS]", "[PAD]", "fox", "the", "Ünï", "👩‍👩‍👧", " ", "\n", "x" * 120]
        ),
        max_size=90,
    ).map(" ".join)

    @given(TEXTS, TEXTS)
    @settings(max_examples=150)
    def test_same_tokens(self, made_bert: tuple[Reranker, CrossEncoder], a: str, b: str) -> None:
        reranker, model = made_bert
        assert_same_tokens(reranker, model, (a, b))

    @given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
    @settings(max_examples=40)
    def test_same_scores(
        self, made_bert: tuple[Reranker, CrossEncoder], pairs: list[tuple[str, str]]
    ) -> None:
        reranker, model = made_bert
        expected = scores_alone(model, [*pairs, *PAIRS[:3]])
        found = reranker.predict([*pairs, *PAIRS[:3]])
        assert largest_difference(found, expected) <= TOLERANCE
        for pair, score in zip(pairs, found, strict=False):
            assert reranker.predict(pair).tobytes() == score.tobytes()

    @pytest.mark.slow
    def test_five_thousand(self, made_bert: tuple[Reranker, CrossEncoder]) -> None:
        reranker, model = made_bert
        generator = random.Random(0)
        words = [
            *LONG.split()[:12],
            "[SEP]",
            "[CLS]",
            "[MASK]",
            "Ünï",
            "😀",
            "\u200b",
            "x" * 90,
            "",
        ]
        pairs = [
            tuple(" ".join(generator.choices(words, k=generator.choice(LENGTHS))) for _ in "ab")
            for _ in range(5_000)
        ]
        expected = scores_alone(model, pairs)  # type: ignore[arg-type]
        found = reranker.predict(pairs)
        assert largest_difference(found, expected) <= TOLERANCE
        again = reranker.predict(list(reversed(pairs)), batch_size=3)
        assert again[::-1].tobytes() == found.tobytes()


LENGTHS = (0, 0, 1, 2, 3, 5, 8, 13, 21, 34, 60, 61, 62, 100)


@pytest.mark.parametrize(
    ("room", "family"),
    [
        (0, "bert"),
        (1, "roberta"),
        (0, "xlm-roberta"),
        pytest.param(1, "bert", marks=pytest.mark.slow),
        pytest.param(0, "roberta", marks=pytest.mark.slow),
        pytest.param(1, "xlm-roberta", marks=pytest.mark.slow),
    ],
)
def test_texts_that_are_cut_before_they_are_tokenized(
    made: MakeReranker, tmp_path: Path, family: str, room: int
) -> None:
    """Far beyond the maximum, on either side and on both, with an odd and an even room for them."""
    folder = shutil.copytree(made(family).folder, tmp_path / "model")
    change_json(folder / "tokenizer_config.json", model_max_length=40 + room)
    model = original(folder)
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    odd = "x" * 1_400 + " " + LONG
    texts = ["", "a", "a b c " * 5, LONG, LONG * 3, LONG * 4 + " tail", odd, "😀" * 300]
    with Reranker.load(bundle) as reranker:
        assert reranker.max_tokens == 40 + room
        for pair in itertools.product(texts, texts):
            assert_same_tokens(reranker, model, pair)


def test_long_texts_stay_bounded(bert: Reranker) -> None:
    """Ten million characters on both sides: the first million of each are read at most."""
    pair = ("fox " * 2_500_000, "dog " * 2_500_000)
    start = ("fox " * 2_000, "dog " * 2_000)
    assert bert.predict(pair).tobytes() == bert.predict(start).tobytes()


def assert_same_tokens(reranker: Reranker, model: CrossEncoder, pair: tuple[str, str]) -> None:
    (found,) = reranker.tokenize_pairs([pair])
    features = model.preprocess([list(pair)])
    expected = [features["input_ids"][0].tolist()]
    if found.ndim == 2:
        expected.append(features["token_type_ids"][0].tolist())
    assert np.atleast_2d(found).tolist() == expected


@pytest.fixture(scope="module")
def made_bert(made: MakeReranker, bert: Reranker) -> tuple[Reranker, CrossEncoder]:
    return bert, original(made("bert").folder)


class TestSameBytes:
    def test_alone_and_in_batches(self, made: MakeReranker) -> None:
        for family in ("bert", "xlm-roberta", "modernbert", "mpnet"):
            with Reranker.load(made(family).bundle, threads=2) as reranker:
                alone = np.stack([reranker.predict(pair) for pair in PAIRS])
                many = [PAIRS[index % len(PAIRS)] for index in range(200)]
                together = reranker.predict(many)
                assert together[: len(PAIRS)].tobytes() == alone.tobytes()
                assert reranker.predict(many[::-1], batch_size=1)[::-1].tobytes() == (
                    together.tobytes()
                )

    def test_int8(self, made: MakeReranker, tmp_path: Path) -> None:
        folder = made("bert").folder
        bundle = export_model(str(folder), output=tmp_path / "int8", precision="int8")
        manifest = Bundle.open(bundle).manifest
        quality = manifest.quantization
        assert isinstance(quality, ScoreQuantization)
        assert quality.scheme == "static"
        assert quality.kendall_tau >= 0.9
        assert quality.texts == 240
        expected = scores_alone(original(folder), PAIRS, activation_fn=torch.nn.Identity())
        with Reranker.load(bundle) as reranker:
            found = reranker.raw_scores(PAIRS)[:, 0]
            assert 1e-4 < largest_difference(found, expected) < 0.15
            alone = np.stack([reranker.raw_scores([pair])[0] for pair in PAIRS])
            assert alone[:, 0].tobytes() == found.tobytes()


class TestRefusals:
    def test_more_labels_than_weights(self, tmp_path: Path) -> None:
        folder = make_cross_encoder(tmp_path / "m")
        names = {"0": "no", "1": "yes"}
        change_json(folder / "config.json", id2label=names, label2id={"no": 0, "yes": 1})
        with pytest.raises(UnsupportedModelError):
            export_model(str(folder), output=tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.skipif(BEFORE_5, reason="transformers 4 does not know the architecture")
    def test_a_family_without_a_known_classifier(self, tmp_path: Path) -> None:
        folder = make_cross_encoder(tmp_path / "m", "gte")
        with pytest.raises(UnsupportedModelError, match="classifier of the architecture gte"):
            export_model(str(folder), output=tmp_path / "bundle")

    def test_the_original_of_another_task(self, made: MakeReranker, tmp_path: Path) -> None:
        pair = made("bert")
        other = make_small(tmp_path / "other", "bert")
        with (
            Reranker.load(pair.bundle) as reranker,
            pytest.raises(UnsupportedModelError, match="is a model for embedding, and the bundle"),
        ):
            prove_bundle(reranker, str(other))

    def test_the_weights_of_another(self, made: MakeReranker, tmp_path: Path) -> None:
        """What differs is named by pair, and by the original's score."""
        other = make_cross_encoder(tmp_path / "other", seed=1)
        with (
            Reranker.load(made("bert").bundle) as reranker,
            pytest.raises(ProofError, match=r"differs by .* in the bundle and .* in the original"),
        ):
            prove_bundle(reranker, str(other))

    def test_another_maximum(self, made: MakeReranker, tmp_path: Path) -> None:
        """A tokenizer that differs shows in the proof."""
        pair = made("bert")
        bundle = shutil.copytree(pair.bundle, tmp_path / "bundle")
        manifest = Bundle.open(bundle).manifest
        text = dataclasses.replace(manifest, truncation_side="left").to_json()
        (bundle / "manifest.json").write_text(text, encoding="utf-8")
        with (
            Reranker.load(bundle) as reranker,
            pytest.raises(ProofError, match=r"token \d+ is \d+ \('.+'\) in the bundle"),
        ):
            prove_bundle(reranker, str(pair.folder))


def test_card(made: MakeReranker) -> None:
    page = (made("bert").bundle / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-ranking" in page
    assert "reranker.rank(" in page
    assert "Embedder" not in page


def test_verify_against(made: MakeReranker, capsys: pytest.CaptureFixture[str]) -> None:
    pair = made("bert")
    assert main(["verify", str(pair.bundle), "--against", str(pair.folder)]) == 0
    assert "same bytes alone and in batches" in capsys.readouterr().out
