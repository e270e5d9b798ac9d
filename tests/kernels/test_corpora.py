"""Tests that a corpus keeps the engine of its first run: the kernels, or ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpora import digest_of_source, write_parquet
from embedrt.bundle.reader import Bundle
from embedrt.cli import main
from embedrt.corpus import Report, embed, verify_output
from embedrt.corpus.on_ray_worker import make_parts
from embedrt.corpus.output import PartFacts
from embedrt.corpus.part import runs
from embedrt.corpus.places import find_place
from embedrt.corpus.prepare import prepare
from embedrt.errors import CorpusError, CorpusOutputError
from embedrt.kernels.choose import PATH_VARIABLE
from embedrt.kernels.library import Library

VARIABLE = "EMBEDRT_KERNELS"
ENGINES = {"kernels": "require", "ONNX Runtime": "off"}
OTHER = {"kernels": "off", "ONNX Runtime": "require"}


@pytest.fixture(autouse=True)
def _a_path(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip these tests on a processor that the kernels have no path for."""
    if library.path() is None:
        pytest.skip("there are no kernels for this processor")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(PATH_VARIABLE, raising=False)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "source", files=2, rows=40)


@pytest.fixture
def digest(source: Path, minilm_int8: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of the vectors that one call of `encode` gives in the engine."""
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, ENGINES[engine])
        return digest_of_source(source, minilm_int8)


@pytest.fixture
def output(source: Path, minilm_int8: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output that was begun in the engine, and lacks a part."""
    folder = source.parent / "output"
    with monkeypatch.context() as patch:
        if engine != "kernels":  # which run where nothing is said
            patch.setenv(VARIABLE, "off")
        assert embed(source, folder, bundle=minilm_int8).complete
    next(folder.glob("0*")).unlink()
    return folder


def go_on(source: Path, output: Path, bundle: Path) -> Report:
    report = embed(source, output, bundle=bundle)
    assert report.parts_run == 1
    return report


def test_a_run_goes_on_in_the_engine_that_began(
    source: Path, output: Path, minilm_int8: Path, engine: str, digest: str
) -> None:
    settings = json.loads((output / "_embedrt.json").read_text(encoding="utf-8"))
    assert settings["engine"] == engine
    assert "embedrt-kernels" in settings["versions"]
    report = go_on(source, output, minilm_int8)
    assert report.digest == digest
    (name,) = report.engines
    assert name.startswith(engine)
    again = verify_output(output, sample=80).again
    assert (again.rows, again.tolerant) == (80, 0)
    assert again.here.startswith(f"{name} on ")


def test_another_engine_is_refused(
    source: Path, output: Path, minilm_int8: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, OTHER[engine])
    with pytest.raises(CorpusOutputError, match=f"was computed by {engine}, and {VARIABLE}="):
        embed(source, output, bundle=minilm_int8)
    assert len(list(output.glob("0*"))) == 1


def test_a_machine_without_a_path(
    source: Path, minilm_int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernels began is not completed there, and is verified to the tolerance."""
    output = source.parent / "output"
    embed(source, output, bundle=minilm_int8)
    monkeypatch.setattr(Library, "path", lambda _: None)
    again = verify_output(output, sample=9).again
    assert (again.rows, again.tolerant) == (9, 9)
    assert again.here.startswith("ONNX Runtime")
    next(output.glob("0*")).unlink()
    with pytest.raises(CorpusError, match=r"there are no kernels for this processor.*=off$"):
        embed(source, output, bundle=minilm_int8)


def test_verified_in_the_other_engine(
    source: Path,
    output: Path,
    minilm_int8: Path,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_on(source, output, minilm_int8)
    monkeypatch.setenv(VARIABLE, OTHER[engine])
    again = verify_output(output, source=source, sample=80).again
    assert (again.rows, again.tolerant) == (80, 80)
    assert again.others[0].startswith(engine)
    assert not again.here.startswith(engine)
    assert main(["corpus", "verify", str(output), "--sample", "3"]) == 0
    assert f"3 rows, equal within {again.tolerance:g}, because they" in capsys.readouterr().out


def test_two_paths(
    source: Path,
    minilm_int8: Path,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The path follows from the processor, of which an output may have several kinds."""
    if (fastest := library.path()) == "avx512-vnni":
        pytest.skip("this processor runs one path")
    output = source.parent / "output"
    embed(source, output, bundle=minilm_int8)
    next(output.glob("0*")).unlink()
    with monkeypatch.context() as patch:
        patch.setenv(PATH_VARIABLE, "avx512-vnni")
        assert main(["embed", str(source), str(output), "--bundle", str(minilm_int8)]) == 0
    assert f"on kernels {fastest}, kernels avx512-vnni: vectors" in capsys.readouterr().err
    again = verify_output(output, sample=80).again
    assert (again.rows, again.tolerant) == (80, 40)


def test_workers_of_ray_run_the_engine_that_began(
    source: Path, output: Path, minilm_int8: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their own environment says."""
    job = prepare(
        find_place(source),
        find_place(output),
        Bundle.open(minilm_int8),
        text="text",
        columns=None,
        rows_per_part=4000,
        skip_unreadable=False,
    )
    monkeypatch.setenv(VARIABLE, OTHER[engine])
    missing = [part for part in job.plan.parts() if part not in job.present]
    (run,) = runs(job.plan, iter(missing), None)
    ((facts, _),) = make_parts(job.work, [None], 1, run)
    assert isinstance(facts, PartFacts)
    assert facts.engine.startswith(engine)
