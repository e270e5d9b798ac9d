"""Tests of the files that are downloaded from the hub, and of exports from its client's cache."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import pytest
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense

from embedrt import Bundle
from embedrt.errors import SourceError
from embedrt_export.source import find_source, needed_files
from hub_server import Hub, Repository, ask, serve
from model_folders import HIDDEN, METADATA, make_small, write_json

ID = "someone/small"
BARE = "someone/bare"
COMMITS = {"main": "b" * 40, "v1": "a" * 40}
CACHES = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "SENTENCE_TRANSFORMERS_HOME"}
CLOSED = "http://127.0.0.1:9"
PICKLES = {"vocab.pkl", "vocab.bin", "corpus.bin"}  # of TransformerXL, which transformers dropped


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a Dense module and other files that repositories contain."""
    tail = [Dense(HIDDEN, 16)]
    folder = make_small(tmp_path_factory.mktemp("hub") / "small", "bert", tail=tail)
    for name in (
        "pytorch_model.bin",
        "tf_model.h5",
        "onnx/model.onnx",
        "onnx/config.json",
        "checkpoint-500/model.safetensors",
        "checkpoint-500/config.json",
        "data/train.json",
        "train.csv",
        "picture.png",
        "data_config.json",
        "trainer_state.json",
        "notes [old].txt",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"never read")
    (folder / "README.md").write_bytes(b"# A model\n")
    with (folder / "corpus.json").open("wb") as file:
        file.truncate(200_000_000)  # zeros that use no disk space
    return folder


@pytest.fixture(scope="module")
def bare(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without the settings of sentence-transformers."""
    folder = tmp_path_factory.mktemp("hub") / "bare"
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("corpus.json"))
    (folder / "config_sentence_transformers.json").unlink()
    return folder


@pytest.fixture(scope="module")
def loaded(model: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder whose hub cache was filled with both models by sentence-transformers."""
    home = tmp_path_factory.mktemp("home")
    load = (
        "import sys; from sentence_transformers import SentenceTransformer\n"
        "for model in sys.argv[1:]: SentenceTransformer(model, device='cpu')"
    )
    repositories = {ID: Repository(model, COMMITS), BARE: Repository(bare, COMMITS)}
    with serve(repositories) as hub:
        subprocess.run(
            [sys.executable, "-c", load, *repositories],
            env=environment(home, HF_ENDPOINT=hub.url),
            capture_output=True,
            check=True,
            timeout=300,
        )
    return home


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a process whose hub client caches under `home`."""
    kept = {key: value for key, value in os.environ.items() if key not in CACHES}
    return {**kept, "HF_HOME": str(home), **settings}


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the model, used by the client in this process, which has an empty cache."""
    with serve({ID: Repository(model, COMMITS)}) as hub:
        ask(hub.url, monkeypatch, cache=tmp_path / "cache")
        yield hub


def fetched(hub: Hub) -> set[str]:
    """Return the names of the files that the hub sent."""
    sent = (re.match(r"GET /[^/]+/[^/]+/resolve/\w+/(.*)", line) for line in hub.requests)
    return {unquote(match[1]) for match in sent if match}


class TestNeeded:
    @pytest.mark.parametrize(
        "name",
        [
            *("spm.model", "sentencepiece.model", "tokenizer.model", "spiece.model"),
            *("sentencepiece.bpe.model", "bpe.codes", "vocab.bpe", "source.spm", "dict.txt"),
            *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "tekken.json"),
            *("qwen.tiktoken", "prophetnet.tokenizer", "emoji.json", "chat_template.jinja"),
            *("sentence_roberta_config.json", "sentence_distilbert_config.json"),
            *("adapter_config.json", "tokenizer.4.0.0.json", "preprocessor_config.json"),
            *("0_Transformer/sentence_xlnet_config.json", "0_Transformer/spm.model", "README.md"),
        ],
    )
    def test_settings_and_tokenizers(self, name: str) -> None:
        assert needed_files([name, "pytorch_model.ot"]) == [name]

    @pytest.mark.parametrize(
        "name",
        [
            *("tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.onnx", "model.gguf"),
            *("openvino_model.xml", "model.mlmodel", "model.ckpt", "training_args.bin"),
            *("optimizer.pt", "trainer_state.json", "data_config.json", "train.csv", "train.jsonl"),
            *("train.parquet", "picture.png", "modeling_mine.py", "vocab.pkl", ".gitattributes"),
            *("tf_model.h5.index.json", "flax_model.msgpack.index.json", "CHANGES.md"),
        ],
    )
    def test_files_that_nothing_reads(self, name: str) -> None:
        assert needed_files([name, "model.safetensors"]) == ["model.safetensors"]

    def test_every_tokenizer_of_transformers(self) -> None:
        """Every file name in the tokenizer tables of the installed transformers is needed."""
        folder = Path(transformers.__file__).parent
        tables = [
            table
            for file in (*folder.glob("*.py"), *folder.glob("models/*/tokenization_*.py"))
            for table in re.findall(
                r"vocab_files_names\s*=\s*\{.*?\}",
                file.read_text(encoding="utf-8"),
                flags=re.IGNORECASE | re.DOTALL,
            )
        ]
        names = {name for table in tables for name in re.findall(r":\s*[\"']([^\"']+)", table)}
        assert {"vocab.txt", "spm.model", "tokenizer.json", "bpe.codes"} <= names
        assert {name for name in names if not needed_files([name])} <= PICKLES


