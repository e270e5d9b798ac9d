"""Executes each recipe of the corpus README on real vectors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedrt import Embedder

README = Path(__file__).parents[2] / "runtime" / "embedrt" / "corpus" / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
TEXTS = ["Around 9 Million people live in London", None, "London is known for its finance", "", "x"]

pytestmark = [
    # Databases and clusters leave sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def namespace(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables after the README's first block, which embeds a folder of abstracts."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "abstracts").mkdir()
    table = pa.table({"id": range(len(TEXTS)), "abstract": TEXTS})
    pq.write_table(table, folder / "abstracts" / "a.parquet")
    (folder / "BUNDLE").symlink_to(minilm)
    found: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as place:
        place.chdir(folder)
        execute("from embedrt.corpus import embed, plan", found)
        execute("import heapq", found)
    return found


def execute(start: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Execute the block of the README that contains this text."""
    (block,) = [block for block in BLOCKS if start in block]
    exec(compile(block, str(README), "exec"), namespace)
    return namespace


@pytest.fixture
def there(namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(namespace["folder"])
    return namespace


@pytest.fixture(scope="module")
def scores(minilm: Path) -> list[tuple[int, float]]:
    """The ids and scores of the rows with a text, best first, computed with `similarity`."""
    rows = [row for row, text in enumerate(TEXTS) if text is not None]
    with Embedder.load(minilm) as embedder:
        found = embedder.similarity(
            embedder.encode_query("How many people live in London?"),
            embedder.encode([text for text in TEXTS if text is not None]),
        )[0]
    return sorted(zip(rows, found.tolist(), strict=True), key=lambda row: -row[1])


def check(found: list[tuple[int, float]], scores: list[tuple[int, float]]) -> None:
    assert [row for row, _ in found] == [row for row, _ in scores]
    assert np.allclose([score for _, score in found], [score for _, score in scores], atol=1e-5)


def check_frame(found: pd.DataFrame, there: dict[str, Any]) -> None:
    found = found.sort_values("id")
    expected = there["embedder"].encode([text for text in TEXTS if text is not None])
    assert found["id"].tolist() == list(range(len(TEXTS)))
    # Null is None or NaN, and a vector a list or an array, depending on the library.
    vectors = [vector for vector in found["embedding"] if np.ndim(vector) == 1]
    assert np.array(vectors, np.float32).tobytes() == expected.tobytes()


def test_every_recipe_is_executed() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    starts = re.findall(r'execute\("(.*?)"', text)
    assert len(BLOCKS) == len(starts)


def test_exact_search(there: dict[str, Any], scores: list[tuple[int, float]]) -> None:
    check([(row, score) for score, row in there["best"]], scores)


def test_duckdb(there: dict[str, Any], scores: list[tuple[int, float]]) -> None:
    check(execute("import duckdb", there)["rows"], scores)


def test_lancedb(there: dict[str, Any], scores: list[tuple[int, float]]) -> None:
    there["vector"] = there["embedder"].encode_query("How many people live in London?").tolist()
    found = execute("import lancedb", there)["found"]
    check([(row["id"], 1 - row["_distance"]) for row in found], scores)


def test_polars_and_pandas(there: dict[str, Any]) -> None:
    execute("import polars as pl", there)
    expected = there["embedder"].encode([text for text in TEXTS if text is not None])
    assert there["matrix"].tobytes() == expected.tobytes()
    vectors = np.stack([vector for vector in there["series"] if vector is not None])
    assert vectors.tobytes() == expected.tobytes()
    assert there["series"].isna().tolist() == [text is None for text in TEXTS]


def test_ray_data(there: dict[str, Any]) -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        check_frame(execute("ray.data.read_parquet", there)["table"], there)
    finally:
        ray.shutdown()


def test_dask(there: dict[str, Any]) -> None:
    check_frame(execute("import dask.dataframe", there)["table"], there)


def test_daft(there: dict[str, Any]) -> None:
    check_frame(execute("import daft", there)["table"], there)


def test_spark(there: dict[str, Any]) -> None:
    """Spark needs Java and 430 MB, so the environment of these tests does not install it."""
    pytest.importorskip("pyspark")
    try:
        check_frame(execute("from pyspark.sql", there)["table"], there)
    finally:
        there["spark"].stop()
