"""Sparse encoders beside `sentence_transformers.SparseEncoder` in torch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

from comparison import texts_of_every_length
from embedrt import Bundle, SparseEncoder
from embedrt.bundle.quantization import TermQuantization
from embedrt.bundle.reader import GRAPH
from embedrt.bundle.weights import WEIGHTS
from embedrt.cli import main
from embedrt.errors import ProofError, QuantizationError, UnsupportedModelError
from embedrt.sparse_rows import SparseRows
from embedrt_export import export_model
from embedrt_export.families.masked import READERS
from embedrt_export.graph.vocabulary import slices
from embedrt_export.graph.weights import read_graph
from embedrt_export.int8.terms import TermQuality, measure_terms
from embedrt_export.source.settings import read_settings
from model_folders import BEFORE_5, METADATA, bert_words, change_json
from odd_texts import LISTS, plainly_well_formed
from sharing import made_once
from sparse_folders import make_sparse

TOLERANCE = 5e-6  # of the text's largest weight
FAMILIES = ["bert", "distilbert", "modernbert", "roberta", "xlm-roberta"]
FURTHER = ["data2vec-text", "electra", "ernie", "mpnet", "roformer"]
TEXTS = ["", "a", "the lazy dog", "How many people live in London?", "лиса 敏捷 😀 " * 20]
PROMPTS = {"query": "claim: ", "document": "abstract: ", "other": "another: "}
KINDS: dict[str, dict[str, Any]] = {
    **{family: {"family": family} for family in (*FAMILIES, *FURTHER)},
    "log1p": {"family": "bert", "activation": "log1p_relu"},
    "sum": {"family": "bert", "pooling": "sum"},
    "sum-log1p": {"family": "distilbert", "pooling": "sum", "activation": "log1p_relu"},
    "untied": {"family": "bert", "tied": False},
    "prompts": {"family": "bert", "prompts": PROMPTS, "default_prompt_name": "other"},
    "few": {"family": "bert", "max_active_dims": 20, "similarity_fn_name": "cosine"},
    "free": {"family": "distilbert", "inference_free": True, "prompts": PROMPTS},
    "free-by-default": {
        "family": "bert",
        "inference_free": True,
        "default_route": "query",
        "activation": "log1p_relu",
    },
}
WORDS = len(bert_words())

Rows = NDArray[np.float32]
Original = sentence_transformers.SparseEncoder


@dataclass(frozen=True, slots=True)
class Both:
    """A bundle and its original, loaded."""

    encoder: SparseEncoder
    model: Original
    bundle: Path


def original(folder: Path) -> Original:
    model: Original = Original(str(folder), device="cpu", local_files_only=True)
    return model


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Both]]:
    """Return a function from a kind's name to its bundle and the original, loaded."""
    with ExitStack() as stack:

        @cache
        def load(name: str) -> Both:
            def make(parent: Path) -> None:
                make_sparse(parent / "model", **KINDS[name])
                export_model(str(parent / "model"), output=parent / "bundle")

            parent = made_once(tmp_path_factory, f"sparse-{name}", make)
            bundle = parent / "bundle"
            encoder = stack.enter_context(SparseEncoder.load(bundle, verify="sha256"))
            return Both(encoder, original(parent / "model"), bundle)

        yield load


def alone(model: Original, texts: Sequence[str], method: str = "encode", **options: Any) -> Rows:
    """Compute rows with the original one at a time, without padding."""
    rows = [getattr(model, method)([text], **options).to_dense().numpy() for text in texts]
    return np.concatenate(rows)


def dense(rows: SparseRows) -> Rows:
    return rows.to_dense()


def difference(found: Rows, expected: Rows) -> float:
    """Largest difference of a weight, relative to its text's largest one."""
    assert found.shape == expected.shape
    scale = np.maximum(np.abs(expected).max(axis=1, keepdims=True), 1e-12)
    return float((np.abs(found - expected) / scale).max())


