"""Tests that bundles of format version 1 still load and can be upgraded to version 2."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from embedrt import Bundle, Embedder
from embedrt.bundle.manifest import FORMAT_VERSION
from embedrt.bundle.reader import FILES, GRAPH, MANIFEST
from embedrt.bundle.weights import WEIGHTS, move_weights
from embedrt.cli import main
from embedrt.engine.cpu import CPUINFO
from embedrt.errors import BundleCorruptError, BundleFormatError, ExportError
from embedrt.upgrade import upgrade_bundle
from tiny_bundle import make_tiny, model, node, outside

DATA = Path(__file__).parents[1] / "data" / "version_1"
PRECISIONS = ("fp32", "int8")
RECORDED: dict[str, Any] = json.loads((DATA / "vectors.json").read_text(encoding="utf-8"))
TEXTS: list[str] = RECORDED["texts"]


def recorded(precision: str) -> NDArray[np.float32]:
    """Return the vectors of the last release of version 1. Shape: (texts, dimension)."""
    rows = [np.frombuffer(bytes.fromhex(row), np.float32) for row in RECORDED[precision]]
    return np.stack(rows)


def has_the_same_kernels() -> bool:
    """Whether bytes can be compared with those of the machine that recorded the vectors."""
    flags = CPUINFO.read_text(encoding="utf-8") if CPUINFO.is_file() else ""
    return "avx512_vnni" in flags and ort.__version__ in RECORDED["onnxruntime"]


def test_bytes_are_compared_with_the_pinned_version_of_onnx_runtime() -> None:
    """Otherwise only the vectors are: a new version that gives the same bytes is added."""
    pins = (DATA.parents[2] / "constraints.txt").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"(?m)^onnxruntime==(\S+)$", pins)
    assert pinned in RECORDED["onnxruntime"]


def beside(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("precision", PRECISIONS)
class TestVersion1:
    def test_is_read(self, precision: str) -> None:
        bundle = Bundle.open(DATA / precision, verify="sha256")
        manifest = bundle.manifest
        assert manifest.format_version == 1
        assert manifest.task == "embedding"
        assert [value.name for value in manifest.inputs] == ["input_ids"]
        assert [value.axes for value in manifest.outputs] == [("batch", "dimension")]
        assert bundle.weights_size is None

    @pytest.mark.parametrize("mapped", [True, False])
    def test_gives_the_same_vectors(self, precision: str, *, mapped: bool) -> None:
        expected = recorded(precision)
        with Embedder.load(DATA / precision, mapped=mapped) as embedder:
            found = embedder.encode(TEXTS)
        assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
        if has_the_same_kernels():
            assert found.tobytes() == expected.tobytes()

    def test_is_accepted_by_commands(
        self, precision: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["info", str(DATA / precision)]) == 0
        assert "format      version 1, embedding\n" in capsys.readouterr().out
        assert main(["verify", str(DATA / precision)]) == 0
        assert capsys.readouterr().out.startswith("files: 4 as the manifest says")

    def test_with_weights_in_another_file(self, precision: str, tmp_path: Path) -> None:
        """Weights files came with version 2."""
        bundle = tmp_path / "bundle"
        shutil.copytree(DATA / precision, bundle)
        zeros = np.zeros(16, np.float32)
        graph = model((1, node("Identity", ["t"], "embedding")), (5, outside("t", zeros, 0)))
        (bundle / GRAPH).write_bytes(graph)
        (bundle / WEIGHTS).write_bytes(zeros.tobytes())
        describe(bundle, GRAPH)
        for refuse in (Embedder.load, lambda path: upgrade_bundle(path, tmp_path / "new")):
            with pytest.raises(BundleFormatError, match="a tensor whose data lies in another file"):
                refuse(bundle)
        describe(bundle, WEIGHTS)
        with pytest.raises(BundleFormatError, match=r"differs in \['weights\.bin'\]"):
            Embedder.load(bundle)
        assert beside(tmp_path) == {"bundle"}


def describe(bundle: Path, name: str) -> None:
    """Write a file's size and hash into the manifest."""
    text = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    content = (bundle / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    text["files"][name] = {"size": len(content), "sha256": digest}
    (bundle / MANIFEST).write_text(json.dumps(text), encoding="utf-8")


@pytest.mark.parametrize("precision", PRECISIONS)
class TestUpgrade:
    def test_gives_the_same_bytes(
        self, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        old, new = DATA / precision, tmp_path / "new"
        assert main(["upgrade", str(old), str(new)]) == 0
        assert capsys.readouterr().out == f"{new}\n"
        assert beside(new) == {MANIFEST, *FILES}
        assert (new / WEIGHTS).stat().st_size > 5000
        with Embedder.load(old) as before, Embedder.load(new, verify="sha256") as after:
            assert after.encode(TEXTS).tobytes() == before.encode(TEXTS).tobytes()
            assert after.manifest == dataclasses.replace(
                before.manifest, format_version=FORMAT_VERSION, files=after.manifest.files
            )
        assert main(["verify", str(new)]) == 0
        assert beside(tmp_path) == {"new"}

    def test_with_weights_that_are_rewritten_at_load(
        self, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On processors with clipping kernels, ONNX Runtime copies the weights in either case."""
        upgrade_bundle(DATA / precision, tmp_path / "new")
        monkeypatch.setattr("embedrt.engine.session.clips_int8", lambda: True)
        old, new = DATA / precision, tmp_path / "new"
        found = []
        for bundle, mapped in ((old, True), (new, True), (new, False)):
            with Embedder.load(bundle, mapped=mapped) as embedder:
                found.append(embedder.encode(TEXTS))
        assert np.abs(found[0] - recorded(precision)).max() < 1e-5
        assert len({vectors.tobytes() for vectors in found}) == 1

    def test_where_kernels_are_required(
        self, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The variable says what runs bundles, and an upgrade only compares two of them."""
        monkeypatch.setenv("EMBEDRT_KERNELS", "require")
        upgrade_bundle(DATA / precision, tmp_path / "new")
        assert beside(tmp_path) == {"new"}

    def test_needs_neither_torch_nor_onnx(self, precision: str, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "for name in ('torch', 'onnx', 'transformers', 'safetensors', 'embedrt_export'):\n"
            "    sys.modules[name] = None\n"
            "from embedrt.cli import main\n"
            "sys.exit(main(['upgrade', *sys.argv[1:]]))\n"
        )
        command = [sys.executable, "-c", program, str(DATA / precision), str(tmp_path / "new")]
        subprocess.run(command, check=True, timeout=300)
        Bundle.open(tmp_path / "new", verify="sha256")

    def test_in_place(self, precision: str, tmp_path: Path) -> None:
        bundle = tmp_path / "bundle"
        shutil.copytree(DATA / precision, bundle)
        upgrade_bundle(bundle, bundle)
        assert Bundle.open(bundle, verify="sha256").manifest.format_version == FORMAT_VERSION
        assert beside(tmp_path) == {"bundle"}

    def test_other_vectors_are_not_published(
        self, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def spoil(graph: bytes, weights: BinaryIO) -> bytes:
            outline = move_weights(graph, weights)
            size = weights.tell()
            weights.seek(0)
            weights.write(bytes(size))
            return outline

        monkeypatch.setattr("embedrt.bundle.writer.move_weights", spoil)
        with pytest.raises(
            BundleCorruptError, match="the rewritten bundle gives different vectors"
        ):
            upgrade_bundle(DATA / precision, tmp_path / "new")
        assert beside(tmp_path) == set()

    def test_a_damaged_bundle(self, precision: str, tmp_path: Path) -> None:
        bundle = tmp_path / "bundle"
        shutil.copytree(DATA / precision, bundle)
        content = bytearray((bundle / GRAPH).read_bytes())
        content[-300] ^= 1
        (bundle / GRAPH).write_bytes(content)
        with pytest.raises(BundleCorruptError, match="has sha256"):
            upgrade_bundle(bundle, tmp_path / "new")
        assert beside(tmp_path) == {"bundle"}


def test_a_bundle_of_version_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_tiny(tmp_path / "tiny")
    assert main(["upgrade", str(bundle), str(tmp_path / "new")]) == 1
    expected = f"embedrt: {bundle} has format version 2 already: use it as it is\n"
    assert capsys.readouterr() == ("", expected)
    assert beside(tmp_path) == {"tiny"}


def test_output_that_is_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ExportError, match="exists and is not a bundle"):
        upgrade_bundle(DATA / "fp32", tmp_path / "mine")
    assert beside(tmp_path / "mine") == {"notes.txt"}
