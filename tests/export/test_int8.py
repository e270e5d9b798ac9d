"""Tests of int8 bundles: every family, the choice of scheme, the quality limits, outliers."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from embedrt import Bundle, Embedder
from embedrt.bundle.graph_rules import INPUT
from embedrt.bundle.quantization import Quantization
from embedrt.engine.session import Session, clips_int8
from embedrt.errors import QualityError, SourceError
from embedrt.text.tokenizer import TokenIds
from embedrt.verify import check_probes
from embedrt_export import export_model
from embedrt_export.assemble import Built, build_graph, quantize_graph
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.int8.calibration import read_calibration
from embedrt_export.int8.quality import Quality, measure_quality, row_cosines
from embedrt_export.int8.scheme import Bytes, add_product
from embedrt_export.int8.traced import FEWEST_ROWS
from embedrt_export.source.settings import read_settings
from model_folders import make_small

FUSED = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert")
LAYERS = 2
DATA = Path(__file__).parents[1] / "data" / "stsb"
WORDS = st.sampled_from(["London", "people", "9", "?", "é", "fox"])
TEXTS = st.lists(st.lists(WORDS, max_size=8).map(" ".join), min_size=1, max_size=12)


@pytest.fixture(
    scope="session", params=[*FUSED, "big_bird", pytest.param("bloom", marks=pytest.mark.slow)]
)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 bundle of a small model of each family."""
    folder = tmp_path_factory.mktemp("int8")
    model = make_small(folder / request.param, request.param)
    return export_model(str(model), output=folder / "int8", precision="int8")


def test_graph(small: Path) -> None:
    model = onnx.load(small / "model.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import} == {
        "": OPSET,
        "com.microsoft": 1,
    }
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["MatMulIntegerToFloat"] >= LAYERS
    assert all(
        weight.data_type == TensorProto.INT8
        for weight in model.graph.initializer
        if len(weight.dims) == 2 and weight.dims[0] >= FEWEST_ROWS and weight.dims[1] > 1
    )
    if Bundle.open(small).manifest.builder == "fused":
        assert operators["MatMulIntegerToFloat"] == 4 * LAYERS
        assert operators["Gemm"] == 0


def test_manifest(small: Path) -> None:
    manifest = Bundle.open(small).manifest
    assert manifest.precision == "int8"
    assert manifest.name.endswith("-int8")
    assert isinstance(manifest.quantization, Quantization)
    assert manifest.quantization.scheme == ("static" if manifest.builder == "fused" else "row")
    assert manifest.quantization.rejected == ()
    assert manifest.quantization.mean_cosine >= 0.998
    assert manifest.agreement
    assert manifest.agreement.same_bytes


def test_verify(small: Path) -> None:
    bundle = Bundle.open(small, verify="sha256")
    with Embedder(bundle) as embedder:
        assert bundle.manifest.agreement
        assert 0 < check_probes(embedder, bundle) <= bundle.manifest.agreement.tolerance


def test_same_bytes(small: Path) -> None:
    embedders = [Embedder.load(small, threads=threads) for threads in (1, 2, 3)]

    @settings(max_examples=20, deadline=None)
    @given(texts=TEXTS, data=st.data())
    def check(texts: list[str], data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(texts))))
        embedder = data.draw(st.sampled_from(embedders))
        together = embedder.encode([texts[index] for index in order], batch_size=3)
        for index, vector in zip(order, together, strict=True):
            assert embedders[0].encode(texts[index]).tobytes() == vector.tobytes()

    check()
    for embedder in embedders:
        embedder.close()


def edit_feed_forward(model: Path, edit: Callable[[Tensor, Tensor, Tensor, Tensor], None]) -> None:
    """Apply `edit` to each layer's up weight, up bias and down weight, and to the embeddings."""
    file = model / "model.safetensors"
    tensors = load_file(file)
    for layer in range(LAYERS):
        up = tensors[f"encoder.layer.{layer}.intermediate.dense.weight"]
        bias = tensors[f"encoder.layer.{layer}.intermediate.dense.bias"]
        down = tensors[f"encoder.layer.{layer}.output.dense.weight"]
        edit(up, bias, down, tensors["embeddings.word_embeddings.weight"])
    save_file(tensors, file, {"format": "pt"})