def assert_same_terms(found: Rows, expected: Rows) -> None:
    """Assert that the active terms are the same, except those that are zero but for rounding."""
    apart = (found > 0) != (expected > 0)
    assert np.maximum(found, expected)[apart].max(initial=0) < 1e-5


@pytest.mark.parametrize(
    "name",
    [
        *FAMILIES,
        *(pytest.param(family, marks=pytest.mark.slow) for family in FURTHER),
        *("log1p", "sum", "sum-log1p", "untied", "free", "free-by-default"),
    ],
)
def test_agrees_at_every_length_and_past_the_maximum(
    both: Callable[[str], Both], name: str
) -> None:
    pair = both(name)
    counted: Any = pair.encoder
    texts = list(texts_of_every_length(counted, 84).values())[::3] + TEXTS
    expected = alone(pair.model, texts, "encode_document", prompt="")
    found = pair.encoder.encode_document(texts, prompt="")
    assert difference(dense(found), expected) <= TOLERANCE
    assert_same_terms(dense(found), expected)
    shares = np.diff(found.indptr) / found.shape[1]
    assert 0.05 < shares.mean() < 0.9  # else agreement would say little


@pytest.mark.parametrize("longest", [20, 128, int(1e30)])
def test_queries_and_documents_have_maxima_of_their_own(tmp_path: Path, longest: int) -> None:
    """The original truncates queries by their table's tokenizer, documents by their encoder's."""
    folder = make_sparse(tmp_path / "model", "bert", max_tokens=40, inference_free=True)
    (queries,) = folder.glob("*SparseStaticEmbedding")
    change_json(queries / "tokenizer_config.json", model_max_length=longest)
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    texts, model = ["a " * 30 + "fox " * 30 + "dog " * 30 + "cats " * 60], original(folder)
    with SparseEncoder.load(bundle) as encoder:
        for method in ("encode_query", "encode_document"):
            found = getattr(encoder, method)(texts)
            assert difference(dense(found), alone(model, texts, method)) <= TOLERANCE


@pytest.mark.parametrize("name", ["bert", "sum", "roberta"])
def test_the_same_bytes_in_any_batch(both: Callable[[str], Both], name: str) -> None:
    bundle = both(name).bundle
    texts = [" ".join([word] * count) for word in ("a", "city") for count in (1, 2, 7, 30, 62)]
    with SparseEncoder.load(bundle, threads=1) as encoder:
        rows = [encoder.encode(text) for text in texts]
    for threads in (1, 2):
        with SparseEncoder.load(bundle, threads=threads) as encoder:
            for _ in range(6):  # after a few calls, all cores share one graph
                found = [encoder.encode(texts[4])]
                assert found[0].values.tobytes() == rows[4].values.tobytes()
            for one, row in zip(encoder.encode(texts * 3), rows * 3, strict=True):
                assert one.indices.tobytes() == row.indices.tobytes()
                assert one.values.tobytes() == row.values.tobytes()


@pytest.mark.parametrize("name", ["prompts", "free", "free-by-default"])
@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_prompts_and_routes(both: Callable[[str], Both], name: str, method: str) -> None:
    pair = both(name)
    calls: list[dict[str, Any]] = [{}, {"prompt": "mine: "}, {"prompt_name": "query"}]
    for options in calls:
        expected = alone(pair.model, TEXTS, method, **options)
        found = dense(getattr(pair.encoder, method)(TEXTS, **options))
        assert difference(found, expected) <= TOLERANCE, options
    for task in ("query", "document"):
        expected = alone(pair.model, TEXTS, "encode", task=task)
        assert difference(dense(pair.encoder.encode(TEXTS, task=task)), expected) <= TOLERANCE


