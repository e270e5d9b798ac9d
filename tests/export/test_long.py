"""Tests of models for long texts: attention in bounded memory, and a proof that takes minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from transformers import AutoConfig

from children import output_of
from comparison import Pair, assert_agrees, export_small
from embedrt import Embedder
from embedrt.bundle.manifest import Precision
from embedrt.engine.runner import TextIds
from embedrt.engine.session import Session
from embedrt.errors import ProofError
from embedrt_export import export_model
from embedrt_export.assemble import build_graph, quantize_graph
from embedrt_export.encoder import LONG
from embedrt_export.int8.quality import Quality
from embedrt_export.proof.agreement import prove
from embedrt_export.proof.comparison import compare, rehearse
from embedrt_export.proof.oracle import Oracle
from embedrt_export.proof.texts import cut_texts, proof_texts
from embedrt_export.source.settings import read_settings
from model_folders import make_random

POSITIONS = {"bert": 1024, "xlm-roberta": 1026, "distilbert": 1024}
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
LENGTHS = (2, 63, 64, 65, 500, 513, 1000, 1024, 1300)


@pytest.fixture(scope="module", params=POSITIONS)
def long_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A small model for texts of 1,024 tokens, and its bundle."""
    config = {"max_position_embeddings": POSITIONS[request.param]}
    parent = tmp_path_factory.mktemp("long")
    return export_small(parent, request.param, max_tokens=1024, config=config)


def attentions(bundle: Path) -> set[str]:
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    return {node.op_type for node in model.graph.node if "Attention" in node.op_type}


def texts_of(lengths: Sequence[int]) -> list[str]:
    """Return texts of about these lengths in tokens."""
    words = "the quick brown fox jumps over 12 lazy dogs".split()
    return [" ".join(words[n % 9] for n in range(length)) for length in lengths]


def test_agrees(long_pair: Pair) -> None:
    assert attentions(long_pair.bundle) == {"MultiHeadAttention"}
    with Embedder.load(long_pair.bundle) as embedder:
        assert embedder.max_tokens == 1024
        texts = texts_of(LENGTHS)
        assert max(len(ids) for ids in embedder.tokenize(texts)) == 1024
    assert_agrees(long_pair, texts)


@pytest.mark.parametrize(
    ("long_pair", "precision"),
    [
        *((name, "fp32") for name in POSITIONS),
        ("bert", "int8"),
        pytest.param("xlm-roberta", "int8", marks=pytest.mark.slow),
        pytest.param("distilbert", "int8", marks=pytest.mark.slow),
    ],
    indirect=["long_pair"],
)
def test_same_bytes(long_pair: Pair, tmp_path: Path, precision: Precision) -> None:
    bundle = long_pair.bundle
    if precision == "int8":
        bundle = export_model(str(long_pair.folder), output=tmp_path / "b", precision="int8")
        assert attentions(bundle) == {"MultiHeadAttention"}
    with Embedder.load(bundle, threads=1) as embedder:
        texts = texts_of(LENGTHS)
        alone = [embedder.encode(text).tobytes() for text in texts]
    for threads in (1, 2, 3):
        with Embedder.load(bundle, threads=threads) as embedder:
            vectors = embedder.encode([*texts, *(f"{text} again" for text in texts)] * 2)
            assert [vector.tobytes() for vector in vectors[: len(texts)]] == alone
            for _ in range(2):  # the second time on all cores
                assert [embedder.encode(text).tobytes() for text in texts] == alone


@pytest.mark.parametrize("positions", [514, 1026])
def test_models_for_short_texts_keep_their_attention(tmp_path: Path, positions: int) -> None:
    config = {"max_position_embeddings": positions}
    pair = export_small(tmp_path, "xlm-roberta", max_tokens=512, config=config)
    assert attentions(pair.bundle) == {"Attention"}


def test_a_bias_on_scores_keeps_its_attention(tmp_path: Path) -> None:
    config = {"max_position_embeddings": 1026}
    pair = export_small(tmp_path, "mpnet", max_tokens=1024, config=config)
    assert attentions(pair.bundle) == {"Attention"}


def test_texts_of_the_proof() -> None:
    longest = [text for text in proof_texts([], 8192, len) if len(text) >= 1000]
    assert [len(text) for text in longest] == [3 * 8192]
    assert [len(text) for text in cut_texts(8192, len)] == [8191, 8192, 8193]
    assert cut_texts(LONG, len) == []


@pytest.mark.parametrize(
    "long_pair",
    [pytest.param(name, marks=[] if name == "bert" else pytest.mark.slow) for name in POSITIONS],
    indirect=True,
)
class TestProof:
    """A text of 8,192 tokens takes a minute, so the proof has few of them."""

    def test_the_longest_text_runs_once(
        self, long_pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bundle and the original run it once each, and not in a batch."""
        ours: list[int] = []
        session_run = Session.run

        def counting_run(session: Session, texts: TextIds) -> NDArray[np.float32]:
            ours.extend(map(len, texts))
            return session_run(session, texts)

        oracle = Oracle(long_pair.folder)
        oracle.limit(1024)
        with Embedder.load(long_pair.bundle) as embedder:
            monkeypatch.setattr(Session, "run", counting_run)
            rehearse(oracle, 1024, embedder.count_tokens)
            known = oracle.results.known()
            compare(embedder, oracle)
        longest = [text for call, text in known if oracle.input_ids(text, call).size == 1024]
        assert ours.count(1024) == len(longest) == 1
        assert oracle.results.known() == known
        assert all(length <= LONG or length == 1024 for length in ours)

    def test_without_the_weights(self, long_pair: Pair) -> None:
        oracle = Oracle(long_pair.folder)
        oracle.limit(1024)
        with Embedder.load(long_pair.bundle) as embedder:
            rehearse(oracle, 1024, embedder.count_tokens)
            oracle.release()
            assert prove(embedder, oracle) == embedder.manifest.agreement
            with pytest.raises(RuntimeError, match="released"):
                oracle.embed(["a text that was not embedded before"])

    def test_texts_truncated_at_another_length(self, long_pair: Pair) -> None:
        """If texts are truncated differently, the tokens are compared, but not the vectors."""
        oracle = Oracle(long_pair.folder)
        oracle.limit(1023)
        with (
            Embedder.load(long_pair.bundle) as embedder,
            pytest.raises(ProofError, match=r"token 102[23] is .* in the original\. Nothing was"),
        ):
            prove(embedder, oracle)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_memory_of_a_text_of_8192_tokens(tmp_path: Path, precision: Precision) -> None:
    """12 layers of 768 need less than 700 MB above load; the full matrix of scores takes 3 GB."""
    folder = make_random(tmp_path / "model", layers=12, hidden=768, vocabulary=500, positions=8194)
    built = build_graph(read_settings(folder), AutoConfig.from_pretrained(folder), tmp_path / "g")
    graph = built.graph
    if precision == "int8":
        ids = [np.arange(5, 60) % (400 + n) for n in range(40)]
        graph = quantize_graph(built, ids, ids, Quality(min_cosine=0, rank_agreement=0)).graph
    grown = float(output_of(MEMORY_OF_A_TEXT, graph, precision))
    assert 50 < grown < 700


MEMORY_OF_A_TEXT = """
import sys
from pathlib import Path
import numpy as np
from embedrt.bench.memory import peak_bytes, resident_bytes
from embedrt.engine.session import Session

session = Session(Path(sys.argv[1]), sys.argv[2])
loaded = resident_bytes()
session.run(np.arange(8192)[None] % 400 + 5)
print((peak_bytes() - loaded) / 1e6)
"""