class TestDownload:
    def test_downloads_module_folders_and_small_files(self, hub: Hub, model: Path) -> None:
        source = find_source(ID)
        assert source.revision == COMMITS["main"]
        assert fetched(hub) == {
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "README.md",
            "config.json",
            "config_sentence_transformers.json",
            "model.safetensors",
            "modules.json",
            "notes [old].txt",
            "sentence_bert_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        } & files_of(model)
        assert files_of(source.folder) == fetched(hub)

    @pytest.mark.parametrize(
        ("file", "why"),
        [
            ("model.safetensors", r"no modules\.json\. Load it"),
            (
                "onnx/model.onnx",
                r"no modules\.json and none of .*; onnx/model\.onnx is of a format",
            ),
            ("adapter_config.json", "it is an adapter"),
            ("manifest.json", "is a bundle, which needs no export"),
        ],
    )
    def test_no_model_of_sentence_transformers(
        self, tmp_path: Path, hub: Hub, file: str, why: str
    ) -> None:
        place = tmp_path / "plain" / file
        place.parent.mkdir(parents=True)
        place.write_bytes(b"large")
        hub.repositories = {ID: Repository(tmp_path / "plain", COMMITS)}
        with pytest.raises(SourceError, match=f"^{ID} .*{why}"):
            find_source(ID)
        assert fetched(hub) == set()

    def test_weights_of_another_format_only(self, model: Path, tmp_path: Path, hub: Hub) -> None:
        folder = tmp_path / "converted"
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
        (folder / "onnx").mkdir(exist_ok=True)
        (folder / "onnx" / "model.onnx").write_bytes(b"large")
        hub.repositories = {ID: Repository(folder, COMMITS)}
        with pytest.raises(SourceError, match=rf"^{ID} has no weights: .*onnx/model\.onnx.*Export"):
            find_source(ID)

    def test_a_file_whose_download_fails(
        self, model: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An incomplete download of a new revision is not used."""
        find_source(ID, revision="v1")
        shutil.copytree(model, tmp_path / "newer", ignore=shutil.ignore_patterns("corpus.json"))
        (tmp_path / "newer" / "config.json").write_text("{}", encoding="utf-8")
        hub.repositories = {ID: Repository(tmp_path / "newer", COMMITS, {"config.json"})}
        with pytest.raises(SourceError, match="cannot be downloaded"):
            find_source(ID)
        ask(CLOSED, monkeypatch)
        with pytest.raises(SourceError, match=r"only partly.*config\.json"):
            find_source(ID)
        assert find_source(ID, revision="v1").revision == COMMITS["v1"]


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


class TestWithoutTheHub:
    @pytest.mark.parametrize("revision", [None, "main", "v1", COMMITS["main"], COMMITS["v1"]])
    def test_a_model_that_was_exported_before(
        self,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        revision: str | None,
    ) -> None:
        online = find_source(ID, revision=revision)
        ask(CLOSED, monkeypatch)
        with caplog.at_level(logging.WARNING, "embedrt_export"):
            assert find_source(ID, revision=revision) == online
        commit = COMMITS.get(revision or "main", revision)
        assert online.revision == commit
        (record,) = caplog.records
        assert f"{ID} at {commit} comes from the hub's cache" in record.getMessage()
        assert hub.requests

    @pytest.mark.parametrize("place", ["HF_HUB_CACHE", "SENTENCE_TRANSFORMERS_HOME"])
    def test_a_model_that_sentence_transformers_loaded_before(
        self, hub: Hub, loaded: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        """Such a cache lacks files that are never read, and may be set by its own variable."""
        if place == "HF_HUB_CACHE":
            monkeypatch.setattr(constants, place, str(loaded / "hub"))
        else:
            monkeypatch.setenv(place, str(loaded / "hub"))
        ask(CLOSED, monkeypatch)
        source = find_source(ID)
        assert source.revision == COMMITS["main"]
        assert source.folder.is_relative_to(loaded)
        assert find_source(ID, revision=COMMITS["main"]) == source
        with pytest.raises(SourceError, match="v1"):
            find_source(ID, revision="v1")
        assert hub.requests == []

    def test_a_model_that_the_hub_no_longer_has(self, hub: Hub) -> None:
        """A model that was removed, made private or gated is exported from the cache."""
        online = find_source(ID)
        hub.repositories = {}
        assert find_source(ID) == online

    def test_a_revision_that_the_hub_does_not_know(self, hub: Hub) -> None:
        find_source(ID, revision="v1")
        hub.repositories = {ID: Repository(hub.repositories[ID].folder, {"main": "b" * 40})}
        with pytest.raises(SourceError, match="v1"):
            find_source(ID, revision="v1")

    @pytest.mark.parametrize(
        "lost",
        [
            "modules.json",
            "config.json",
            "model.safetensors",
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
        ],
    )
    @pytest.mark.parametrize("how", ["link", "blob"])
    def test_an_incomplete_cache(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, lost: str, how: str
    ) -> None:
        file = find_source(ID).folder / lost
        (file.resolve() if how == "blob" else file).unlink()
        ask(CLOSED, monkeypatch)
        with pytest.raises(SourceError, match="only partly in the hub's cache") as caught:
            find_source(ID)
        assert lost in str(caught.value)
        assert COMMITS["main"] in str(caught.value)
        assert "export that folder" in str(caught.value)
        assert hub.requests

    @pytest.mark.parametrize("name", ["tokenizer.json", "sentence_bert_config.json"])
    def test_a_link_to_a_missing_file(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """The file exists in the repository, so it is required; the card is not."""
        folder = find_source(ID).folder
        (folder / "README.md").resolve().unlink()
        (folder / name).resolve().unlink()
        ask(CLOSED, monkeypatch)
        with pytest.raises(SourceError, match=f"only partly.*{re.escape(name)}") as caught:
            find_source(ID)
        assert "README.md" not in str(caught.value)
        assert hub.requests

    def test_a_cache_without_a_tokenizer(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = find_source(ID).folder
        for name in ("tokenizer.json", "vocab.txt", "notes [old].txt"):
            (folder / name).unlink(missing_ok=True)
        ask(CLOSED, monkeypatch)
        with pytest.raises(SourceError, match=r"only partly.*vocabulary"):
            find_source(ID)
        assert hub.requests

    def test_a_shard_that_is_missing(
        self, model: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "sharded"
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns("corpus.json"))
        tensors = load_file(folder / "model.safetensors")
        shards = {
            name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)
        }
        for shard in set(shards.values()):
            save_file(
                {n: tensors[n] for n in tensors if shards[n] == shard}, folder / shard, METADATA
            )
        (folder / "model.safetensors").unlink()
        write_json(folder / "model.safetensors.index.json", {"weight_map": shards})
        hub.repositories = {ID: Repository(folder, COMMITS)}
        cached = find_source(ID).folder
        assert set(shards.values()) <= files_of(cached)
        (cached / shard).unlink()
        ask(CLOSED, monkeypatch)
        with pytest.raises(SourceError, match=f"only partly.*{shard}"):
            find_source(ID)

    @pytest.mark.parametrize("asked", [False, True])
    def test_settings_that_may_exist(
        self,
        bare: Path,
        loaded: Path,
        hub: Hub,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        *,
        asked: bool,
    ) -> None:
        """A warning names a missing file unless the cache records that the hub lacks it, too."""
        if asked:
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(loaded / "hub"))
        elif lists_trees():
            pytest.skip("this client keeps the list of a repository's files")
        else:
            hub.repositories = {BARE: Repository(bare, COMMITS)}
            find_source(BARE)
        ask(CLOSED, monkeypatch)
        with caplog.at_level(logging.WARNING, "embedrt_export"):
            find_source(BARE)
        told = [m for m in caplog.messages if "config_sentence_transformers.json" in m]
        assert bool(told) is not asked

    def test_settings_that_the_hub_has(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        if not lists_trees():
            pytest.skip("this client does not keep the list of a repository's files")
        (find_source(ID).folder / "sentence_bert_config.json").unlink()
        ask(CLOSED, monkeypatch)
        with pytest.raises(SourceError, match=r"only partly.*sentence_bert_config\.json"):
            find_source(ID)
        assert hub.requests


def lists_trees() -> bool:
    """Whether this version of the client caches the list of a repository's files."""
    return hasattr(huggingface_hub, "get_cached_repo_tree")


def test_offline_export(loaded: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "embedrt", "export", ID, "--output", "bundle"],
        cwd=tmp_path,
        env=environment(loaded, HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    source = Bundle.open(tmp_path / "bundle").manifest.source
    assert (source.id, source.origin, source.revision) == (ID, "hub", COMMITS["main"])