def test_queries_by_their_table_have_the_original_s_bits(both: Callable[[str], Both]) -> None:
    pair = both("free")
    texts = [*TEXTS, "[CLS] a [SEP] [UNK] a", "a b c d e " * 30, "river boats " * 9000]
    before = pair.encoder.stats().batches
    expected = alone(pair.model, texts, "encode_query")
    assert np.array_equal(dense(pair.encoder.encode_query(texts)), expected)
    assert pair.encoder.stats().batches == before


def test_a_table_that_is_also_the_decoder_is_stored_once(both: Callable[[str], Both]) -> None:
    table = WORDS * 32 * 4
    sizes = {name: (both(name).bundle / WEIGHTS).stat().st_size for name in ("bert", "untied")}
    assert sizes["untied"] - sizes["bert"] == pytest.approx(table, rel=1e-3)
    assert sizes["bert"] < 1.3 * table


def test_no_value_of_the_graph_holds_all_logits(both: Callable[[str], Both]) -> None:
    graph = read_graph(both("bert").bundle / GRAPH).graph
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "Gemm"]
    assert max(max(sizes[name]) for name in products) == slices(WORDS)[0].stop == 2048
    assert sum(node.op_type == "ReduceMax" for node in graph.node) == len(slices(WORDS)) == 3


def test_the_readme_names_the_families() -> None:
    readme = Path(__file__).parents[2] / "models" / "README.md"
    text = " ".join(readme.read_text(encoding="utf-8").split())
    after = text.partition("**Sparse encoders**: the masked-LM heads of ")[2]
    names = re.split(", | and ", after.partition(", pooling")[0])
    found = {name.lower().replace("xlm-r", "xlm-roberta") for name in names}
    assert found == {kind.removesuffix("-text") for kind in READERS}


@pytest.mark.parametrize("words", [1, 2047, 2048, 2049, 30522, 250_002])
def test_slices(words: int) -> None:
    parts = slices(words)
    assert [part.start for part in parts] == [0, *[part.stop for part in parts[:-1]]]
    assert parts[-1].stop == words
    assert len(parts) <= 32
    assert len({part.stop - part.start for part in parts[:-1]}) <= 1


@pytest.mark.skipif(BEFORE_5, reason="sentence-transformers 5 does not save max_active_dims")
def test_the_largest_are_kept(both: Callable[[str], Both]) -> None:
    pair = both("few")
    assert pair.encoder.max_active_dims == pair.model.max_active_dims == 20
    calls: list[dict[str, Any]] = [{}, {"max_active_dims": 7}]
    for options in calls:
        found = pair.encoder.encode(TEXTS, **options)
        assert difference(dense(found), alone(pair.model, TEXTS, **options)) <= TOLERANCE
        assert set(np.diff(found.indptr)) == {7 if options else 20}


@pytest.mark.skipif(BEFORE_5, reason="sentence-transformers 5 does not save max_active_dims")
def test_decode(both: Callable[[str], Both]) -> None:
    pair = both("few")
    rows, tensor = pair.encoder.encode(TEXTS), pair.model.encode(TEXTS)
    for top_k in (None, 3):
        expected: Any = pair.model.decode(tensor, top_k=top_k)
        found = pair.encoder.decode(rows, top_k=top_k)
        assert [[token for token, _ in row] for row in found] == [
            [token for token, _ in row] for row in expected
        ]
        weights = [[weight for _, weight in row] for row in found]
        assert np.allclose(weights, [[weight for _, weight in row] for row in expected], atol=1e-5)
    assert pair.encoder.decode(rows[1]) == pair.encoder.decode(rows)[1]


