"""Tests of `embed_table`, which adds embeddings to a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora import ODD, texts_of
from embedrt import Embedder
from embedrt.corpus import EmbedTable, embed_table
from embedrt.corpus.embedding import Embedding
from embedrt.corpus.table import count_cut, embed_texts, read_column
from embedrt.errors import CorpusSourceError, TokenizationError
from tiny_bundle import make_tiny

TYPES = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "polars.Categorical": pa.dictionary(pa.uint32(), pa.string_view()),
}


def array_of(texts: list[str | None], kind: Any) -> Any:
    array = pa.array(texts, pa.string())
    if not pa.types.is_dictionary(kind):
        return array.cast(kind)
    encoded = array.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(kind.index_type), encoded.dictionary.cast(kind.value_type)
    )


def vectors_in(table: Any, column: str = "embedding") -> list[Any]:
    return [None if row is None else np.array(row) for row in table.column(column).to_pylist()]


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_vectors_are_those_of_encode(tiny_embedder: Embedder, kind: Any) -> None:
    texts = [*ODD, None, *texts_of(50)]
    table = pa.table({"id": range(len(texts)), "text": array_of(texts, kind)})
    found = embed_table(table, tiny_embedder)
    assert found.column_names == ["id", "text", "embedding"]
    assert found.column("embedding").type == pa.list_(pa.float32(), tiny_embedder.dimension)
    assert found.drop(["embedding"]).equals(table)
    for text, vector in zip(texts, vectors_in(found), strict=True):
        expected = None if text is None else tiny_embedder.encode(text)
        assert (vector is None) == (expected is None)
        assert vector is None or (vector == expected).all()


@pytest.mark.parametrize("precision", ["float32", "float16", "binary", "ubinary"])
@pytest.mark.parametrize("nulls", [False, True])
def test_precision(embedder: Embedder, precision: Any, nulls: bool) -> None:
    texts = ["a text", "another", *([None] if nulls else [])]
    options: dict[str, Any] = {"precision": precision, "truncate_dim": 100}
    found = embed_table(pa.table({"text": texts}), embedder, normalize=True, **options).column(
        "embedding"
    )
    expected = embedder.encode(["a text", "another"], normalize_embeddings=True, **options)
    vectors, valid = read_column(found)
    assert valid.tolist() == [text is not None for text in texts]
    assert vectors.dtype == expected.dtype
    assert vectors[:2].tobytes() == expected.tobytes()
    assert found.type.list_size == expected.shape[1]


def test_prompts(embedder: Embedder) -> None:
    table = pa.table({"text": ["a text"]})
    (found,) = vectors_in(embed_table(table, embedder, prompt="query: "))
    assert (found == embedder.encode("query: a text")).all()
    with pytest.raises(ValueError, match="prompt_name='other'"):
        embed_table(table, embedder, prompt_name="other")


def test_several_columns_are_joined(tiny_embedder: Embedder) -> None:
    table = pa.table({"a": ["w1", "w1", None, None], "b": ["w2", None, "w2", None]})
    found = vectors_in(embed_table(table, tiny_embedder, ["a", "b"], join=" w3 "))
    expected = [tiny_embedder.encode(text) for text in ("w1 w3 w2", "w1", "w2")]
    assert all((one == other).all() for one, other in zip(found, expected, strict=False))
    assert found[3] is None


@pytest.mark.parametrize("rows", [0, 3])
def test_no_texts(tiny_embedder: Embedder, rows: int) -> None:
    table = pa.table({"text": pa.nulls(rows)})
    assert vectors_in(embed_table(table, tiny_embedder)) == [None] * rows


def test_a_record_batch(tiny_embedder: Embedder) -> None:
    batch = pa.RecordBatch.from_pydict({"text": ["w1"]})
    assert embed_table(batch, tiny_embedder).num_rows == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"other": ["w1"]}, "no column 'text'; it has \\['other'\\]"),
        ({"text": [1]}, "'text' is int64; a text column must be string"),
        ({"text": [b"w1"]}, "'text' is binary"),
        ({"text": [["w1"]]}, "'text' is list"),
        ({"text": ["w1"], "embedding": [1]}, "already has a column 'embedding'"),
    ],
)
def test_refused(tiny_embedder: Embedder, table: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusSourceError, match=message):
        embed_table(pa.table(table), tiny_embedder)


def test_an_existing_column_is_replaced_on_request(tiny_embedder: Embedder) -> None:
    table = pa.table({"embedding": [1], "text": ["w1"]})
    found = embed_table(table, tiny_embedder, overwrite_column=True)
    assert found.column_names == ["text", "embedding"]
    assert vectors_in(found)[0] is not None


def test_two_columns_of_one_name(tiny_embedder: Embedder) -> None:
    table = pa.table([["w1"], ["w2"]], names=["text", "text"])
    with pytest.raises(CorpusSourceError, match="two columns are called 'text'"):
        embed_table(table, tiny_embedder)


@pytest.mark.parametrize("table", [{"text": ["a"]}, [1], None])
def test_no_table(tiny_embedder: Embedder, table: object) -> None:
    with pytest.raises(
        TypeError, match=r'not a pyarrow.Table: in Ray Data, pass batch_format="pyarr'
    ):
        embed_table(table, tiny_embedder)


def test_embed_table_as_a_class(tiny: Path, tiny_embedder: Embedder) -> None:
    table = pa.table({"t": ["w1", None]})
    found = EmbedTable(tiny, "t", "v", normalize=True)(table)
    assert found.equals(embed_table(table, tiny_embedder, "t", "v", normalize=True))


@given(st.lists(st.none() | st.text(alphabet=" w0123456789é\U0001f600")))
def test_any_texts(texts: list[str | None]) -> None:
    embedder = ANY.get()
    found = vectors_in(embed_table(pa.table({"text": pa.array(texts, pa.string())}), embedder))
    expected = [None if text is None else embedder.encode(text) for text in texts]
    assert [None if one is None else one.tolist() for one in found] == [
        None if one is None else one.tolist() for one in expected
    ]


class _Any:
    """The embedder of a new tiny bundle, for property tests, which cannot use function fixtures."""

    def __init__(self) -> None:
        self._embedder: Embedder | None = None

    def get(self) -> Embedder:
        if self._embedder is None:
            import tempfile

            self._embedder = Embedder.load(make_tiny(Path(tempfile.mkdtemp()) / "tiny"), threads=1)
        return self._embedder


ANY = _Any()


@pytest.mark.parametrize(
    "text",
    ["", "w1", "w1 " * 7, "w1 " * 8, "w1 " * 9, " " * 90 + "w1 " * 8, " " * 5000 + "w1 " * 9,
     "w" * 5000, "é " * 8, "é " * 9, "x " * 600_000],
)  # fmt: skip
def test_truncated_texts_are_those_with_more_tokens_than_the_maximum(
    tiny_embedder: Embedder, text: str
) -> None:
    count = tiny_embedder.count_tokens(text)
    rows = embed_texts(["w1", text], tiny_embedder, Embedding(text=("text",)))
    assert count_cut(rows, tiny_embedder) == (count > tiny_embedder.max_tokens)


def test_a_text_that_breaks_the_tokenizer_is_named_by_its_row(
    tiny_embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TokenizationError("breaks", 1)

    monkeypatch.setattr(tiny_embedder, "embed", fail)
    with pytest.raises(TokenizationError) as caught:
        embed_table(pa.table({"text": ["w1", None, "w2"]}), tiny_embedder)
    assert caught.value.index == 2


def test_options_survive_json() -> None:
    embedding = Embedding(text=("a", "b"), join=" ", truncate_dim=3, precision="binary")
    assert Embedding.from_json({**embedding.to_json(), "plan": "other"}) == embedding
    with pytest.raises(ValueError, match="precision='int8'"):
        Embedding(text=("a",), precision="int8")  # type: ignore[arg-type]


def test_texts_that_are_cut_by_their_characters_are_counted(tmp_path: Path) -> None:
    cut = make_tiny(tmp_path / "cut", max_characters=11, max_tokens=3)
    with Embedder.load(cut) as embedder:
        texts = ["w1", "w1 w2 w3 w4", "w1        w2", "w1 w2 w3", "w1       w2"]
        rows = embed_texts(texts, embedder, Embedding(text=("text",)))
        assert count_cut(rows, embedder) == 2
