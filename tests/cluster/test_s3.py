"""Tests of object stores, which cannot rename, against a server with the S3 protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from corpora import digest_of_source
from embedrt.cli import main
from embedrt.corpus import embed, verify_output
from embedrt.corpus.output import write_file
from embedrt.corpus.places import find_place

BUCKET = "corpus"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with an empty bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str) -> Iterator[Any]:
    """A file system with an empty bucket."""
    filesystem = fs.S3FileSystem(
        endpoint_override=server, scheme="http", region="us-east-1", allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )  # fmt: skip
    filesystem.create_dir(BUCKET)
    yield filesystem
    filesystem.delete_dir(BUCKET)


def uri(server: str, path: str) -> str:
    return f"s3://{BUCKET}/{path}?endpoint_override={server}&scheme=http&region=us-east-1"


def names(filesystem: Any, path: str) -> list[str]:
    infos = filesystem.get_file_info(fs.FileSelector(f"{BUCKET}/{path}"))
    return sorted(info.base_name for info in infos)


def test_from_bucket_to_bucket(
    bucket: Any, server: str, source: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fs.copy_files(str(source), f"{BUCKET}/source", destination_filesystem=bucket)
    command = ["embed", uri(server, "source"), uri(server, "output"), "--bundle", str(tiny),
               "--rows-per-part", "60"]  # fmt: skip
    assert main(command) == 0
    digest = digest_of_source(source, tiny)
    assert digest in capsys.readouterr().out
    found = names(bucket, "output")
    assert len(found) == 15 + 3
    assert not [name for name in found if name.startswith(".")]
    for name in found[:4]:
        bucket.delete_file(f"{BUCKET}/output/{name}")
    assert main([*command, "--merge", "1"]) == 0
    assert "750 of 750 rows" in (out := capsys.readouterr().out)
    assert digest in out
    assert len(names(bucket, "output")) == 1 + 3
    assert main(["corpus", "verify", uri(server, "output"), "--source", uri(server, "source")]) == 0


def test_nothing_is_renamed(bucket: Any, server: str) -> None:
    """An object is written under its final name and appears complete."""
    place = find_place(uri(server, "output"))
    assert place.is_object_store
    write_file(place, "a", b"x" * 20_000_000)  # several pieces of a multipart upload
    assert names(bucket, "output") == ["a"]
    assert bucket.get_file_info(f"{BUCKET}/output/a").size == 20_000_000


def test_killed_while_it_writes(bucket: Any, server: str, source: Path, tiny: Path) -> None:
    fs.copy_files(str(source), f"{BUCKET}/source", destination_filesystem=bucket)
    command = [
        sys.executable, "-m", "embedrt", "embed", uri(server, "source"), uri(server, "output"),
        "--bundle", str(tiny), "--rows-per-part", "10",
    ]  # fmt: skip
    for kept in (3, 20):
        with subprocess.Popen(command, env=os.environ) as process:
            while sum(name[0].isdigit() for name in names_or_none(bucket)) < kept:
                assert process.poll() is None
            process.kill()
    place = find_place(uri(server, "output"))
    report = embed(uri(server, "source"), uri(server, "output"), bundle=tiny, rows_per_part=10)
    assert report.parts_run <= report.parts - 20
    assert report.digest == digest_of_source(source, tiny)
    assert verify_output(uri(server, "output")).digest == report.digest
    assert place.is_object_store


def names_or_none(filesystem: Any) -> list[str]:
    infos = filesystem.get_file_info(fs.FileSelector(f"{BUCKET}/output", allow_not_found=True))
    return [info.base_name for info in infos]