@pytest.mark.parametrize("name", ["dot", "cosine", "euclidean", "manhattan"])
def test_similarity(both: Callable[[str], Both], name: Any) -> None:
    from embedrt import sparse_rows

    pair = both("bert")
    texts = TEXTS[1:]
    rows, tensor = pair.encoder.encode(texts), pair.model.encode(texts)
    pair.model.similarity_fn_name = name
    for ours, theirs in (
        (sparse_rows.similarity, pair.model.similarity),
        (sparse_rows.similarity_pairwise, pair.model.similarity_pairwise),
    ):
        expected = theirs(tensor, tensor).numpy()
        found = ours(rows, rows, name)
        scale = np.abs(expected).max() + 1
        # The distance of a text to itself is the root of what rounding leaves of a difference.
        assert np.abs(found - expected).max() / scale < (1e-2 if name == "euclidean" else 1e-5)
    pair.model.similarity_fn_name = "dot"


def test_manifest(both: Callable[[str], Both]) -> None:
    manifest = both("free").encoder.manifest
    assert (manifest.task, manifest.family, manifest.dimension) == ("sparse", "distilbert", WORDS)
    assert (manifest.similarity, manifest.prompts) == ("dot", PROMPTS)
    assert (manifest.pooling, manifest.normalized) == ((), False)
    assert len(manifest.source.weights) == 2
    sparse = manifest.sparse
    assert sparse is not None
    assert (sparse.pooling, sparse.activation, sparse.max_active_dims) == ("max", "relu", None)
    assert sparse.queries is not None
    assert (sparse.queries.max_tokens, sparse.queries.by_default) == (64, False)
    agreement = manifest.agreement
    assert agreement is not None
    assert agreement.max_difference <= TOLERANCE < agreement.tolerance
    assert agreement.same_bytes
    few = both("few").encoder.manifest
    assert few.sparse is not None
    assert few.similarity == "cosine"
    assert few.sparse.max_active_dims == (None if BEFORE_5 else 20)


def test_the_card(both: Callable[[str], Both]) -> None:
    pair = both("free")
    card = (pair.bundle / "README.md").read_text(encoding="utf-8")
    assert f'SparseEncoder.load("{pair.encoder.manifest.name}")' in card
    assert f"| sparse row | a weight for each of {WORDS} words" in card
    assert "| pooling | max of relu; queries have a fixed weight per token |" in card


