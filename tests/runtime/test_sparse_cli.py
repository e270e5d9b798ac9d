"""The command line with a bundle of a sparse encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedrt.bundle.manifest import QueryWeights
from embedrt.bundle.reader import Bundle
from embedrt.cli import main
from embedrt.errors import BundleCorruptError
from embedrt.sparse import SparseEncoder
from embedrt.verify import check_probes, read_probes
from tiny_bundle import make_tiny
from tiny_sparse import make_tiny_sparse

LINES = [
    {"indices": [7, 14], "values": [1.0, 2.0]},
    {"indices": [], "values": []},
    {"indices": [63], "values": [1.0]},
]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    queries = QueryWeights(max_tokens=8, by_default=False)
    prompts = {"query": "w3 ", "document": ""}
    return make_tiny_sparse(tmp_path / "bundle", prompts=prompts, queries=queries)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.txt").write_text("w2 w1 w2\n\nw9\n", encoding="utf-8")
    return tmp_path / "texts.txt"


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


class TestEncode:
    def test_lines(self, bundle: Path, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["encode", str(bundle), str(texts)]) == 0
        assert lines(capsys.readouterr().out) == LINES
        output = texts.with_name("rows.jsonl")
        assert main(["encode", str(bundle), str(texts), "--output", str(output)]) == 0
        assert lines(output.read_text(encoding="utf-8")) == LINES

    def test_a_task_chooses_route_and_prompt(
        self, bundle: Path, texts: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["encode", str(bundle), str(texts), "--task", "query"]) == 0
        first, second, _ = lines(capsys.readouterr().out)
        assert first == {"indices": [1, 2, 3], "values": [1.0, 2.0, 0.5]}
        assert second == {"indices": [3], "values": [0.5]}
        main(["encode", str(bundle), str(texts), "--task", "query", "--prompt", "w4 "])
        assert lines(capsys.readouterr().out)[1] == {"indices": [4], "values": [2.0]}

    def test_the_largest(
        self, bundle: Path, texts: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["encode", str(bundle), str(texts), "--max-active-dims", "1"]) == 0
        assert lines(capsys.readouterr().out)[0] == {"indices": [14], "values": [2.0]}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--normalize"], "--normalize True: only for dense embeddings"),
            (["--truncate-dim", "2"], "--truncate-dim 2: only for dense embeddings"),
            (["--precision", "binary"], "--precision binary: only for dense embeddings"),
            (["--output", "x.npy"], "sparse rows are JSON lines"),
        ],
    )
    def test_options_of_dense_embeddings(
        self,
        bundle: Path,
        texts: Path,
        options: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(["encode", str(bundle), str(texts), *options]) != 0
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize("options", [["--max-active-dims", "2"], ["--task", "query"]])
    def test_options_of_sparse_encoders(
        self, tmp_path: Path, texts: Path, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        dense = make_tiny(tmp_path / "dense")
        assert main(["encode", str(dense), str(texts), *options]) != 0
        assert "only for a bundle of a sparse encoder" in capsys.readouterr().err


def test_info(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "format      version 2, sparse" in shown
    assert "vocabulary  70" in shown
    assert "\nengine      ONNX Runtime " in shown
    assert "pooling     sum of relu, queries from a weight per token" in shown


def test_verify(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert "weights on this machine: largest difference 0.0e+00" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "allowed"), [(1.000001, True), (1.1, False)])
def test_probes(tmp_path: Path, value: float, *, allowed: bool) -> None:
    bundle = Bundle.open(make_tiny_sparse(tmp_path / "bundle"))
    file = bundle.path / "probes.json"
    (probe,) = json.loads(file.read_text(encoding="utf-8"))
    probe["weights"][7] = value
    file.write_text(json.dumps([probe]), encoding="utf-8")
    assert read_probes(bundle)[1].max() == pytest.approx(value)
    with SparseEncoder(bundle) as encoder:
        if allowed:
            assert check_probes(encoder, bundle) < 1e-5
        else:
            with pytest.raises(BundleCorruptError, match="gives weights that differ by"):
                check_probes(encoder, bundle)


def test_bench(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle), "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["throughput"][0]["texts_per_second"] > 0
