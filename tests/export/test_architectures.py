"""Tests that each architecture listed in models/README.md is exported or refused immediately."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from transformers import CONFIG_MAPPING

from any_architecture import MAX_TOKENS, make_any
from comparison import Pair, assert_agrees, texts_of_every_length
from embedrt import Embedder
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.architectures import architecture_table
from embedrt_export.families import READERS
from embedrt_export.traced.known import TRACED, UNTRACEABLE
from model_folders import BEFORE_5, make_small

README = Path(__file__).parents[2] / "models" / "README.md"
BEGIN = "<!-- printed by python -m embedrt_export.architectures: begin -->\n"
END = "<!-- printed by python -m embedrt_export.architectures: end -->\n"

# One for each kind of graph: bounded attention, full and causal; convolutions; a Fourier transform.
QUICK = ("fnet", "gpt_neox", "squeezebert")
# Architectures in whose graphs quantization finds different products.
QUANTIZED = ("bloom", "convbert", "deberta-v2", "fnet", "xlnet")
# An operator of the attention: of two whose memory is bounded, and of one whose is not.
ATTENTION = {
    "big_bird": "Softmax",
    "gpt_neox": "GroupQueryAttention",
    "layoutlm": "MultiHeadAttention",  # which makes a mask of its padding by itself
}


def export_any(parent: Path, model_type: str) -> Pair:
    folder = make_any(parent / "model", model_type)
    return Pair(folder, export_model(str(folder), output=parent / "bundle"))


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in sorted(TRACED)
    ],
)
def test_agrees_at_every_length(tmp_path: Path, model_type: str) -> None:
    if BEFORE_5 and model_type == "fnet":
        pytest.skip("sentence-transformers 5 does not run it: it passes an attention mask")
    pair = export_any(tmp_path, model_type)
    with Embedder.load(pair.bundle) as embedder:
        manifest = embedder.manifest
        texts = [*texts_of_every_length(embedder, MAX_TOKENS + 5).values()]
        alone = [embedder.encode(text).tobytes() for text in texts]
        together = [vector.tobytes() for vector in embedder.encode([*texts, *texts[::-1]])]
    assert manifest.family == model_type
    assert manifest.builder == "traced"
    assert together == [*alone, *alone[::-1]]
    assert_agrees(pair, texts)
    if model_type in ATTENTION:
        graph = onnx.load(pair.bundle / "model.onnx").graph
        assert ATTENTION[model_type] in {node.op_type for node in graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("model_type", QUANTIZED)
def test_int8(tmp_path: Path, model_type: str) -> None:
    folder = make_any(tmp_path / "model", model_type)
    bundle = export_model(str(folder), output=tmp_path / "bundle", precision="int8")
    texts = ["a", "How many people live in London?", "a lazy dog " * 30]
    with Embedder.load(bundle) as embedder:
        alone = [embedder.encode(text).tobytes() for text in texts]
        together = embedder.encode([*texts, *texts])
    assert [vector.tobytes() for vector in together] == alone * 2


@pytest.mark.parametrize("model_type", UNTRACEABLE)
def test_refused_before_weights_are_read(tmp_path: Path, model_type: str) -> None:
    """The config alone is enough to refuse a model; the weights are not read."""
    folder = make_small(tmp_path / "model", "bert")
    CONFIG_MAPPING[model_type]().save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UnsupportedModelError) as caught:
        export_model(str(folder), output=tmp_path / "bundle")
    for words in (f"architecture {model_type}, which cannot be converted", UNTRACEABLE[model_type]):
        assert words in str(caught.value)


def test_the_lists_are_disjoint_and_known_to_transformers() -> None:
    assert not TRACED & UNTRACEABLE.keys()
    assert not TRACED & READERS.keys()
    assert not READERS.keys() & UNTRACEABLE.keys()
    if not BEFORE_5:  # transformers 5 has more of them
        assert not {*TRACED, *UNTRACEABLE, *READERS} - set(CONFIG_MAPPING)


def test_readme_lists_them() -> None:
    text = README.read_text(encoding="utf-8")
    (listed,) = re.findall(f"{re.escape(BEGIN)}(.*?){re.escape(END)}", text, flags=re.DOTALL)
    assert listed == architecture_table(), "run python -m embedrt_export.architectures"
