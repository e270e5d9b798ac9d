"""Tests of the settings in a model's files, and of the refusals that they cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comparison import Pair, export_small
from embedrt import Embedder
from embedrt.errors import SourceError, UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.head import is_normalized
from embedrt_export.source.settings import Settings, read_settings
from model_folders import make_small, minilm_folder, write_json, write_settings

OLD = "sentence_transformers.models."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Settings in the layout of 2021, as on the hub; no weights."""
    write_settings(tmp_path / "model", max_tokens=256, normalized=True, dimension=384)
    return tmp_path / "model"


def with_pooling(folder: Path, **config: object) -> Settings:
    write_json(folder / "1_Pooling" / "config.json", config)
    return read_settings(folder)


def with_extras(folder: Path, **config: object) -> Settings:
    write_json(folder / "config_sentence_transformers.json", config)
    return read_settings(folder)


def write_modules(folder: Path, *entries: tuple[str, str]) -> None:
    write_json(
        folder / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": kind}
            for index, (path, kind) in enumerate(entries)
        ],
    )


def refusal(folder: Path) -> str:
    with pytest.raises(UnsupportedModelError) as caught:
        read_settings(folder)
    return str(caught.value)


def test_old_layout(folder: Path) -> None:
    settings = read_settings(folder)
    assert settings.transformer == folder
    assert [type(module).__name__ for module in settings.head] == ["Pooling", "Normalize"]
    assert settings.pooling == ("mean",)
    assert is_normalized(settings.head)
    assert settings.similarity is None
    assert settings.prompts == {}
    assert settings.default_prompt_name is None


def test_new_layout(exported: Callable[[str], Pair]) -> None:
    settings = read_settings(exported("bert").folder)
    assert [type(module).__name__ for module in settings.head] == ["Pooling", "Normalize"]
    assert settings.pooling == ("mean",)
    assert settings.similarity == "cosine"


def test_transformer_in_its_own_folder(folder: Path) -> None:
    write_modules(folder, ("0_Transformer", OLD + "Transformer"), ("1_Pooling", OLD + "Pooling"))
    settings = read_settings(folder)
    assert settings.transformer == folder / "0_Transformer"
    assert not is_normalized(settings.head)


def test_export_of_a_transformer_in_its_own_folder(tmp_path: Path) -> None:
    """It has 512 positions, its own maximum length, and a tokenizer with a maximum of 128."""
    folder = make_small(tmp_path / "model", "bert")
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in folder.glob("*"):
        if file.is_file() and file.name not in (
            "modules.json",
            "config_sentence_transformers.json",
        ):
            file.rename(inner / file.name)
    write_modules(
        folder,
        ("0_Transformer", OLD + "Transformer"),
        ("1_Pooling", OLD + "Pooling"),
        ("2_Normalize", OLD + "Normalize"),
    )
    with Embedder.load(export_model(str(folder), output=tmp_path / "bundle")) as embedder:
        assert embedder.max_tokens == 64
        assert list(embedder.manifest.source.weights) == ["0_Transformer/model.safetensors"]


@pytest.mark.parametrize(
    ("switch", "pooling"),
    [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ],
)
def test_pooling_switches(folder: Path, switch: str, pooling: str) -> None:
    switches = {"pooling_mode_mean_tokens": False, switch: True}
    assert with_pooling(folder, **switches).pooling == (pooling,)


def test_pooling_switches_in_the_order_of_concatenation(folder: Path) -> None:
    pooled = with_pooling(
        folder,
        pooling_mode_lasttoken=True,
        pooling_mode_mean_tokens=True,
        pooling_mode_cls_token=True,
    )
    assert pooled.pooling == ("cls", "mean", "lasttoken")


def test_pooling_by_name(folder: Path) -> None:
    assert with_pooling(folder, pooling_mode="lasttoken").pooling == ("lasttoken",)
    modes = ["mean_sqrt_len_tokens", "cls"]
    assert with_pooling(folder, pooling_mode=modes).pooling == ("mean_sqrt_len", "cls")


def test_unknown_pooling(folder: Path) -> None:
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": ["mean", "median"]})
    assert "median" in refusal(folder)


@pytest.mark.parametrize("included", [True, False])
def test_prompt_left_out_of_pooling(folder: Path, included: bool) -> None:
    settings = with_pooling(folder, pooling_mode_mean_tokens=True, include_prompt=included)
    assert settings.leaves_prompt_out == (not included)
    assert settings.pooling == ("mean",)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(folder: Path, similarity: str) -> None:
    assert with_extras(folder, similarity_fn_name=similarity).similarity == similarity


def test_unknown_similarity(folder: Path) -> None:
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "jaccard"})
    assert "jaccard" in refusal(folder)


def test_prompts(folder: Path) -> None:
    prompts = {"query": "query: ", "document": ""}
    settings = with_extras(folder, prompts=prompts, default_prompt_name="query")
    assert settings.prompts["query"] == "query: "
    assert settings.default_prompt_name == "query"


def test_prompts_and_score_of_a_bundle(tmp_path: Path) -> None:
    pair = export_small(
        tmp_path,
        "bert",
        prompts={"query": "find: ", "passage": "text: "},
        default_prompt_name="passage",
        similarity_fn_name="dot",
    )
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.prompts["query"] == "find: "
        assert embedder.manifest.default_prompt_name == "passage"
        assert embedder.manifest.similarity == "dot"
        prefixed = embedder.encode("text: a dog", prompt="").tobytes()
        assert embedder.encode("a dog").tobytes() == prefixed
        query = embedder.encode("find: a dog", prompt="").tobytes()
        assert embedder.encode_query("a dog").tobytes() == query != prefixed


