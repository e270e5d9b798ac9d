"""Tests that an export that ends early leaves the old bundle or none, and no files for long."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from comparison import Pair
from embedrt import Bundle, Embedder
from embedrt.cli import main
from embedrt.errors import ExportError
from embedrt_export import export_model
from killed_exports import STAGED, Pause, stage_until_killed, start_export
from model_folders import make_small


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model other than that of the old bundle."""
    return make_small(tmp_path_factory.mktemp("model") / "bert", "bert", seed=7)


@pytest.fixture(params=[True, False], ids=["over-an-old-bundle", "anew"])
def target(request: pytest.FixtureRequest, exported: Callable[[str], Pair], tmp_path: Path) -> Path:
    """The output path, without and with an existing bundle."""
    target = tmp_path / "bundle"
    if request.param:
        shutil.copytree(exported("bert").bundle, target)
    return target


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle, or nothing if there is none."""
    return {file.name: file.read_bytes() for file in folder.glob("*") if file.is_file()}


def assert_whole_or_absent(target: Path) -> None:
    if target.exists():
        Bundle.open(target, verify="sha256")


@contextmanager
def paused_export(model: Path, target: Path, name: str) -> Iterator[BaseProcess]:
    """An export that waits as soon as it has written a file to its staging folder."""
    with tempfile.TemporaryDirectory() as folder:
        pause = Pause(name, Path(folder) / "paused")
        process = start_export(model, target, pause)
        pause.wait()
        yield process


@pytest.mark.parametrize(
    ("target", "moment"),
    [
        (True, ""),
        (True, "model.onnx"),
        (True, "probes.json"),
        (True, "manifest.json"),
        (False, "model.onnx"),
        pytest.param(False, "", marks=pytest.mark.slow),
        pytest.param(False, "probes.json", marks=pytest.mark.slow),
        pytest.param(False, "manifest.json", marks=pytest.mark.slow),
    ],
    indirect=["target"],
)
def test_killed_while_it_writes(model: Path, target: Path, moment: str) -> None:
    before = contents(target)
    with paused_export(model, target, moment) as process:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert contents(target) == before
    export_model(str(model), output=target)
    assert list(target.parent.iterdir()) == [target]
    assert contents(target) != before


@pytest.mark.parametrize(
    "target", [True, pytest.param(False, marks=pytest.mark.slow)], indirect=True
)
def test_killed_at_any_time(model: Path, target: Path) -> None:
    before = contents(target)
    start = time.monotonic()
    process = start_export(model, target.with_name("timed"))
    process.join()
    assert process.exitcode == 0
    whole = time.monotonic() - start
    for fifth in range(1, 6):
        process = start_export(model, target)
        time.sleep(whole * fifth / 5)
        process.kill()
        process.join()
        assert_whole_or_absent(target)
    Embedder.load(export_model(str(model), output=target), verify="sha256").close()
    assert contents(target) != before
    assert not list(target.parent.glob(STAGED))


def test_killed_at_every_change_of_a_file(exported: Callable[[str], Pair], tmp_path: Path) -> None:
    new = exported("distilbert").bundle
    old = contents(exported("roberta").bundle)
    target = tmp_path / "bundle"
    seen = set()
    for step in range(1, 100):
        target.mkdir(exist_ok=True)
        for name, content in old.items():
            (target / name).write_bytes(content)
        died = stage_until_killed(new, target, step) == -signal.SIGKILL
        assert_whole_or_absent(target)
        found = contents(target)
        seen.add("none" if not found else "old" if found == old else "new")
        assert died or list(tmp_path.iterdir()) == [target]
        if not died:
            break
    assert step > 12
    assert not died
    assert seen == {"old", "none", "new"}


def test_terminated(model: Path, target: Path) -> None:
    before = contents(target)
    with paused_export(model, target, "model.onnx") as process:
        process.terminate()
        process.join()
    assert process.exitcode == -signal.SIGTERM
    assert contents(target) == before
    export_model(str(model), output=target)
    assert list(target.parent.iterdir()) == [target]


def test_interrupted_from_the_keyboard(model: Path, tmp_path: Path) -> None:
    target, pause = tmp_path / "new" / "bundle", Pause("model.onnx", tmp_path / "paused")
    program = (
        "import sys\nfrom pathlib import Path\nfrom killed_exports import Pause, export\n"
        "model, output, name, marker = sys.argv[1:]\n"
        "export(Path(model), Path(output), Pause(name, Path(marker)))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    target.parent.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, (model, target, pause.name, pause.marker))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        encoding="utf-8",
    ) as process:
        pause.wait()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "embedrt: interrupted"
    assert "Traceback" not in err
    assert list(target.parent.iterdir()) == []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file of more than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_that_may_not_grow(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "bundle"
    capsys.readouterr()
    with largest_file(500_000):
        assert main(["export", str(model), "--output", str(target)]) == 1
    assert_one_error(capsys.readouterr().err, "File too large", target)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB, less than a small model takes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk(model: Path, tiny_disk: Path) -> None:
    target = tiny_disk / "bundle"
    with pytest.raises(ExportError, match="No space left on device") as caught:
        export_model(str(model), output=target)
    assert str(target) in str(caught.value)
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_folder_that_is_not_writable(model: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ExportError, match="Permission denied"):
        export_model(str(model), output=tmp_path / "bundle")


def test_parent_that_is_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(ExportError, match="file"):
        export_model(str(model), output=tmp_path / "file" / "bundle")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("what", ["folder", "file", "model"])
def test_output_that_is_no_bundle(model: Path, tmp_path: Path, what: str) -> None:
    output = model if what == "model" else tmp_path / "mine"
    if what == "folder":
        output.mkdir()
        (output / "thesis.txt").write_text("years of work", encoding="utf-8")
    elif what == "file":
        output.write_text("years of work", encoding="utf-8")
    before = contents(output)
    with pytest.raises(ExportError, match="is not a bundle"):
        export_model(str(model), output=output)
    assert contents(output) == before
    assert output.exists()


def test_staging_folder_of_a_running_export_stays(model: Path, tmp_path: Path) -> None:
    """Concurrent exports to one path do not delete each other's staging folders."""
    target = tmp_path / "bundle"
    with paused_export(model, target, "model.onnx") as process:
        (living,) = target.parent.glob(STAGED)
        export_model(str(model), output=target)
        assert (living / "model.onnx").exists()
    process.join()
    assert process.exitcode == 0
    Bundle.open(target, verify="sha256")
    assert list(tmp_path.iterdir()) == [target]


def test_deterministic(model: Path, tmp_path: Path) -> None:
    first, second = (contents(export_model(str(model), output=tmp_path / n)) for n in "ab")
    assert first.keys() == second.keys()
    for name in ("model.onnx", "tokenizer.json", "probes.json", "manifest.json"):
        assert first[name] == second[name]


def assert_one_error(err: str, reason: str, target: Path) -> None:
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("embedrt: ")]
    assert err.splitlines()[-1] == line
    assert reason in line
    assert str(target) in line