def widen_channels(model: Path, channels: int, strength: float) -> None:
    """Scale channels up after the activation and down in the next weight; the output is similar.

    Without special treatment, their range leaves little resolution for the other channels.
    """

    def edit(up: Tensor, bias: Tensor, down: Tensor, _: Tensor) -> None:
        up[:channels] *= strength
        bias[:channels] *= strength
        down[:, :channels] /= strength

    edit_feed_forward(model, edit)


def plant_token(model: Path, token: str, channels: int, strength: float) -> None:
    """Make channels respond to one token far more strongly than to any other."""
    number = AutoTokenizer.from_pretrained(model).convert_tokens_to_ids(token)

    def edit(up: Tensor, bias: Tensor, down: Tensor, words: Tensor) -> None:
        direction = torch.ones(words.shape[1])
        direction[::2] = -1
        words[number] = direction
        up[:channels] = direction * strength / len(direction)
        # Other tokens stay below the threshold, where the activation is zero.
        bias[:channels] = -0.8 * strength
        down[:, :channels] /= strength

    edit_feed_forward(model, edit)


@pytest.mark.parametrize("strength", [100.0, 1000.0])
def test_outlier_channels_stay_in_fp32(strength: float, tmp_path: Path) -> None:
    model = make_small(tmp_path / "model", "bert", whole=True)
    widen_channels(model, 4, strength)
    bundle = export_model(str(model), output=tmp_path / "int8", precision="int8")
    quantization = Bundle.open(bundle).manifest.quantization
    assert quantization
    assert quantization.scheme == "static"
    graph = onnx.load(bundle / "model.onnx").graph
    kept = [weight for weight in graph.initializer if weight.name.endswith("down.outliers")]
    assert [weight.dims[0] >= 4 for weight in kept] == [True] * LAYERS


def test_outlier_tokens_need_scales_by_row(tmp_path: Path) -> None:
    model = make_small(tmp_path / "model", "bert", whole=True)
    plant_token(model, "the", 24, 3000.0)
    bundle = export_model(str(model), output=tmp_path / "int8", precision="int8")
    quantization = Bundle.open(bundle).manifest.quantization
    assert quantization
    assert quantization.scheme == "row"
    assert [reason.partition(":")[0] for reason in quantization.rejected] == ["static"]


