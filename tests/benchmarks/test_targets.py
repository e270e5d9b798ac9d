"""Tests of the comparison of targets with measured figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark_rows import CORPUS, row, run_rows
from benchmarks.harness.rows import Row
from benchmarks.report.results import Results
from benchmarks.report.targets import PATH, Finding, Target, Targets, load_targets

SPEED = Target(
    "speed",
    "embedrt int8",
    "corpus",
    "speed",
    against=("openvino f32", "openvino bf16"),
    at_least=2,
)


def find(target: Target, *rows: Row, yardsticks: tuple[str, ...] = ()) -> Finding:
    (finding,) = Targets((target,), yardsticks).findings(Results.of(rows))
    return finding


class TestTargets:
    def test_speed_is_compared_with_the_fastest_peer(self) -> None:
        rows = row("embedrt int8", "corpus", 9, 1, 1.5), row("openvino f32", "corpus", 6)
        finding = find(SPEED, *rows, row("openvino bf16", "corpus", 3))
        assert (finding.value, finding.peer, finding.met) == (2.0, "openvino bf16", True)
        assert finding.missing == ()

    def test_a_figure_below_the_limit_is_missed(self) -> None:
        rows = row("embedrt int8", "corpus", 1.0), row("openvino bf16", "corpus", 1.999)
        finding = find(SPEED, *rows)
        assert finding.met is False
        assert finding.missing == ("openvino f32",)

    def test_lower_times_are_better(self) -> None:
        target = Target("t", "embedrt int8", "corpus", "time", against=("openvino f32",), at_most=1)
        peer = row("openvino f32", "corpus", 2.0)
        assert find(target, row("embedrt int8", "corpus", 1.0), peer).value == 0.5
        assert find(target, row("embedrt int8", "corpus", 2.0), peer).met is True
        assert find(target, row("embedrt int8", "corpus", 2.1), peer).met is False

    def test_value_and_difference(self) -> None:
        size = Target("v", "embedrt int8", "corpus", "value", per=1e6, at_most=25)
        assert find(size, row("embedrt int8", "corpus", 25.1e6)).met is False
        assert find(size, row("embedrt int8", "corpus", 24e6)).value == 24
        loss = Target(
            "d", "embedrt int8", "corpus", "difference", against=("embedrt fp32",), at_least=-0.1
        )
        reference = row("embedrt fp32", "corpus", 82.0)
        assert find(loss, row("embedrt int8", "corpus", 81.95), reference).met is True
        assert find(loss, row("embedrt int8", "corpus", 81.85), reference).met is False

    def test_peers_are_neither_ours_nor_yardsticks(self) -> None:
        target = Target("p", "embedrt int8", "corpus", "time", against="peers", at_most=1)
        rows = [row(name, "corpus", seconds) for name, seconds in CORPUS.items()]
        finding = find(target, *rows, yardsticks=("torch.compile bf16",))
        assert (finding.value, finding.peer) == (1 / 1.5, "openvino int8 (nncf)")
        assert find(target, *rows).peer == "torch.compile bf16"

    @pytest.mark.parametrize("missing", ["embedrt int8", "openvino"])
    def test_an_unmeasured_target_is_neither_met_nor_missed(self, missing: str) -> None:
        rows = [row(name, "corpus", 1.0) for name in CORPUS if not name.startswith(missing)]
        finding = find(SPEED, *rows)
        assert (finding.value, finding.met) == (None, None)
        assert SPEED.figure(finding.value) == "not measured"

    def test_figures_of_other_models_are_ignored(self) -> None:
        rows = row("embedrt int8", "corpus", 1.0, model="other"), row("openvino f32", "corpus", 9.0)
        assert find(SPEED, *rows).value is None

    def test_fractions_are_written_as_fractions(self) -> None:
        target = Target("f", "a", "w", "time", against=("b",), at_most=0.142857, shown="1/7")
        assert (target.limit, target.figure(0.1)) == ("≤ 1/7", "1/10.0")


class TestFile:
    def test_every_line_of_the_issue_is_there(self) -> None:
        targets = load_targets()
        limits = [(target.at_least, target.at_most) for target in targets.targets]
        assert [limit for limit, _ in limits[:6]] == [6.0, 2.4, 1.4, 1.7, 1.9, 1.1]
        assert limits[21:27] == [
            (1.4, None),
            (1.8, None),
            *[(None, 1)] * 2,
            (-0.05, None),
            (1, None),
        ]
        assert len(limits) == 39
        assert targets.yardsticks == ("torch.compile bf16",)

    def test_the_numbers_of_made_rows(self) -> None:
        findings = load_targets().findings(Results.of(run_rows()))
        found = {finding.target.what: finding for finding in findings}
        assert found["int8 throughput / sentence-transformers torch fp32"].value == 8.0
        assert found["int8 throughput / the fastest of OpenVINO"].peer == "openvino int8 (nncf)"
        assert found["process start to first vector, int8 / sentence-transformers"].value == 1 / 8
        assert found["int8 throughput, MPNet-base / sentence-transformers torch fp32"].met is None

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("at_least = 6.0", "", "expected one of at_least and at_most"),
            ("at_least = 6.0", "at_least = 6.0\nat_most = 7.0", "expected one of"),
            ('against = "peers"', 'against = "everyone"', "against='everyone'"),
            ("per = 1e6", 'per = 1e6\nagainst = ["openvino f32"]', "a value stands alone"),
            ("at_least = 6.0", "at_lest = 6.0", "at_lest"),
        ],
    )
    def test_an_error_is_reported(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        path = tmp_path / "targets.toml"
        path.write_text(PATH.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
        with pytest.raises((ValueError, TypeError), match=message):
            load_targets(path)
