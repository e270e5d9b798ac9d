"""Tests that refusals of models without a dense embedding name the kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export.source.settings import read_settings
from model_folders import write_json, write_settings

MODULES = "sentence_transformers.models."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The settings of a supported model, without weights."""
    write_settings(tmp_path / "model", max_tokens=256, normalized=True, dimension=384)
    return tmp_path / "model"


def refusal(folder: Path) -> str:
    """Return the message of a refusal."""
    with pytest.raises(UnsupportedModelError) as caught:
        read_settings(folder)
    return str(caught.value)


def kind_of(folder: Path) -> str:
    """Return the kind that a refusal names; assert that it names nothing else."""
    message = refusal(folder)
    start, end = " cannot be exported: it", ". Use the library that it was made with"
    assert message.count(start) == 1
    assert message.endswith(end)
    return message.partition(start)[2].removesuffix(end).removeprefix(" is ")


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        (
            "config_sentence_transformers.json",
            {"model_type": "CrossEncoder"},
            "a cross-encoder has only one Transformer",
        ),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "a sparse encoder"),
        (
            "config_sentence_transformers.json",
            {"model_type": "MultiVectorEncoder"},
            "a late interaction model",
        ),
        (
            "config_sentence_transformers.json",
            {"similarity_fn_name": "maxsim"},
            "a late interaction model",
        ),
        ("config_sentence_transformers.json", {"model_type": "Oracle"}, "its model_type is Oracle"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "a sparse encoder"),
        (
            "sentence_bert_config.json",
            {"transformer_task": "sequence-classification"},
            "a classifier's transformer_task, and the model_type",
        ),
        ("sentence_bert_config.json", {"query_expansion": {"length": 32}}, "late interaction"),
    ],
)
def test_models_of_another_kind(folder: Path, file: str, content: object, what: str) -> None:
    write_json(folder / file, content)
    assert what in refusal(folder)


@pytest.mark.parametrize(
    ("modules", "what"),
    [
        (["Transformer", "Pooling", "SparseAutoEncoder"], "a sparse encoder whose modules are"),
        (["MLMTransformer", "Dense", "SpladePooling"], "a sparse encoder whose modules are"),
        (["Transformer", "Dense", "MultiVectorMask"], "a late interaction model"),
        (["Transformer", "LogitScore"], "a reranker that answers yes or no"),
        (["Router", "Normalize"], "a router between several encoders"),
        (["CLIPModel"], "a model of images and texts"),
    ],
)
def test_modules_of_another_kind(folder: Path, modules: list[str], what: str) -> None:
    entries = [
        {"name": str(n), "path": f"{n}_{kind}", "type": MODULES + kind}
        for n, kind in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    assert kind_of(folder).startswith(what)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, "a reranker that answers yes or no"),
        ({"architectures": ["HF_ColBERT"]}, "a late interaction model"),
        ({"architectures": ["ColQwen2ForRetrieval"]}, "a late interaction model"),
    ],
)
def test_folders_of_another_kind(tmp_path: Path, config: object, what: str) -> None:
    """Without ``modules.json``, the encoder's config tells the kind."""
    write_json(tmp_path / "config.json", config)
    assert what in refusal(tmp_path)


@pytest.mark.parametrize("architectures", [None, [], 5, "BertModel", [5], ["BertForMaskedLM"]])
def test_folders_of_plain_encoders(tmp_path: Path, architectures: object) -> None:
    write_json(tmp_path / "config.json", {"architectures": architectures})
    with pytest.raises(SourceError, match="choose its pooling"):
        read_settings(tmp_path)


@pytest.mark.parametrize("whole", [True, False])
def test_adapters(tmp_path: Path, folder: Path, *, whole: bool) -> None:
    folder = folder if whole else tmp_path
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "somebody/model"})
    assert "holds adapter_config.json: it is an adapter" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"text": {"method": "forward", "method_output_name": ["last_hidden_state"]}}, None),
        ({"image": {"method": "get_image_features", "method_output_name": None}}, None),
        ({"message": {"method": "forward"}}, "written into a chat template"),
        (
            {"text": {"method": "get_text_features", "method_output_name": "last_hidden_state"}},
            "ano",
        ),
        (
            {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            "takes no last_hi",
        ),
        ({"text": "forward"}, "takes no last_hidden_state for a text"),
        (
            {"module_output_name": "sentence_embedding"},
            "module_output_name is not token_embeddings",
        ),
        ({"module_output_name": None}, "module_output_name is not token_embeddings"),
    ],
)
def test_modalities(folder: Path, changes: dict[str, Any], reason: str | None) -> None:
    content: dict[str, Any] = {
        "modality_config": {
            "text": {"method": "forward", "method_output_name": "last_hidden_state"}
        },
        "module_output_name": "token_embeddings",
    }
    for name, value in changes.items():
        (content if name in content else content["modality_config"])[name] = value
    write_json(folder / "sentence_bert_config.json", content)
    if reason is None:
        read_settings(folder)
    else:
        assert reason in refusal(folder)


def test_an_output_name_without_modalities_is_ignored(folder: Path) -> None:
    """sentence-transformers ignores it, too."""
    write_json(folder / "sentence_bert_config.json", {"module_output_name": "elsewhere"})
    read_settings(folder)