def test_verify_against_the_original(
    both: Callable[[str], Both], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = both("roberta").bundle
    assert main(["verify", str(bundle), "--against", str(bundle.with_name("model"))]) == 0
    assert "against sentence-transformers" in capsys.readouterr().out


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(texts=LISTS)
def test_odd_texts(both: Callable[[str], Both], texts: list[str]) -> None:
    for name in ("roberta", "free"):
        pair = both(name)
        plain = [plainly_well_formed(text) for text in texts]
        for method in ("encode_document", "encode_query"):
            expected = alone(pair.model, plain, method)
            found = dense(getattr(pair.encoder, method)(texts))
            assert difference(found, expected) <= TOLERANCE


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in int8, with queries without inference."""
    parent = tmp_path_factory.mktemp("int8")
    folder = make_sparse(parent / "model", "distilbert", inference_free=True)
    return export_model(str(folder), output=parent / "bundle", precision="int8")


class TestInt8:
    def test_manifest(self, int8: Path) -> None:
        quantization = Bundle.open(int8).manifest.quantization
        assert isinstance(quantization, TermQuantization)
        assert quantization.scheme == "static"
        assert quantization.mean_cosine >= 0.99
        assert quantization.order_agreement >= 0.9
        assert quantization.term_overlap >= 0.9

    def test_the_decoder_is_in_int8(self, int8: Path) -> None:
        # The lookups and the decoder have a byte a weight, and queries 4.
        assert (int8 / WEIGHTS).stat().st_size < WORDS * (2 * 32 + 4 + 4 + 4 + 4) * 1.2

    def test_the_same_bytes_in_any_batch(self, int8: Path) -> None:
        texts = ["a", "the lazy dog", "How many people live in London?", "a"]
        with SparseEncoder.load(int8) as encoder:
            rows = encoder.encode_document(texts * 5)
            for index, text in enumerate(texts):
                one = encoder.encode_document(text)
                assert one.values.tobytes() == rows[index].values.tobytes()
                assert one.indices.tobytes() == rows[index].indices.tobytes()


class TestQuality:
    def rows(self) -> Rows:
        drawn = np.random.default_rng(0).standard_normal((12, 300)) - 0.5
        return np.maximum(drawn, 0).astype(np.float32)

    def test_of_the_same_rows(self) -> None:
        found = measure_terms(self.rows(), self.rows())
        assert asdict(found) == pytest.approx(dict.fromkeys(asdict(found), 1.0))
        assert found.shortfalls(TermQuality()) == []

    def test_of_other_terms(self) -> None:
        rows = self.rows()
        moved = np.roll(rows, 1, axis=1)
        found = measure_terms(moved, rows)
        assert found.term_overlap < 0.6
        assert len(found.shortfalls(TermQuality())) == 3  # the products are the same
        assert found.order_agreement == 1

    def test_of_another_order(self) -> None:
        rows = self.rows()
        scaled = rows * np.linspace(1, 3, len(rows), dtype=np.float32)[:, None]
        found = measure_terms(scaled, rows)
        assert found.mean_cosine == pytest.approx(1)
        (reason,) = found.shortfalls(TermQuality())
        assert reason.startswith("order_agreement")

    def test_of_too_few_texts(self) -> None:
        with pytest.raises(QuantizationError, match="2 texts are too few"):
            measure_terms(self.rows()[:2], self.rows()[:2])

    def test_texts_without_terms(self) -> None:
        rows = self.rows()
        rows[3] = 0
        assert measure_terms(rows, rows).term_overlap == pytest.approx(1)


class TestRefusals:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return make_sparse(tmp_path / "model", "roberta", inference_free=True)

    def reason(self, folder: Path) -> str:
        with pytest.raises(UnsupportedModelError) as caught:
            export_model(str(folder), output=folder.with_name("bundle"))
        assert not folder.with_name("bundle").exists()
        return str(caught.value)

    def test_sparse_autoencoders_by_name(self, tmp_path: Path, folder: Path) -> None:
        router = folder / "document_0_Transformer"
        model = sentence_transformers.SentenceTransformer(str(router), device="cpu")
        modules = [*model, SparseAutoEncoder(32, 64, k=8)]
        Original(modules=modules, device="cpu").save(str(tmp_path / "csr"))
        assert "whose modules are Transformer, Pooling, SparseAutoEncoder, and" in self.reason(
            tmp_path / "csr"
        )

    def test_queries_with_an_encoder_of_their_own(self, folder: Path) -> None:
        file = folder / "router_config.json"
        router = json.loads(file.read_text(encoding="utf-8"))
        types, structure = router["types"], router["structure"]
        types["query_1"] = types["document_0_Transformer"]
        types["query_2"] = types["document_1_SpladePooling"]
        shutil.copytree(folder / "document_0_Transformer", folder / "query_1")
        structure["query"] = ["query_1", "query_2"]
        change_json(file, types=types, structure=structure)
        assert "whose modules for queries are Transformer, SpladePooling" in self.reason(folder)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"pooling_strategy": "mean"}, "the strategy 'mean', not one of max, sum"),
            ({"activation_function": "gelu"}, "the activation 'gelu', not one of relu, log1p_relu"),
            ({"top": 5}, "sets top, which embedrt does not know"),
        ],
    )
    def test_poolings(self, folder: Path, changes: dict[str, Any], reason: str) -> None:
        change_json(folder / "document_1_SpladePooling" / "config.json", **changes)
        assert reason in self.reason(folder)

    def test_weights_in_a_file_elsewhere(self, folder: Path) -> None:
        file = folder / "query_0_SparseStaticEmbedding" / "config.json"
        file.write_text('{"path": "idf.json"}', encoding="utf-8")
        assert "load it and save it again" in self.reason(folder)

    @pytest.mark.parametrize(
        ("parameters", "reason"),
        [
            ({"default_route": None, "allow_empty_key": False}, "has no default_route"),
            ({"default_route": "document", "route_mappings": {"a": "b"}}, "routes by modality"),
            ({"default_route": "passage"}, "has no default_route"),
        ],
    )
    def test_routers(self, folder: Path, parameters: dict[str, Any], reason: str) -> None:
        change_json(folder / "router_config.json", parameters=parameters)
        assert reason in self.reason(folder)

    def test_a_table_of_another_size(self, folder: Path) -> None:
        file = folder / "query_0_SparseStaticEmbedding" / "model.safetensors"
        weights = load_file(file)["weight"]
        save_file({"weight": torch.cat([weights, weights[:1]])}, file, METADATA)
        with pytest.raises(UnsupportedModelError, match="not of one vocabulary"):
            export_model(str(folder), output=folder.with_name("bundle"))

    @pytest.mark.parametrize(
        ("family", "decoder"), [("bert", "cls.predictions.decoder"), ("roberta", "lm_head.decoder")]
    )
    def test_no_decoder_though_it_is_not_tied(
        self, tmp_path: Path, family: str, decoder: str
    ) -> None:
        """Sentence-transformers initializes it randomly."""
        folder = make_sparse(tmp_path / "model", family, tied=False)
        file = folder / "model.safetensors"
        weights = load_file(file)
        del weights[f"{decoder}.weight"]
        save_file(weights, file, METADATA)
        with pytest.raises(UnsupportedModelError, match=rf"the weights lack {decoder}\.weight"):
            export_model(str(folder), output=tmp_path / "bundle")

    def test_another_tokenizer_for_queries(self, folder: Path) -> None:
        file = folder / "query_0_SparseStaticEmbedding" / "tokenizer.json"
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
        tokenizer["normalizer"] = {"type": "Lowercase"}
        file.write_text(json.dumps(tokenizer), encoding="utf-8")
        assert "a tokenizer for queries that differs" in self.reason(folder)

    def test_families_whose_heads_are_unknown(self, tmp_path: Path) -> None:
        folder = make_sparse(tmp_path / "model", "albert")
        assert "does not export sparse encoders of the architecture albert" in self.reason(folder)

    def test_token_vectors_in_place_of_logits(self, folder: Path) -> None:
        file = folder / "document_0_Transformer" / "sentence_bert_config.json"
        change_json(file, transformer_task="feature-extraction")
        assert "its transformer_task is 'feature-extraction', not fill-mask" in self.reason(folder)


def test_older_layouts(tmp_path: Path) -> None:
    """MLMTransformer, and the names of modules before version 5.4."""
    folder = make_sparse(tmp_path / "model", "roberta")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["type"] = "sentence_transformers.sparse_encoder.models.MLMTransformer"
    modules[1]["type"] = "sentence_transformers.sparse_encoder.models.SpladePooling"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}', encoding="utf-8")
    pooling = folder / "1_SpladePooling" / "config.json"
    pooling.write_text(
        '{"pooling_strategy": "max", "word_embedding_dimension": null}', encoding="utf-8"
    )
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    with SparseEncoder.load(bundle) as encoder:
        assert encoder.max_tokens == 32
        found = dense(encoder.encode(TEXTS))
    assert difference(found, alone(original(folder), TEXTS)) <= TOLERANCE


def test_a_wrong_head_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_sparse(tmp_path / "model", "roberta")
    monkeypatch.setattr("embedrt_export.heads.masked.add_log1p", lambda _, values: values)
    with pytest.raises(ProofError, match="does not agree"):
        export_model(str(folder), output=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_settings_are_read_without_weights_of_the_encoder(tmp_path: Path) -> None:
    folder = make_sparse(tmp_path / "model", "roberta")
    (folder / "model.safetensors").unlink()
    found = read_settings(folder)
    assert (found.task, found.similarity, found.head) == ("sparse", "dot", ())
