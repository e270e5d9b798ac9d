"""Tests of opening bundles, and of errors that say what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from embedrt import Bundle, Embedder
from embedrt.bundle.reader import (
    FILES,
    MANIFEST,
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    Verify,
    describe_file,
)
from embedrt.cli import main
from embedrt.errors import BundleCorruptError, BundleFormatError, BundleNotFoundError
from tiny_bundle import make_tiny

NAMES = sorted(FILES)
REMEDY = "; copy or export the bundle again"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny(tmp_path / "tiny")


def edit_manifest(bundle: Path, **changes: Any) -> None:
    file = bundle / MANIFEST
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8"
    )


def flip_last_byte(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("verify", ["size", "sha256"])
@pytest.mark.parametrize("kind", [Path, str])
def test_a_complete_bundle_opens(tiny: Path, kind: Any, verify: Verify) -> None:
    bundle = Bundle.open(kind(tiny), verify=verify)
    assert bundle.path == tiny
    assert bundle.manifest.name == "tiny"
    assert {file.name for file in tiny.iterdir()} == {MANIFEST, *FILES}
    assert all(file.is_file() for file in (bundle.graph, bundle.tokenizer, bundle.probes))


def test_files_are_described_by_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    entry = describe_file(tmp_path / "file")
    assert entry.size == 3
    assert entry.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_bundle_reached_by_a_link_opens(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny)
    assert Bundle.open(tmp_path / "link").manifest.name == "tiny"


def test_bad_verify_lists_the_good_ones(tiny: Path) -> None:
    with pytest.raises(ValueError, match=r"^verify='md5'; expected one of \['size', 'sha256'\]$"):
        Bundle.open(tiny, verify="md5")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["nowhere", "file", "nul\0"])
def test_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    with pytest.raises(BundleNotFoundError, match=r"no bundle at .*embedrt export MODEL"):
        Embedder.load(tmp_path / name)


def test_no_folder_is_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Embedder.load(tmp_path / "nowhere")


def test_a_folder_that_is_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match=r"no manifest\.json.*embedrt export"):
        Embedder.load(tmp_path)


def test_a_manifest_that_cannot_be_read(tiny: Path) -> None:
    (tiny / MANIFEST).unlink()
    (tiny / MANIFEST).mkdir()
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny)
    assert str(caught.value) == f"{tiny / MANIFEST} is not a file{REMEDY}"


@pytest.mark.parametrize("name", [MANIFEST, *NAMES])
def test_a_file_that_may_not_be_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Root may read any file, so the test raises the error itself."""
    whole = Path.open

    def refuse(path: Path, *arguments: Any) -> Any:
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, *arguments)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny, verify="sha256")
    assert str(caught.value) == f"{tiny / name} cannot be read (Permission denied){REMEDY}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", [MANIFEST, *NAMES])
def test_pipe_in_place_of_a_file(tiny: Path, name: str) -> None:
    """Opening a pipe to read would wait for a writer forever."""
    (tiny / name).unlink()
    os.mkfifo(tiny / name)
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny, verify="sha256")
    assert str(caught.value) == f"{tiny / name} is not a file{REMEDY}"


def test_a_huge_manifest(tiny: Path) -> None:
    text = (tiny / MANIFEST).read_text(encoding="utf-8")
    (tiny / MANIFEST).write_text(text + " " * (MAX_MANIFEST_BYTES - len(text)), encoding="utf-8")
    assert Bundle.open(tiny).manifest.name == "tiny"
    (tiny / MANIFEST).write_text(
        text + " " * (MAX_MANIFEST_BYTES - len(text) + 1), encoding="utf-8"
    )
    with pytest.raises(BundleFormatError) as caught:
        Bundle.open(tiny)
    assert str(caught.value) == f"{tiny / MANIFEST} has more than 1048576 bytes{REMEDY}"


@pytest.mark.parametrize("name", NAMES)
def test_a_huge_file(tiny: Path, name: str) -> None:
    """It is refused even if the manifest has its size, because reading it would exhaust memory."""
    files = json.loads((tiny / MANIFEST).read_text(encoding="utf-8"))["files"]
    for size in (MAX_BYTES[name], MAX_BYTES[name] + 1):
        os.truncate(tiny / name, size)  # sparse: uses no disk space
        files[name]["size"] = size
        edit_manifest(tiny, files=files)
        if size == MAX_BYTES[name]:
            Bundle.open(tiny)
    with pytest.raises(BundleFormatError) as caught:
        Embedder.load(tiny)
    assert (
        str(caught.value)
        == f"{tiny / name} has {size} bytes; at most {size - 1} are allowed{REMEDY}"
    )


