"""Opening and checking bundles.

Opening a bundle parses its manifest strictly and checks that every file it lists is a regular file
of the right size, directly inside the folder. Links to regular files are accepted, because the
caches of model hubs and Kubernetes volumes consist of them.
"""

from __future__ import annotations

import mmap
import reprlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

from embedrt.arguments import check_choice
from embedrt.bundle.decoding import REMEDY, unreadable
from embedrt.bundle.manifest import FileEntry, Manifest
from embedrt.bundle.memory import load_file
from embedrt.bundle.weights import WEIGHTS
from embedrt.errors import BundleCorruptError, BundleError, BundleFormatError, BundleNotFoundError
from embedrt.files import expand

MANIFEST = "manifest.json"
GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
PROBES = "probes.json"
CARD = "README.md"

HUB = "hub:"

MAX_MANIFEST_BYTES = 1 << 20
MAX_BYTES = {
    GRAPH: (1 << 31) - 1,
    WEIGHTS: 1 << 36,
    TOKENIZER: 1 << 28,
    PROBES: 1 << 24,
    CARD: 1 << 20,
}
FILES = frozenset(MAX_BYTES)
FILES_OF_VERSION_1 = FILES - {WEIGHTS}

Verify = Literal["size", "sha256"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle folder, with its manifest read and its files checked against it."""

    path: Path
    manifest: Manifest

    @property
    def graph(self) -> Path:
        """The ONNX graph."""
        return self.path / GRAPH

    @property
    def weights_size(self) -> int | None:
        """Size of the weights file in bytes; None if the graph itself holds the weights."""
        entry = self.manifest.files.get(WEIGHTS)
        return entry.size if entry else None

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, without padding or truncation."""
        return self.path / TOKENIZER

    @property
    def probes(self) -> Path:
        """Texts with their reference embeddings."""
        return self.path / PROBES

    @classmethod
    def open(cls, path: str | Path, *, verify: Verify = "size") -> Bundle:
        """Read the bundle at `path` and check its files.

        Parameters
        ----------
        path
            The bundle's folder; ``~`` expands to the user's home. ``hub:org/name@COMMIT``, as a
            str, is pulled from a hub first, see `embedrt.hub`; a path never touches the network.
        verify
            ``"size"`` compares the size of each file and takes microseconds; ``"sha256"`` also
            hashes the content, at about a second per gigabyte.

        Raises
        ------
        BundleNotFoundError
            The folder does not exist or has no manifest.
        BundleFormatError
            This version cannot read the manifest.
        BundleCorruptError
            A file is missing, is not a regular file, or differs from its description.
        HubError
            The bundle cannot be pulled.
        """
        check_choice("verify", verify, get_args(Verify))
        path = _local(path)
        manifest = _read_manifest(path)
        expected = FILES_OF_VERSION_1 if manifest.format_version == 1 else FILES
        if unexpected := manifest.files.keys() ^ expected:
            raise BundleFormatError(
                f"{path}: manifest.files must name exactly {sorted(expected)}; "
                f"differs in {reprlib.repr(sorted(unexpected))}; {REMEDY}"
            )
        for name, entry in manifest.files.items():
            try:
                _check_file(path / name, entry, hashed=verify == "sha256")
            except OSError as error:
                raise unreadable(path / name, error) from error
        return cls(path, manifest)

    def load_weights(self, *, mapped: bool = True) -> mmap.mmap | None:
        """Load the weights, or return None if ONNX Runtime maps the weights file itself.

        ONNX Runtime can map a file that is beside the graph after all links are resolved. Also
        returns None if the bundle has no weights to load. Raises BundleCorruptError if the file
        cannot be read.
        """
        file = self.path / WEIGHTS
        beside = file.resolve() == self.graph.resolve().with_name(WEIGHTS)
        if not self.weights_size or (mapped and beside):
            return None
        try:
            return load_file(file, mapped=mapped)
        except OSError as error:
            raise unreadable(file, error) from error


def _local(path: str | Path) -> Path:
    if isinstance(path, str) and path.startswith(HUB):
        pulled: Path = import_module("embedrt.hub.pull").pull(path).folder
        return pulled
    return expand(path)


def describe_file(path: Path) -> FileEntry:
    """Return the size and the sha256 of the file at `path`."""
    import hashlib  # noqa: PLC0415  # slow to import, and not needed for verify="size"

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(size=path.stat().st_size, sha256=digest)


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        if not path.is_dir():
            broken = ": it is a broken link" if path.is_symlink() and not path.exists() else ""
            raise BundleNotFoundError(
                f"there is no bundle at {path}{broken}; make one with: embedrt export MODEL "
                f"--output {path}"
            )
        if not file.exists() and not file.is_symlink():
            raise BundleNotFoundError(
                f"{path} is not a bundle: it has no {MANIFEST}. A folder from a model hub must "
                f"first be exported: embedrt export {path} --output NEW_FOLDER"
            )
        _check_plain(file)
        with file.open("rb") as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
    except BundleError:  # some subclasses are also OSErrors
        raise
    except OSError as error:
        raise unreadable(file, error) from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleFormatError(f"{file} has more than {MAX_MANIFEST_BYTES} bytes; {REMEDY}")
    try:
        return Manifest.from_json(text)
    except BundleFormatError as error:
        raise BundleFormatError(f"{path}: {error}") from error


def _check_file(path: Path, expected: FileEntry, *, hashed: bool) -> None:
    _check_plain(path)
    size = path.stat().st_size
    if size != expected.size:
        raise BundleCorruptError(
            f"{path} has {size} bytes and the manifest says {expected.size}; {REMEDY}"
        )
    if size > (most := MAX_BYTES[path.name]):
        raise BundleFormatError(f"{path} has {size} bytes; at most {most} are allowed; {REMEDY}")
    if hashed and (found := describe_file(path).sha256) != expected.sha256:
        raise BundleCorruptError(
            f"{path} has sha256 {found} and the manifest says {expected.sha256}; {REMEDY}"
        )


def _check_plain(path: Path) -> None:
    """Raise BundleCorruptError unless `path` is a regular file or a link to one.

    Reading a device or a pipe may never end. The same holds for files in ``/proc``, which appear as
    empty regular files: links to empty files are refused too.
    """
    link = path.is_symlink()
    if path.is_file():
        what = "a link to an empty file" if link and not path.stat().st_size else None
    elif path.exists():
        what = "not a file"
    else:
        what = "a broken link" if link else "missing"
    if what:
        raise BundleCorruptError(f"{path} is {what}; {REMEDY}")