def test_many_outlier_channels_need_wide_activations(tmp_path: Path) -> None:
    model = make_small(tmp_path / "model", "bert", whole=True)
    widen_channels(model, 24, 100.0)
    bundle = export_model(str(model), output=tmp_path / "int8", precision="int8")
    quantization = Bundle.open(bundle).manifest.quantization
    assert quantization
    assert quantization.scheme == "wide"
    assert [reason.partition(":")[0] for reason in quantization.rejected] == ["static", "row"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small model in fp32."""
    folder = make_small(tmp_path_factory.mktemp("schemes") / "model", "bert", whole=True)
    config = AutoConfig.from_pretrained(folder)
    return build_graph(read_settings(folder), config, folder.parent / "fp32")


@pytest.fixture(scope="module")
def ids() -> list[TokenIds]:
    generator = np.random.default_rng(0)
    return [generator.integers(1000, 20000, length) for length in generator.integers(3, 60, 40)]


def test_no_scheme_suffices(built: Built, ids: list[TokenIds]) -> None:
    with pytest.raises(
        QualityError, match=r"static: mean_cosine .* is .* below 1\.0.*wide: "
    ) as info:
        quantize_graph(built, ids, ids, Quality(mean_cosine=1.0))
    assert "fp32" in str(info.value)


def test_an_export_below_the_thresholds_leaves_nothing(tmp_path: Path) -> None:
    model = make_small(tmp_path / "model", "bert", whole=True)
    noise = tmp_path / "noise.txt"
    noise.write_text("a\n" * 10, encoding="utf-8")
    with pytest.raises(SourceError, match="has 10 texts; at least 30"):
        export_model(str(model), output=tmp_path / "b", precision="int8", calibration=noise)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\n" * 50])
def test_unusable_calibration(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SourceError, match=re.escape(f"--calibration {file} ")):
        read_calibration(file)


def test_custom_calibration(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"text number {number}\n" for number in range(60)), encoding="utf-8")
    texts = read_calibration(file)
    assert "text number 1" in texts.fitted
    assert "text number 0" in texts.held_back
    assert not set(texts.fitted) & set(texts.held_back)


def test_products_are_exact_on_this_processor(tmp_path: Path) -> None:
    """The products exceed 16 bits, where x86 without VNNI saturates by default."""
    generator = np.random.default_rng(0)
    weight = generator.choice([-127, 127], (64, 32)).astype(np.int8)
    values = generator.integers(-127, 128, (5, 64))
    nodes = Nodes()
    vectors = nodes.add("Cast", INPUT, to=TensorProto.FLOAT)
    one, zero = nodes.scalar(1.0), nodes.byte(128)
    left = Bytes(nodes.add("QuantizeLinear", vectors, one, zero), one, zero)
    nodes.name_output(add_product(nodes, "product", left, weight, np.ones(32, np.float32)))
    graph = tmp_path / "model.onnx"
    graph.write_bytes(nodes.to_model(opset=OPSET, dimension=32).SerializeToString())
    exact = (values @ weight.astype(np.int64)).astype(np.float32)
    assert np.array_equal(Session(graph, "int8").run(values), exact)
    if clips_int8():
        assert not np.array_equal(Session(graph).run(values), exact)


def test_a_zero_vector_agrees_only_with_another() -> None:
    nothing, something = np.zeros(3, np.float32), np.array([0, 2, 0], np.float32)
    a = np.stack([nothing, nothing, something])
    b = np.stack([nothing, something, something])
    assert row_cosines(a, b).tolist() == [1.0, 0.0, 1.0]


def test_quality_of_known_vectors() -> None:
    expected = np.eye(4, dtype=np.float32)
    found = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], np.float32)
    quality = measure_quality(found, expected)
    assert quality.min_cosine == pytest.approx(0.5**0.5)
    assert quality.mean_cosine == pytest.approx((3 + 0.5**0.5) / 4)
    assert quality.rank_agreement == 1.0  # all three of the three others
    assert quality.shortfalls(Quality(min_cosine=0.8, mean_cosine=0.9)) == [
        "first_percentile_cosine 0.71589 is 2.8e-01 below 0.994",
        "min_cosine 0.70711 is 9.3e-02 below 0.8",
    ]


@pytest.mark.slow
class TestMiniLM:
    """Tests of size and quality with the published weights."""

    def test_size(self, minilm_int8: Path) -> None:
        assert sum(file.stat().st_size for file in minilm_int8.iterdir()) <= 25_000_000

    def test_quality_on_stsb(self, minilm: Path, minilm_int8: Path) -> None:
        with (DATA / "stsb-en-test.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        texts = [row[0] for row in rows] + [row[1] for row in rows]
        expected, found = (Embedder.load(path).encode(texts) for path in (minilm, minilm_int8))
        quality = measure_quality(found, expected)
        assert quality.mean_cosine >= 0.998
        assert quality.first_percentile_cosine >= 0.994
        assert quality.min_cosine >= 0.988
        labels = [float(row[2]) for row in rows]
        half = len(rows)
        fp32, int8 = (
            100 * spearmanr(np.sum(v[:half] * v[half:], axis=1), labels).statistic
            for v in (expected, found)
        )
        assert int8 >= fp32 - 0.10

    @pytest.mark.parametrize(
        "text",
        [
            "buffalo " * 300,
            "WHY IS NOBODY ANSWERING ME!!! " * 20,
            "x = [i ** 2 for i in range(10) if i % 3]\n" * 15,
            "敏捷的棕色狐狸跳过了懒狗。" * 30,
            "🦊🐶🌍 " * 40,
            "0 1 2 3 4 5 6 7 8 9 " * 40,
            "",
            "?",
        ],
    )
    def test_texts_unlike_the_calibration(self, minilm: Path, minilm_int8: Path, text: str) -> None:
        expected, found = (Embedder.load(path).encode(text) for path in (minilm, minilm_int8))
        assert float(expected @ found) >= 0.97