def test_a_truncated_manifest_names_the_position(tiny: Path) -> None:
    text = (tiny / MANIFEST).read_text(encoding="utf-8")
    (tiny / MANIFEST).write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(BundleFormatError) as caught:
        Bundle.open(tiny)
    assert str(caught.value).startswith(f"{tiny}: manifest.json is not JSON: ")


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(tiny: Path, name: str) -> None:
    (tiny / name).unlink()
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny)
    assert str(caught.value) == f"{tiny / name} is missing{REMEDY}"


def as_in_a_hub_s_cache(bundle: Path, folder: Path) -> Path:
    """Lay out a bundle as links to blobs named by hash, like a snapshot of huggingface_hub."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "c0ffee"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in bundle.iterdir():
        blob = blobs / describe_file(file).sha256
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def as_in_a_kubernetes_volume(bundle: Path, folder: Path) -> Path:
    """Lay out a bundle as links through ``..data``, a link to the latest version's folder."""
    shutil.copytree(bundle, folder / "..2026_01_02")
    (folder / "..data").symlink_to("..2026_01_02")
    for file in bundle.iterdir():
        (folder / file.name).symlink_to(f"..data/{file.name}")
    return folder


@pytest.mark.parametrize("lay", [as_in_a_hub_s_cache, as_in_a_kubernetes_volume])
@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_bundles_as_tools_lay_them(
    tiny: Path, tmp_path: Path, lay: Callable[[Path, Path], Path], verify: Verify
) -> None:
    (tmp_path / "laid").mkdir()
    laid = lay(tiny, tmp_path / "laid")
    with Embedder.load(tiny) as plain, Embedder.load(laid, verify=verify) as embedder:
        assert embedder.encode(["w1 w2"]).tobytes() == plain.encode(["w1 w2"]).tobytes()
    flip_last_byte((laid / "tokenizer.json").resolve())
    with pytest.raises(BundleCorruptError, match=r"tokenizer\.json has sha256"):
        Bundle.open(laid, verify="sha256")
    assert main(["verify", str(laid)]) == 1


@pytest.mark.parametrize("name", [MANIFEST, *NAMES])
def test_link_in_place_of_a_file(tiny: Path, tmp_path: Path, name: str) -> None:
    """A link is followed, and its target is checked like the file itself."""
    elsewhere = tmp_path / "elsewhere"
    (tiny / name).rename(elsewhere)
    (tiny / name).symlink_to("../elsewhere")
    assert Bundle.open(tiny, verify="sha256").manifest.name == "tiny"
    elsewhere.write_bytes(elsewhere.read_bytes() + b"\0")
    with pytest.raises((BundleCorruptError, BundleFormatError)) as caught:
        Bundle.open(tiny)
    assert str(caught.value).startswith(str(tiny if name == MANIFEST else tiny / name))


@pytest.mark.parametrize("name", [MANIFEST, *NAMES])
@pytest.mark.parametrize(
    ("target", "what"),
    [
        (".", "not a file"),
        ("..", "not a file"),
        ("/dev/zero", "not a file"),
        ("pipe", "not a file"),
        ("nowhere", "a broken link"),
        ("itself", "a broken link"),
        ("file/below", "a broken link"),
        ("/proc/self/pagemap", "a link to an empty file"),
        ("empty", "a link to an empty file"),
    ],
)
def test_links_to_what_is_no_file(tiny: Path, name: str, target: str, what: str) -> None:
    (tiny / "file").write_bytes(b"a file")
    (tiny / "empty").write_bytes(b"")
    os.mkfifo(tiny / "pipe")
    (tiny / name).unlink()
    (tiny / name).symlink_to(name if target == "itself" else target)
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny, verify="sha256")
    assert str(caught.value) == f"{tiny / name} is {what}{REMEDY}"


@pytest.mark.parametrize("name", [MANIFEST, *NAMES])
def test_links_to_other_files(tiny: Path, name: str) -> None:
    """The target of a link must match the manifest, too."""
    (tiny / name).unlink()
    (tiny / name).symlink_to("/etc/passwd")
    with pytest.raises((BundleCorruptError, BundleFormatError)) as caught:
        Bundle.open(tiny)
    assert "root:" not in str(caught.value)
    assert str(caught.value).endswith(REMEDY)


def test_a_link_to_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("gone")
    with pytest.raises(BundleNotFoundError, match="current: it is a broken link; make one with"):
        Embedder.load(tmp_path / "current")


