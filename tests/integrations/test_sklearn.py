"""Tests of the scikit-learn transformer: the library's checks, pipelines and searches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from embedrt import Embedder
from embedrt.integrations.sklearn import TextEmbedder
from scifact import DOCUMENTS, IDS, QUERIES, TOP, ranking

COLUMNS = "texts have no number of features"
NUMBERS = "there are no numbers in texts that could be complex, infinite or of another dtype"
SPARSE = "there are no sparse texts"
ROWS = "the stand-in for texts needs rows of numbers"
SKIPPED = {
    "check_n_features_in": COLUMNS,
    "check_n_features_in_after_fitting": COLUMNS,
    "check_complex_data": NUMBERS,
    "check_dtype_object": NUMBERS,
    "check_estimators_nan_inf": NUMBERS,
    "check_estimator_sparse_array": SPARSE,
    "check_estimator_sparse_matrix": SPARSE,
    "check_estimator_sparse_tag": SPARSE,
    "check_fit1d": ROWS,
    "check_fit2d_predict1d": ROWS,
    "check_estimators_empty_data_messages": "no texts give no vectors, as in encode",
}


class Checked(TextEmbedder):
    """A transformer for the checks, which pass tables of numbers: each row becomes a text."""

    def fit(self, X: Any, y: object = None) -> Checked:  # noqa: N803
        super().fit(as_texts(X), y)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        return super().transform(as_texts(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


def as_texts(table: Any) -> list[str]:
    return [" ".join(map(str, row)) for row in np.asarray(table)]


def test_check_estimator(minilm: Path) -> None:
    """All checks of the installed scikit-learn pass, except the listed ones."""
    estimator = Checked(str(minilm), options={"threads": 1})
    results = check_estimator(estimator, on_skip=None, on_fail=None, expected_failed_checks=SKIPPED)
    outcomes = {each["check_name"]: each["status"] for each in results}
    assert {name for name, status in outcomes.items() if status == "xfail"} == SKIPPED.keys()
    assert {name for name, status in outcomes.items() if status == "failed"} == set()
    assert sum(status == "passed" for status in outcomes.values()) >= 30


def test_same_bytes(bundle: Path) -> None:
    with Embedder.load(bundle) as plain:
        expected, queries = plain.encode(QUERIES), plain.encode_query(QUERIES)
    embedder = TextEmbedder(bundle)
    for texts in (QUERIES, tuple(QUERIES), np.array(QUERIES), np.array(QUERIES)[:, None],
                  pd.Series(QUERIES), pd.DataFrame({"text": QUERIES})):  # fmt: skip
        assert np.array_equal(embedder.transform(texts), expected)
    assert np.array_equal(embedder.fit_transform(QUERIES), expected)
    assert np.array_equal(TextEmbedder(bundle, prompt_name="query").transform(QUERIES), queries)
    assert embedder.transform([]).shape == (0, 384)


def test_a_single_text_is_refused(minilm: Path) -> None:
    with pytest.raises(TypeError, match=r"list of texts, \['a text'\]"):
        TextEmbedder(minilm).transform("a text")
    with pytest.raises(ValueError, match="2 columns"):
        TextEmbedder(minilm).transform(np.array([["a", "b"]]))


def test_names_and_frames(minilm: Path) -> None:
    embedder = TextEmbedder(minilm)
    assert embedder.get_feature_names_out()[[0, -1]].tolist() == ["embedrt0", "embedrt383"]
    frame = embedder.set_output(transform="pandas").fit_transform(QUERIES[:2])
    assert frame.shape == (2, 384)
    assert list(frame.columns) == list(embedder.get_feature_names_out())


def test_copies(minilm: Path, prompted: Path, tmp_path: Path) -> None:
    options = {"threads": 1}
    embedder = TextEmbedder(minilm, options=options).fit(QUERIES)
    expected = embedder.transform(QUERIES[:2])
    joblib.dump(embedder, tmp_path / "embedder")
    copies = (
        clone(embedder),
        pickle.loads(pickle.dumps(embedder)),
        joblib.load(tmp_path / "embedder"),
    )
    for copy in copies:
        assert copy.get_params() == embedder.get_params()
        assert np.array_equal(copy.transform(QUERIES[:2]), expected)
    options["threads"] = 0
    with pytest.raises(ValueError, match="threads=0"):
        embedder.transform(QUERIES[:2])
    options["threads"] = 1
    embedder.set_params(bundle=prompted)
    assert not np.array_equal(embedder.transform(QUERIES[:2]), expected)


def test_search_for_parameters(minilm: Path, prompted: Path) -> None:
    texts = ["a cat", "the dog", "a horse", "one cow", "red", "it is blue", "green", "yellow"]
    labels = [0] * 4 + [1] * 4
    pipeline = Pipeline([("embed", TextEmbedder(minilm)), ("classify", LogisticRegression())])
    grid = {"embed__bundle": [minilm, prompted], "classify__C": [0.1, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(texts, labels)
    assert len(search.cv_results_["params"]) == 4
    assert search.predict(["a white sheep", "purple"]).tolist() == [0, 1]


def test_neighbors(minilm: Path) -> None:
    embedder = TextEmbedder(minilm)
    neighbors = NearestNeighbors(n_neighbors=TOP, metric="cosine")
    search = make_pipeline(embedder, neighbors).fit(DOCUMENTS)
    (found,) = [search[-1].kneighbors(embedder.transform(QUERIES), return_distance=False)]
    assert [[IDS[index] for index in row] for row in found] == ranking(minilm)