@pytest.mark.parametrize("what", ["nothing", "no modules.json"])
def test_no_model(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "model"
    if what == "no modules.json":
        write_json(folder / "config.json", {"model_type": "bert"})
    with pytest.raises(SourceError, match=r"modules\.json") as caught:
        read_settings(folder)
    assert str(folder) in str(caught.value)


def test_a_bundle_is_not_a_model(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"format_version": 2})
    with pytest.raises(SourceError, match="is a bundle, which needs no export"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["[", "{}", "[]", "[1]", '[{"path": ""}]', '[{"path": "", "type": "a"}]', "null"],
)
def test_broken_modules(folder: Path, content: str) -> None:
    (folder / "modules.json").write_text(content, encoding="utf-8")
    with pytest.raises((SourceError, UnsupportedModelError), match=r"model"):
        read_settings(folder)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_module_without_its_config(folder: Path, content: str | None) -> None:
    """A partial copy: sentence-transformers fails with the arguments of a constructor."""
    file = folder / "1_Pooling" / "config.json"
    file.unlink()
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=f"^{file} is missing or empty.*Copy the model again"):
        read_settings(folder)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_module_config(folder: Path, content: str) -> None:
    (folder / "1_Pooling" / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match="1_Pooling"):
        read_settings(folder)


@pytest.mark.parametrize("path", ["../elsewhere", "/", "1_Pooling/../../x"])
def test_module_path_that_leaves_the_folder(folder: Path, path: str) -> None:
    write_modules(folder, ("", OLD + "Transformer"), (path, OLD + "Pooling"))
    assert path in refusal(folder)


def test_absolute_module_path(folder: Path) -> None:
    path = str(folder / "1_Pooling")
    write_modules(folder, ("", OLD + "Transformer"), (path, OLD + "Pooling"))
    assert path in refusal(folder)


def test_module_path_that_leaves_the_folder_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    write_modules(folder, ("", OLD + "Transformer"), ("linked", OLD + "Pooling"))
    assert "linked" in refusal(folder)


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([("", "Transformer")], "Pooling"),
        ([("", "Transformer"), ("2_Normalize", "Normalize")], "Pooling"),
        ([("", "Transformer"), ("1_Pooling", "Pooling"), ("1_Pooling", "Pooling")], "one Pooling"),
        ([("", "WordEmbeddings"), ("1_Pooling", "Pooling")], "WordEmbeddings"),
        ([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_LSTM", "LSTM")], "LSTM"),
    ],
)
def test_modules_that_are_not_supported(
    folder: Path, modules: list[tuple[str, str]], reason: str
) -> None:
    write_modules(folder, *((path, OLD + kind) for path, kind in modules))
    assert reason in refusal(folder)


def test_every_reason_at_once(folder: Path) -> None:
    write_modules(
        folder,
        ("", OLD + "BoW"),
        ("1_Pooling", OLD + "Pooling"),
        ("2_CNN", OLD + "CNN"),
        ("3_Evil", "theirs.Evil"),
    )
    write_json(
        folder / "1_Pooling" / "config.json", {"pooling_mode": "median", "include_prompts": False}
    )
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "jaccard"})
    message = refusal(folder)
    for reason in ("BoW", "CNN", "theirs.Evil", "median", "include_prompts", "jaccard"):
        assert reason in message
    assert message.endswith(". Use the library that it was made with")


def test_no_code_of_a_custom_module_runs(tmp_path: Path) -> None:
    """sentence-transformers runs such a file without asking if the model is a local folder."""
    folder = make_small(tmp_path / "model", "bert")
    marker = tmp_path / "it-ran"
    (folder / "theirs.py").write_text(
        f"open({str(marker)!r}, 'w')\nclass Evil: pass\n", encoding="utf-8"
    )
    write_modules(
        folder, ("", OLD + "Transformer"), ("1_Pooling", OLD + "Pooling"), ("", "theirs.Evil")
    )
    with pytest.raises(UnsupportedModelError, match=r"theirs\.Evil"):
        export_model(str(folder), output=tmp_path / "bundle")
    assert not marker.exists()


@pytest.mark.parametrize("model_type", ["bert", "theirs"])
def test_no_code_of_a_custom_architecture_runs(tmp_path: Path, model_type: str) -> None:
    folder = make_small(tmp_path / "model", "bert")
    marker = tmp_path / "it-ran"
    code = f"open({str(marker)!r}, 'w')\nclass TheirConfig: pass\nclass TheirModel: pass\n"
    (folder / "theirs.py").write_text(code, encoding="utf-8")
    _change(folder / "config.json", model_type=model_type, auto_map=AUTO_MAP)
    _change(folder / "sentence_bert_config.json", model_args={"trust_remote_code": True})
    if model_type == "theirs":
        with pytest.raises(
            UnsupportedModelError, match="transformers does not support the architecture theirs"
        ):
            export_model(str(folder), output=tmp_path / "bundle")
    else:
        export_model(str(folder), output=tmp_path / "bundle", ignore_remote_code=True)
    assert not marker.exists()


AUTO_MAP = {"AutoConfig": "theirs.TheirConfig", "AutoModel": "theirs.TheirModel"}


def _change(file: Path, **changes: Any) -> None:
    import json

    write_json(file, {**json.loads(file.read_text(encoding="utf-8")), **changes})


def test_minilm() -> None:
    settings = read_settings(minilm_folder())
    assert settings.pooling == ("mean",)
    assert is_normalized(settings.head)
    assert settings.similarity is None
