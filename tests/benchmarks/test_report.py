"""Tests of the report, from rows with known figures."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("matplotlib")

from benchmark_rows import CORPUS, MACHINE, row, run_rows
from benchmarks import OURS
from benchmarks.checkout import ROOT
from benchmarks.harness.rows import Row, append_rows
from benchmarks.report import readme_figures
from benchmarks.report.__main__ import main
from benchmarks.report.chart_style import COLORS, INK, looks
from benchmarks.report.charts import right_end
from benchmarks.report.document import agreement, pairs, report
from benchmarks.report.results import Results
from benchmarks.report.targets import load_targets
from benchmarks.statistics import significant

KERNELS = "embedrt int8 with kernels"
CHARTS = ("latency", "memory", "quality", "startup")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    append_rows(path, run_rows())
    return path


def section(text: str, heading: str) -> list[str]:
    """Return the lines below a heading, up to the next heading of any level."""
    return re.split(r"\n#+ ", text.split(f"# {heading}\n", 1)[1])[0].strip().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def made(*extra: Row, second: list[Row] | None = None) -> str:
    other = Results.of(second) if second is not None else None
    return report(Results.of([*run_rows(), *extra]), other, load_targets(), CHARTS)


class TestReport:
    def test_corpus(self) -> None:
        lines = section(made(), "Many texts of mixed lengths")
        assert cells(lines[0]) == ["", "texts/s", "tokens/s", "seconds", "middle half"]
        assert cells(lines[2])[:4] == ["torch.compile bf16", "200", "2,000", "0.500"]
        assert cells(lines[3])[:4] == ["**embedrt int8**", "100", "1,000", "1.00"]
        assert cells(lines[-1])[1] == "openvino int8 (nncf)"
        speeds = [float(cells(line)[1]) for line in lines[2:-1] if "failed" not in line]
        assert speeds == sorted(speeds, reverse=True)

    def test_headline(self) -> None:
        text = made().split("## Targets")[0]
        assert (
            "**embedrt int8** embeds 100 texts of mixed lengths at 100 texts a second: 8.00 times "
            "as fast as sentence-transformers fp32, 1.50 times as fast as the fastest peer, "
            "openvino int8 (nncf)."
        ) in text
        assert "A Processor, 2 cores (avx2), 8 GiB, an-os. Commit abc1234." in text
        assert "Failed, wholly or in part: fastembed." in text

    def test_both_engines_are_in_the_headline(self) -> None:
        text = made(row(KERNELS, "corpus", 0.5)).split("## Targets")[0]
        assert (
            f"**{KERNELS}** embeds 100 texts of mixed lengths at 200 texts a second: 16.00 times "
            "as fast as sentence-transformers fp32, 3.00 times as fast as the fastest peer"
        ) in text
        header, _, *lines = [cells(line) for line in text.splitlines() if line.startswith("|")]
        found = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
        column = "speedup of int8 with kernels"
        assert column in header
        assert column not in made()
        assert found[f"**{KERNELS}**"][column] == "-"
        assert found["**embedrt int8**"][column] == "2.00"
        assert found[f"**{KERNELS}**"]["speedup of int8"] == "0.50"

    def test_percentiles(self) -> None:
        values = [milli / 1e3 for milli in range(1, 102)]
        line, _ = [  # without and with pauses
            line
            for line in section(made(row("openvino f32", "latency/8", *values)), "One text")
            if line.startswith("| openvino f32 ")
        ]
        assert cells(line)[1] == "51.0 / 96.0 / 100"

    def test_one_text_with_and_without_pauses(self) -> None:
        lines = section(made(), "One text")
        headers = [cells(line) for line in lines if line.startswith("|  |")]
        assert headers == [
            ["", "8 tokens", "16 tokens", "64 tokens", "256 tokens"],
            ["", "16 tokens"],
        ]

    def test_targets_are_marked(self) -> None:
        lines = section(made(), "Targets")
        assert cells(lines[2]) == [
            "int8 throughput / sentence-transformers torch fp32",
            "≥ 6.00",
            "8.00",
            "met",
            "sentence-transformers fp32",
        ]
        (missed,) = [line for line in lines if "process start" in line]
        assert cells(missed)[1:4] == ["≤ 1/30", "1/8.0", "✗ **missed**"]
        (unknown,) = [line for line in lines if "DistilBERT" in line]
        assert cells(unknown)[2:4] == ["not measured", ""]

    def test_failures_have_their_reason_in_one_cell(self) -> None:
        lines = section(made(), "What failed")
        assert lines[2:] == [
            "| fastembed | all-MiniLM-L6-v2 | corpus | hung: no \\| answer in 60 s |"
        ]

    def test_a_later_failure_replaces_a_figure(self) -> None:
        failure = row("openvino f32", "corpus", measure="", unit="", error="answered wrongly")
        text = made(failure)
        assert "answered wrongly" in text
        assert not any(
            "openvino f32" in line for line in section(text, "Many texts of mixed lengths")
        )
        assert "failed" in next(
            line for line in text.splitlines() if line.startswith("| openvino f32 ")
        )

    def test_a_later_figure_replaces_a_failure(self) -> None:
        text = made(row("fastembed", "corpus", 1.0))
        assert section(text, "What failed") == ["Nothing."]

    def test_other_models_show_what_they_have(self) -> None:
        text = made()
        assert "## all-mpnet-base-v2\n" in text
        below = text.split("## all-mpnet-base-v2\n")[1]
        assert "33.3" in below
        assert "### Memory" not in below

    def test_several_machines_or_commits_are_reported(self) -> None:
        other = replace(MACHINE, processor="Another")
        text = made(row("new", "corpus", 1.0, machine=other, commit="def5678"))
        assert "Rows of several machines and commits: their ratios are not of one run." in text

    def test_missing_measurements_are_reported(self) -> None:
        text = report(Results.of([row("embedrt int8", "corpus", 1.0)]), None, load_targets())
        assert section(text, "Memory") == ["Not measured."]
        assert "charts/" not in text


class TestRuns:
    def test_one_run(self) -> None:
        assert "whether a second agrees is not known" in made()

    def test_runs_that_agree(self) -> None:
        slower = [replace(one, values=tuple(2 * v for v in one.values)) for one in run_rows()]
        (line,) = section(made(second=slower), "Whether a second run agrees")
        assert line.startswith("Two runs agree: all ")
        assert "the farthest 0.0% apart" in line

    def test_runs_that_do_not(self) -> None:
        lines = section(made(second=[*run_rows(), row("openvino f32", "batch/8", 0.6)]),
                        "Whether a second run agrees")  # fmt: skip
        assert "**Two runs do not agree**" in lines[0]
        assert ", 1 are more than 10% apart" in lines[0]
        assert cells(lines[-1]) == [
            "openvino f32", "all-MiniLM-L6-v2", "batch/8", "0.625", "0.750", "20%",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("seconds", "agree"), [(0.46, True), (0.54, True), (0.45, False), (0.56, False)]
    )
    def test_runs_agree_within_a_tenth_either_way(self, seconds: float, agree: bool) -> None:
        reference = row("sentence-transformers fp32", "batch/8", 1.0)
        first, second = (
            Results.of([reference, row("openvino f32", "batch/8", time)]) for time in (0.5, seconds)
        )
        assert agreement(first, second)[0].startswith("Two runs agree") == agree

    def test_ratios_are_to_the_baseline_of_the_same_run(self) -> None:
        found = pairs(Results.of(run_rows()), Results.of(run_rows()))
        (pair,) = [
            one for one in found if (one.contender, one.workload) == ("openvino f32", "startup")
        ]
        assert pair.first == pair.second == 5 / 8
        assert not any(one.contender == "sentence-transformers fp32" for one in found)

    def test_nothing_in_common(self) -> None:
        first, second = Results.of(run_rows()), Results.of([row("x", "corpus", 1.0)])
        assert "nothing can be said" in agreement(first, second)[0]


class TestCharts:
    @pytest.mark.slow
    def test_the_same_rows_give_the_same_bytes(self, rows: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            command = [sys.executable, "-m", "benchmarks.report", rows, "--output", tmp_path / name]
            subprocess.run(list(map(str, command)), check=True, cwd=ROOT, capture_output=True)
        for file in ("report.md", *(f"charts/{name}.svg" for name in CHARTS)):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    def test_pictures_are_there_and_transparent(self, rows: Path, tmp_path: Path) -> None:
        main([str(rows), "--output", str(tmp_path)])
        text = (tmp_path / "report.md").read_text(encoding="utf-8")
        for name in CHARTS:
            assert f"](charts/{name}.svg)" in text
            svg = (tmp_path / "charts" / f"{name}.svg").read_text(encoding="utf-8")
            ET.fromstring(svg)
            assert not re.search(r"fill: (#ffffff|#fff\b|white|#000000|black)", svg)
            assert all(color in svg for color in (COLORS["embedrt int8"], COLORS["embedrt fp32"]))

    def test_a_chart_with_nothing_to_show_is_none(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        append_rows(path, [row("embedrt int8", "latency/8", 1.0)])
        (tmp_path / "charts").mkdir()
        (tmp_path / "charts" / "memory.svg").write_text("of an earlier run", encoding="utf-8")
        main([str(path), "--output", str(tmp_path)])
        assert [file.name for file in (tmp_path / "charts").iterdir()] == ["latency.svg"]

    def test_colors_are_seen_on_white_and_on_near_black(self) -> None:
        for color in {*COLORS.values(), INK}:
            for background in ("#ffffff", "#0d1117"):
                assert contrast(color, background) >= 3, (color, background)

    def test_no_two_contenders_look_alike(self) -> None:
        names = [KERNELS, *CORPUS]
        found = looks(names).values()
        assert len({(look["color"], look["linestyle"], look["marker"]) for look in found}) == len(
            names
        )

    def test_our_lines_differ_in_color(self) -> None:
        assert len({look["color"] for look in looks(OURS).values()}) == len(OURS)

    @pytest.mark.parametrize(
        ("totals", "end"), [([1, 2, 5], 5), ([1, 2, 7], 2), ([0.3, 5, 80], 5), ([3], 3)]
    )
    def test_one_bar_that_would_hide_the_others_is_cut(
        self, totals: list[float], end: float
    ) -> None:
        assert right_end(totals) == end


class TestReadme:
    def test_only_the_figures_change(self) -> None:
        readme = f"before\n{readme_figures.BEGIN}\nold\n{readme_figures.END}\nafter\n"
        text = readme_figures.with_figures(readme, Results.of(run_rows()))
        assert text.startswith(f"before\n{readme_figures.BEGIN}\n\n**embedrt int8**")
        assert text.endswith(f"{readme_figures.END}\nafter\n")
        assert "old" not in text
        assert readme_figures.with_figures(text, Results.of(run_rows())) == text

    def test_check(self, rows: Path, tmp_path: Path) -> None:
        readme = tmp_path / "README.md"
        readme.write_text(f"{readme_figures.BEGIN}\n{readme_figures.END}\n", encoding="utf-8")
        arguments = [str(rows), "--readme", str(readme)]
        with pytest.raises(SystemExit, match="its figures are not those of"):
            readme_figures.main([*arguments, "--check"])
        readme_figures.main(arguments)
        readme_figures.main([*arguments, "--check"])
        append_rows(rows, [row("embedrt int8", "corpus", 0.1)])
        with pytest.raises(SystemExit, match="its figures are not those of"):
            readme_figures.main([*arguments, "--check"])

    @pytest.mark.parametrize(
        "readme",
        [
            "no place",
            readme_figures.BEGIN,
            readme_figures.END + readme_figures.BEGIN,
            2 * (readme_figures.BEGIN + readme_figures.END),
        ],
    )
    def test_no_place_for_figures(self, readme: str) -> None:
        with pytest.raises(ValueError, match="expected one place for figures"):
            readme_figures.with_figures(readme, Results.of(run_rows()))


def test_second_run_after_an_option(rows: Path, tmp_path: Path) -> None:
    main([str(rows), "--output", str(tmp_path), str(rows)])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "whether a second agrees is not known" not in text


def test_no_rows_end_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no rows"):
        main([str(tmp_path / "nowhere.jsonl"), "--output", str(tmp_path)])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1234.5, "1,230"),
        (123.45, "123"),
        (9.996, "10.0"),
        (0.012345, "0.0123"),
        (0, "0"),
        (-2.5, "-2.50"),
        (1e-9, "0.00000000100"),
    ],
)
def test_significant_digits(value: float, written: str) -> None:
    assert significant(value) == written


def contrast(first: str, second: str) -> float:
    """Return WCAG's contrast ratio of two colors."""
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