@pytest.mark.skipif(os.geteuid() != 0, reason="root reads anything")
def test_a_link_to_a_forbidden_folder() -> None:
    with TemporaryDirectory() as name:  # only root can enter pytest's own folders
        folder = Path(name)
        bundle = make_tiny(folder / "tiny")
        (folder / "private").mkdir(0o700)
        for file in (MANIFEST, "model.onnx"):
            (bundle / file).rename(folder / "private" / file)
            (bundle / file).symlink_to(f"../private/{file}")
            folder.chmod(0o755)
            os.seteuid(65534)
            try:
                with pytest.raises(BundleCorruptError) as caught:
                    Bundle.open(bundle)
            finally:
                os.seteuid(0)
            assert (
                str(caught.value) == f"{bundle / file} cannot be read (Permission denied){REMEDY}"
            )
            (folder / "private" / file).replace(bundle / file)


@pytest.mark.parametrize("kind", [Path, str])
def test_a_home(tiny: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    monkeypatch.setenv("HOME", str(tiny.parent))
    assert Bundle.open(kind("~/tiny")).path == tiny
    with Embedder.load(kind("~/tiny")) as embedder, pickle.loads(pickle.dumps(embedder)) as copy:
        assert copy.dimension == embedder.dimension
    with pytest.raises(BundleNotFoundError, match="no bundle at ~nobody-of-this-name/tiny"):
        Bundle.open(kind("~nobody-of-this-name/tiny"))


@pytest.mark.parametrize("name", NAMES)
def test_folder_in_place_of_a_file(tiny: Path, name: str) -> None:
    (tiny / name).unlink()
    (tiny / name).mkdir()
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny)
    assert str(caught.value) == f"{tiny / name} is not a file{REMEDY}"


@pytest.mark.parametrize("extra", [-1, 1])
@pytest.mark.parametrize("name", NAMES)
def test_file_of_another_size(tiny: Path, name: str, extra: int) -> None:
    content = (tiny / name).read_bytes()
    (tiny / name).write_bytes(content[:-1] if extra < 0 else content + b"\0")
    with pytest.raises(BundleCorruptError) as caught:
        Bundle.open(tiny)
    sizes = f"has {len(content) + extra} bytes and the manifest says {len(content)}"
    assert str(caught.value) == f"{tiny / name} {sizes}{REMEDY}"


@pytest.mark.parametrize("name", NAMES)
def test_other_bytes_of_the_same_size_are_found_by_sha256_alone(tiny: Path, name: str) -> None:
    flip_last_byte(tiny / name)
    Bundle.open(tiny)
    with pytest.raises(BundleCorruptError, match=rf"{name} has sha256 \w+ and the manifest says"):
        Bundle.open(tiny, verify="sha256")
    with pytest.raises(BundleCorruptError):
        Embedder.load(tiny, verify="sha256")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/file", "..", "", ".", "manifest.json", "model.onnx\0"]
)
def test_names_beyond_the_format(tiny: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    entry = {"size": 6, "sha256": "00"}
    files = json.loads((tiny / MANIFEST).read_text(encoding="utf-8"))["files"]
    edit_manifest(tiny, files={**files, name: entry})
    with pytest.raises(BundleFormatError, match=r"manifest\.files must name exactly") as caught:
        Bundle.open(tiny)
    assert str(caught.value).endswith(f"differs in [{name!r}]{REMEDY}")


def test_thousands_of_names_do_not_flood_the_error(tiny: Path) -> None:
    entry = {"size": 0, "sha256": ""}
    files = {f"../{'x' * 100}{i}": entry for i in range(3000)}
    edit_manifest(tiny, files=files)
    with pytest.raises(BundleFormatError, match=r"copy or export the bundle again$") as caught:
        Bundle.open(tiny)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", NAMES)
def test_file_that_the_manifest_leaves_out(tiny: Path, name: str) -> None:
    files = json.loads((tiny / MANIFEST).read_text(encoding="utf-8"))["files"]
    del files[name]
    edit_manifest(tiny, files=files)
    with pytest.raises(BundleFormatError, match=rf"differs in \['{name}'\]"):
        Bundle.open(tiny)


def test_other_files_in_the_folder_are_ignored(tiny: Path) -> None:
    (tiny / "notes.txt").write_text("mine", encoding="utf-8")
    assert Bundle.open(tiny, verify="sha256").manifest.name == "tiny"


def test_a_partially_copied_bundle(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (MANIFEST, "README.md"):
        shutil.copy(tiny / name, copy)
    with pytest.raises(BundleCorruptError, match="is missing"):
        Embedder.load(copy)
