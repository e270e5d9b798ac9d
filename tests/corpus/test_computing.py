"""Tests that an output has one engine, which is recorded and kept; see tests/kernels as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from corpora import digest_of_source, files_of, names
from embedrt.cli import main
from embedrt.corpus import embed, verify_output
from embedrt.corpus.output import FACTS
from embedrt.errors import CorpusError, CorpusOutputError, KernelsError

VARIABLE = "EMBEDRT_KERNELS"


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def change_json(file: Path, **changes: Any) -> None:
    """Change fields; None removes one."""
    fields = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    kept = {name: value for name, value in fields.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def change_facts(file: Path, **changes: Any) -> None:
    """Change the facts in a file of vectors, and leave its rows in their groups."""
    with pq.ParquetFile(file) as parquet:
        groups = [parquet.read_row_group(number) for number in range(parquet.num_row_groups)]
    facts = {**json.loads(groups[0].schema.metadata[FACTS]), **changes}
    kept = {name: value for name, value in facts.items() if value is not None}
    schema = groups[0].schema.with_metadata({FACTS: json.dumps(kept)})
    with pq.ParquetWriter(file, schema) as writer:
        for table in groups:
            writer.write_table(table.replace_schema_metadata(schema.metadata), len(table))


def forget_the_engine(output: Path) -> None:
    """Make the output one of a version that did not record the engine."""
    change_json(output / "_embedrt.json", engine=None)
    change_json(output / "_SUCCESS", engines=None)
    for file in files_of(output):
        change_facts(file, engine=None, engines=None)


def contents(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in names(output)}


def test_it_is_recorded(output: Path, source: Path, tiny: Path) -> None:
    settings = json.loads((output / "_embedrt.json").read_text(encoding="utf-8"))
    success = json.loads((output / "_SUCCESS").read_text(encoding="utf-8"))
    assert settings["engine"] == "ONNX Runtime"
    assert success["engines"] == ["ONNX Runtime"]
    for file in files_of(output):
        facts = json.loads(pq.read_schema(file).metadata[FACTS])
        assert facts.get("engine", facts.get("engines")) in ("ONNX Runtime", ["ONNX Runtime"])
    assert embed(source, output, bundle=tiny, rows_per_part=60).engines == ("ONNX Runtime",)


def test_an_output_of_a_version_that_did_not_record_it(
    output: Path, source: Path, tiny: Path
) -> None:
    forget_the_engine(output)
    assert verify_output(output, sample=750).again.tolerant == 0
    assert embed(source, output, bundle=tiny, rows_per_part=60).engines == ("ONNX Runtime",)
    files_of(output)[1].unlink()
    (output / "_SUCCESS").unlink()
    report = embed(source, output, bundle=tiny, rows_per_part=60)
    assert report.parts_run > 0
    assert report.digest == digest_of_source(source, tiny)
    assert report.engines == ("ONNX Runtime",)
    again = verify_output(output, source=source, sample=750).again
    assert (again.rows, again.tolerant) == (750, 0)


@pytest.mark.parametrize("recorded", [None, "ONNX Runtime", "kernels"])
def test_another_one_is_refused(
    output: Path,
    source: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: str | None,
) -> None:
    change_json(output / "_embedrt.json", engine=recorded)
    use, wanted = ("off", "ONNX Runtime") if recorded == "kernels" else ("require", "kernels")
    monkeypatch.setenv(VARIABLE, use)
    before = contents(output)
    with pytest.raises(CorpusOutputError) as caught:
        embed(source, output, bundle=tiny, rows_per_part=60)
    recorded = recorded or "ONNX Runtime"
    assert str(caught.value) == (
        f"{output} was computed by {recorded}, and EMBEDRT_KERNELS={use} selects {wanted}, whose "
        f"vectors differ by rounding: unset EMBEDRT_KERNELS to continue with {recorded}, or choose "
        "a new folder"
    )
    assert contents(output) == before


def test_one_that_does_not_run_here(output: Path, source: Path, tiny: Path) -> None:
    """The kernels run no bundle in fp32."""
    change_json(output / "_embedrt.json", engine="kernels")
    files_of(output)[1].unlink()
    before = names(output)
    with pytest.raises(CorpusError, match=r"by kernels, which .+ cannot run .*KERNELS=off$"):
        embed(source, output, bundle=tiny, rows_per_part=60)
    assert set(before) - set(names(output)) == {"_SUCCESS"}


def test_kernels_that_are_required_and_not_there(
    source: Path, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "require")
    with pytest.raises(KernelsError, match="static, not fp32"):
        embed(source, tmp_path / "new", bundle=tiny)
    assert not (tmp_path / "new").exists()


def test_rows_of_another_one_are_compared_to_a_tolerance(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in files_of(output):
        kernels = "kernels avx512-vnni"
        facts = json.loads(pq.read_schema(file).metadata[FACTS])
        change_facts(
            file, **({"engines": [kernels]} if "engines" in facts else {"engine": kernels})
        )
    again = verify_output(output, sample=40).again
    assert (again.rows, again.tolerant) == (40, 40)
    assert again.here.startswith("ONNX Runtime on ")
    assert again.others == (again.here.replace("ONNX Runtime", "kernels avx512-vnni"),)
    assert main(["corpus", "verify", str(output), "--sample", "5"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "recomputed: 5 rows, equal within 1e-05, because they were computed by "
        f"{again.others[0]} and now by {again.here}"
    )


def test_a_row_beyond_the_tolerance(source: Path, tmp_path: Path, tiny: Path) -> None:
    """Vectors of other texts have correct digests, and another engine is no excuse for them."""
    output = tmp_path / "output"
    embed(source, output, bundle=tiny, prompt="w5 ")
    change_json(output / "_embedrt.json", prompt="")
    for file in files_of(output):
        change_facts(file, engine="kernels avx512-vnni")
    with pytest.raises(CorpusOutputError, match=r"differs by more than 1e-05: by kernels avx512"):
        verify_output(output)
