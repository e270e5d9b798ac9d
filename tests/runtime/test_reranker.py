"""The `Reranker`, on bundles of a few hundred bytes: what it takes, gives and refuses."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Bundle, Embedder, Reranker
from embedrt.bundle.manifest import Manifest
from embedrt.cli import main
from embedrt.errors import (
    BundleCorruptError,
    BundleFormatError,
    ClosedError,
    OverloadedError,
    OverlongTextError,
)
from embedrt.verify import check_probes
from tiny_bundle import make_tiny, make_tiny_reranker, pair_tokenizer, tiny_manifest

DOCUMENTS = ["w1", "w9 w1", "w3", "", "w3"]
SCORES = [1.0, 10.0, 3.0, 0.0, 3.0]
PAIRS = [("w7", document) for document in DOCUMENTS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_reranker(tmp_path / "ranks")


@pytest.fixture
def reranker(folder: Path) -> Iterator[Reranker]:
    with Reranker.load(folder, threads=2) as reranker:
        yield reranker


class TestPredict:
    def test_one_pair_and_many(self, reranker: Reranker) -> None:
        many = reranker.predict(PAIRS)
        assert many.dtype == np.float32
        assert many.tolist() == SCORES
        for one in (("w7", "w9 w1"), ["w7", "w9 w1"], np.array(["w7", "w9 w1"])):
            assert reranker.predict(one) == 10.0
            assert reranker.predict(one).shape == ()

    @pytest.mark.parametrize(
        "pairs",
        [
            PAIRS,
            [list(pair) for pair in PAIRS],
            tuple(PAIRS),
            np.array(PAIRS),
            np.array(PAIRS, object),
            (pair for pair in PAIRS),
            [np.array(pair) for pair in PAIRS],
        ],
        ids=lambda pairs: type(pairs).__name__,
    )
    def test_what_holds_pairs(self, reranker: Reranker, pairs: Any) -> None:
        assert reranker.predict(pairs).tolist() == SCORES

    def test_none(self, reranker: Reranker) -> None:
        assert reranker.predict([]).shape == (0,)

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            ("w1", r"pairs is a str; pass an ordered iterable of pairs of str: \(query, text\)$"),
            ([("w1", "w2"), "w3"], r"pairs\[1\] is a str"),
            ([("w1", "w2"), ("w3",)], r"pairs\[1\] is a tuple"),
            ([("w1", "w2", "w3")], r"pairs\[0\] is a tuple"),
            ([("w1", None)], r"pairs\[0\]\[1\] is None"),
            ([(1, "w1")], r"pairs\[0\]\[0\] is an int"),
            (["w1", "w2", "w3"], "pair is a list"),
            ([{"w1", "w2"}], r"pairs\[0\] is a set"),
            ([None], r"pairs\[0\] is None"),
            (None, "pairs is None; pass an ordered iterable of pairs"),
        ],
    )
    def test_what_is_no_pair(self, reranker: Reranker, pairs: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            reranker.predict(pairs)
        assert reranker.stats().texts == 0

    def test_several_labels(self, tmp_path: Path) -> None:
        with Reranker.load(make_tiny_reranker(tmp_path / "three", labels=3)) as reranker:
            scores = reranker.predict(PAIRS)
            assert scores.tolist() == [[score, 2 * score, 3 * score] for score in SCORES]
            assert reranker.predict(PAIRS[0]).tolist() == [1, 2, 3]
            assert reranker.predict([]).shape == (0, 3)
            shares = reranker.predict(PAIRS, apply_softmax=True)
            assert np.allclose(shares.sum(axis=1), 1)
            assert shares.dtype == np.float32
            with pytest.raises(
                ValueError, match=r"3 labels .LABEL_0, LABEL_1, LABEL_2.*use predict"
            ):
                reranker.rank("w1", DOCUMENTS)

    def test_activations(self, tmp_path: Path) -> None:
        with Reranker.load(make_tiny_reranker(tmp_path / "b", activation="Sigmoid")) as reranker:
            expected = 1 / (1 + np.exp(-np.array(SCORES)))
            assert np.allclose(reranker.predict(PAIRS), expected, rtol=1e-6)
            assert reranker.predict(PAIRS, activation_fn="Identity").tolist() == SCORES
            assert reranker.predict(PAIRS, activation_fct="Identity").tolist() == SCORES  # old name
            halves = reranker.predict(PAIRS, activation_fn=lambda scores: scores / 2)
            assert halves.tolist() == [score / 2 for score in SCORES]
            # Of one label, which a softmax would make 1.
            assert np.allclose(reranker.predict(PAIRS, apply_softmax=True), expected, rtol=1e-6)
            assert reranker.raw_scores(PAIRS).tolist() == [[score] for score in SCORES]
            with pytest.raises(ValueError, match="activation_fn='Cube'; expected one of Hardsig"):
                reranker.predict(PAIRS, activation_fn="Cube")
            with pytest.raises(TypeError, match="activation_fn is a int"):
                reranker.predict(PAIRS, activation_fn=1)
            by_row = reranker.predict(PAIRS, activation_fn=lambda scores: scores[:, 0])
            assert by_row.tolist() == SCORES
            for wrong in (lambda _: None, np.sum, np.transpose, lambda scores: scores[1:]):
                with pytest.raises(
                    ValueError, match=r"^activation_fn returns the shape \(.*\) for"
                ):
                    reranker.predict(PAIRS, activation_fn=wrong)

    def test_keywords_of_cross_encoder(self, reranker: Reranker) -> None:
        scores = reranker.predict(
            inputs=PAIRS, batch_size=2, show_progress_bar=False, convert_to_numpy=True,
            convert_to_tensor=False, device="cpu", num_workers=4, pool=None, chunk_size=None,
        )  # fmt: skip
        assert scores.tolist() == SCORES
        assert reranker.predict(sentences=PAIRS).tolist() == SCORES
        with pytest.raises(ValueError, match="convert_to_tensor=True cannot be honored"):
            reranker.predict(PAIRS, convert_to_tensor=True)
        unknown: Any = {"colour": 1}
        with pytest.raises(
            TypeError, match=r"predict.. got an unexpected keyword argument 'colour'"
        ):
            reranker.predict(PAIRS, **unknown)
        with pytest.raises(TypeError, match="passed twice"):
            reranker.predict(PAIRS, inputs=PAIRS)
        with pytest.raises(TypeError, match="missing"):
            reranker.predict()
        with pytest.raises(ValueError, match="batch_size=0"):
            reranker.predict(PAIRS, batch_size=0)

    def test_equal_pairs_are_computed_once(self, reranker: Reranker) -> None:
        assert reranker.predict([("w1", "w2")] * 50).tolist() == [2.0] * 50
        stats = reranker.stats()
        assert (stats.texts, stats.coalesced, stats.batches) == (50, 49, 1)

    def test_swapped_pairs_are_not_equal(self, reranker: Reranker) -> None:
        """They have the same token ids, and other types."""
        assert reranker.predict([("w1", "w2"), ("w2", "w1"), ("w1 w2", "")]).tolist() == [2, 1, 0]

    def test_a_cache_tells_types_apart(self, folder: Path) -> None:
        with Reranker.load(folder, cache_mb=1) as reranker:
            for _ in range(2):
                assert reranker.predict([("w1", "w2"), ("w1 w2", "")]).tolist() == [2, 0]
            assert reranker.stats().cache_hits == 2


class TestRank:
    def test_order(self, reranker: Reranker) -> None:
        ranked = reranker.rank("w7", DOCUMENTS)
        assert [one["corpus_id"] for one in ranked] == [1, 2, 4, 0, 3]  # equal ones as given
        assert [one["score"] for one in ranked] == [10.0, 3.0, 3.0, 1.0, 0.0]
        assert set(ranked[0]) == {"corpus_id", "score"}
        assert type(ranked[0]["score"]) is float

    def test_top_k_and_documents(self, reranker: Reranker) -> None:
        ranked = reranker.rank("w7", (text for text in DOCUMENTS), top_k=2, return_documents=True)
        assert ranked == [
            {"corpus_id": 1, "score": 10.0, "text": "w9 w1"},
            {"corpus_id": 2, "score": 3.0, "text": "w3"},
        ]
        assert reranker.rank("w7", []) == []
        assert len(reranker.rank("w7", DOCUMENTS, top_k=100)) == len(DOCUMENTS)

    def test_what_is_no_text(self, reranker: Reranker) -> None:
        with pytest.raises(TypeError, match=r"^documents\[1\] is None"):
            reranker.rank("w7", ["w1", None])  # type: ignore[list-item]
        query: Any = None
        with pytest.raises(TypeError, match=r"^query is None; every text must be a str$"):
            reranker.rank(query, ["w1"])
        with pytest.raises(
            TypeError, match=r"^documents is a str; pass an ordered iterable of str$"
        ):
            reranker.rank("w7", "w1")

    def test_scores_that_are_nan_come_last(self, reranker: Reranker) -> None:
        def without_ten(scores: Any) -> Any:
            return np.where(scores == 10, np.nan, scores)

        ranked = reranker.rank("w7", DOCUMENTS, activation_fn=without_ten)
        assert [one["corpus_id"] for one in ranked] == [2, 4, 0, 3, 1]


class TestAsync:
    def test_same_as_without(self, reranker: Reranker) -> None:
        async def run() -> tuple[Any, Any, Any]:
            return (
                await reranker.apredict(PAIRS),
                await reranker.arank("w7", DOCUMENTS, top_k=1),
                await reranker.ascore(PAIRS, activation_fn="Tanh"),
            )

        scores, ranked, scored = asyncio.run(run())
        assert scores.tolist() == SCORES
        assert ranked == reranker.rank("w7", DOCUMENTS, top_k=1)
        assert scored.token_counts.tolist() == [2, 3, 2, 1, 2]
        assert scored.scores.tobytes() == reranker.predict(PAIRS, activation_fn="Tanh").tobytes()

    def test_truncation_of_one_call(self, reranker: Reranker) -> None:
        """Beyond 8 tokens: six of the longer text, from the right or the left."""
        pair = ("w7 w7", "w1 " * 6 + "w9")

        async def run() -> list[float]:
            return [
                float(await reranker.apredict(pair)),
                float((await reranker.ascore(pair, truncation_side="left")).scores),
            ]

        assert asyncio.run(run()) == [6.0, 5.0 + 9.0]
        with pytest.raises(OverlongTextError):
            asyncio.run(reranker.ascore(pair, overlong="error"))


class TestPrompts:
    def test_first_text_only(self, tmp_path: Path) -> None:
        prompts = {"query": "w1 ", "long": "w1 w1 w1 w1 w1 w1 w1 w1 "}
        bundle = make_tiny_reranker(
            tmp_path / "p", prompts=prompts, default_prompt_name="long", max_tokens=4
        )
        with Reranker.load(bundle) as reranker:
            pair = ("", "w1 w2 w3")
            assert reranker.predict(pair, prompt="") == 6
            assert reranker.predict(pair, prompt_name="query") == 6
            assert reranker.predict(pair) == 3  # two tokens are left to each
            assert reranker.rank("", ["w1 w2 w3"])[0]["score"] == 3
            assert reranker.prompts == prompts
            with pytest.raises(ValueError, match="prompt_name='x'; this model has"):
                reranker.predict(pair, prompt_name="x")


class TestOverlong:
    PAIR = ("w1 w2 w3 w4 w5", "w1 w2 w3 w4 w5")

    def test_error(self, folder: Path) -> None:
        with Reranker.load(folder, overlong="error") as reranker:
            with pytest.raises(OverlongTextError) as caught:
                reranker.predict([("w1", "w2"), self.PAIR])
            assert caught.value.index == 1
            assert "it has 10 tokens, and this model takes 8 tokens" in str(caught.value)
            assert reranker.predict(("w1 w2 w3 w4", "w1 w2 w3 w4")) == 10

    def test_warning(self, folder: Path) -> None:
        with (
            Reranker.load(folder, overlong="warn") as reranker,
            pytest.warns(UserWarning, match="1 of 2 texts have more than the 8 tokens"),
        ):
            assert reranker.predict([("w1", "w2"), self.PAIR]).tolist() == [2.0, 10.0]

    def test_counts(self, reranker: Reranker) -> None:
        assert reranker.count_pair_tokens(self.PAIR) == 10
        assert reranker.count_pair_tokens([self.PAIR, ("", "w1")]).tolist() == [10, 1]
        (ids,) = reranker.tokenize_pairs([("w5", "w1 w2")])
        assert ids.tolist() == [[5, 1, 2], [0, 1, 1]]


class TestLoading:
    def test_bundles_of_another_task(self, folder: Path, tmp_path: Path) -> None:
        tiny = make_tiny(tmp_path / "tiny")
        with pytest.raises(BundleFormatError, match=r"for embedding, but Reranker.*Embedder\.load"):
            Reranker.load(tiny)
        with pytest.raises(BundleFormatError, match=r"for reranking, but Embedder.*Reranker\.load"):
            Embedder.load(folder)

    def test_closed_and_overloaded(self, folder: Path) -> None:
        reranker = Reranker.load(folder, max_waiting_tokens=1)
        assert reranker.predict(PAIRS).tolist() == SCORES
        reranker.close()
        with pytest.raises(ClosedError):
            reranker.predict(PAIRS)
        assert issubclass(OverloadedError, RuntimeError)

    def test_pickles(self, reranker: Reranker) -> None:
        with pickle.loads(pickle.dumps(reranker)) as again:
            assert again.predict(PAIRS).tolist() == SCORES

    def test_names(self, reranker: Reranker) -> None:
        assert (reranker.num_labels, reranker.labels) == (1, ("LABEL_0",))
        assert reranker.activation == "Identity"
        assert reranker.max_seq_length == reranker.max_tokens == 8

    def test_too_few_tokens_for_a_pair(self, tmp_path: Path) -> None:
        tokenizer = pair_tokenizer(special=True)
        folder = make_tiny_reranker(tmp_path / "short", max_tokens=2, tokenizer=tokenizer)
        with pytest.raises(BundleFormatError, match="max_tokens is 2, and 3 special tokens"):
            Reranker.load(folder)


class TestManifest:
    def test_round_trip(self, folder: Path) -> None:
        manifest = Bundle.open(folder).manifest
        assert Manifest.from_json(manifest.to_json()) == manifest
        assert '"reranking"' not in tiny_manifest().to_json()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"reranking": None}, "reranking does not fit task 'reranking'; expected an object"),
            ({"dimension": 2}, "labels has 1 names; expected 2"),
            ({"task": "embedding"}, "inputs does not fit task 'embedding'"),
        ],
    )
    def test_what_does_not_fit(self, tmp_path: Path, changes: Any, message: str) -> None:
        folder = make_tiny_reranker(tmp_path / "wrong", **changes)
        with pytest.raises(BundleFormatError, match=message):
            Bundle.open(folder)

    def test_embeddings_have_no_labels(self, folder: Path) -> None:
        own = Bundle.open(folder).manifest.reranking
        with pytest.raises(BundleFormatError, match="expected no such field"):
            Manifest.from_json(tiny_manifest(reranking=own).to_json())


class TestShell:
    def test_rerank(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "texts.txt"
        file.write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
        assert main(["rerank", str(folder), "--query", "w7", str(file), "--top-k", "2"]) == 0
        assert capsys.readouterr().out == "10.0000\tw9 w1\n3.0000\tw3\n"
        assert main(["rerank", str(folder), "--query", "w7", str(file), "--top-k", "0"]) == 1
        assert "--top-k 0; expected at least 1" in capsys.readouterr().err

    def test_verify_and_info(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", str(folder)]) == 0
        assert "scores on this machine: largest difference 0.0e+00" in capsys.readouterr().out
        assert main(["info", str(folder)]) == 0
        shown = capsys.readouterr().out
        assert "labels      LABEL_0\n" in shown
        assert "version 2, reranking" in shown
        assert "\nengine      ONNX Runtime " in shown
        assert "similarity" not in shown

    def test_other_commands_name_the_class(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "texts.txt").write_text("w1\n", encoding="utf-8")
        assert main(["encode", str(folder), str(tmp_path / "texts.txt")]) == 1
        assert "use Reranker.load" in capsys.readouterr().err

    def test_bench(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", str(folder), "--quick"]) == 0
        assert "texts/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    "probes", ['[{"text": "w1", "embedding": [1]}]', '[{"pair": ["w1"], "scores": [1]}]', "[]"]
)
def test_wrong_probes(tmp_path: Path, probes: str) -> None:
    bundle = Bundle.open(make_tiny_reranker(tmp_path / "wrong", probes=probes))
    with (
        Reranker(bundle) as reranker,
        pytest.raises(BundleCorruptError, match="holds no pairs with their scores"),
    ):
        check_probes(reranker, bundle)
