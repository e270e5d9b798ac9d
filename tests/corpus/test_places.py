"""Tests of which places are object stores, and which contain each other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow import fs

from embedrt.corpus.places import Place, find_place


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("s3", True), ("gcs", True), ("abfs", True), ("local", False), ("hdfs", False),
        ("py::fsspec+('s3', 's3a')", True), ("py::fsspec+('gs', 'gcs')", True),
        ("py::fsspec+('abfs', 'az', 'abfss')", True), ("py::fsspec+('file', 'local')", False),
        ("py::fsspec+memory", False), ("subtree", False),
    ],
)  # fmt: skip
def test_object_stores(kind: str, expected: bool) -> None:
    place = Place(filesystem=SimpleNamespace(type_name=kind), path="a", given="a")
    assert place.is_object_store == expected


def test_names_match_fsspec() -> None:
    import fsspec

    local = find_place("/x", fsspec.filesystem("file"))
    assert local.filesystem.type_name == "py::fsspec+('file', 'local')"


def test_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to("source")
    assert find_place(tmp_path / "source").contains(find_place(tmp_path / "link" / "output"))


def test_every_way_to_name_a_folder_of_this_machine(tmp_path: Path) -> None:
    import fsspec

    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    local = fsspec.filesystem("file")
    folder = find_place(tmp_path / "folder")
    for other in (
        find_place((tmp_path / "link").as_uri()),
        find_place(tmp_path / "link", local),
        find_place(str(tmp_path / "link" / "inside"), fs.LocalFileSystem()),
    ):
        assert folder.contains(other)
        assert other.contains(folder) == (not other.path.endswith("inside"))


def test_a_name_with_the_same_prefix_is_another_folder(tmp_path: Path) -> None:
    assert not find_place(tmp_path / "a").contains(find_place(tmp_path / "ab"))
    other = fs.SubTreeFileSystem("/", fs.LocalFileSystem())
    assert not find_place(tmp_path).contains(find_place(str(tmp_path / "a"), other))
