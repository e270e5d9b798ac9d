"""Tests of the number of cores that the affinity mask and the cgroup quota allow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedrt.engine import cpu
from embedrt.engine.cpu import available_threads, cgroup_cpu_quota

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no affinity mask here"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "self"


def limit_v2(folder: Path, content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(content, encoding="utf-8")


def limit_v1(folder: Path, quota: str, period: str = "100000\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(quota, encoding="utf-8")
    (folder / "cpu.cfs_period_us").write_text(period, encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("400000 200000\n", 2.0),
        ("max 100000\n", None),
        ("max\n", None),
        ("", None),
        ("many 100000\n", None),
        ("100000 0\n", None),
        ("1 2 3\n", None),
        ("\xff\xfe", None),
    ],
)
def test_v2(root: Path, membership: Path, content: str, cores: float | None) -> None:
    limit_v2(root, content)
    membership.write_text("0::/\n", encoding="utf-8")
    assert cgroup_cpu_quota(root, membership) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("150000\n", "100000\n", 1.5),
        ("-1\n", "100000\n", None),
        ("0\n", "100000\n", None),
        ("150000\n", "0\n", None),
        ("", "100000\n", None),
        ("150000\n", "", None),
    ],
)
@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_v1(
    root: Path, membership: Path, controllers: str, quota: str, period: str, cores: float | None
) -> None:
    limit_v1(root / controllers, quota, period)
    membership.write_text(f"3:cpuset:/\n1:{controllers}:/\n", encoding="utf-8")
    assert cgroup_cpu_quota(root, membership) == cores


def test_the_smallest_quota_of_all_ancestors_applies(root: Path, membership: Path) -> None:
    limit_v2(root / "slice", "200000 100000\n")
    limit_v2(root / "slice" / "service", "300000 100000\n")
    limit_v2(root / "slice" / "other", "100000 100000\n")
    membership.write_text("0::/slice/service\n", encoding="utf-8")
    assert cgroup_cpu_quota(root, membership) == 2.0
    limit_v2(root / "slice" / "service", "150000 100000\n")
    assert cgroup_cpu_quota(root, membership) == 1.5


def test_a_nested_group_of_v1(root: Path, membership: Path) -> None:
    limit_v1(root / "cpu,cpuacct" / "docker" / "a:b", "70000\n")
    limit_v1(root / "memory" / "docker" / "a:b", "10000\n")
    membership.write_text("5:memory:/docker/a:b\n4:cpu,cpuacct:/docker/a:b\n", encoding="utf-8")
    assert cgroup_cpu_quota(root, membership) == 0.7


def test_controllers_in_another_order_than_the_folder_has(root: Path, membership: Path) -> None:
    limit_v1(root / "cpu,cpuacct" / "job", "70000\n")
    (root / "cpu").symlink_to("cpu,cpuacct")
    membership.write_text("4:cpuacct,cpu:/job\n", encoding="utf-8")
    assert cgroup_cpu_quota(root, membership) == 0.7


def test_a_container_that_sees_its_own_group_as_the_root(root: Path, membership: Path) -> None:
    limit_v1(root / "cpu", "120000\n")
    membership.write_text("4:cpu,cpuacct:/docker/not-mounted-here\n", encoding="utf-8")
    assert cgroup_cpu_quota(root, membership) == 1.2


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n", b"0:\n", b"0::/\xff\n", b"0::..\n"])
def test_malformed_membership_leaves_the_root(root: Path, membership: Path, content: bytes) -> None:
    limit_v2(root, "150000 100000\n")
    membership.write_bytes(content)
    assert cgroup_cpu_quota(root, membership) == 1.5


def test_no_cgroup_at_all(root: Path, membership: Path) -> None:
    assert cgroup_cpu_quota(root, membership) is None
    limit_v2(root, "150000 100000\n")
    assert cgroup_cpu_quota(root, membership) == 1.5


def threads_under(setup: str) -> int:
    """Return the number of threads that a new process reports after some setup."""
    code = f"import os\n{setup}\nfrom embedrt.engine import cpu\nprint(cpu.available_threads())"
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return int(process.stdout)


@needs_affinity
def test_affinity() -> None:
    one = min(os.sched_getaffinity(0))
    assert threads_under(f"os.sched_setaffinity(0, [{one}])") == 1
    assert threads_under("") == available_threads()


@needs_affinity
@pytest.mark.parametrize(
    ("quota", "cores", "expected"),
    [(None, 8, 8), (0.4, 8, 1), (1.0, 8, 1), (1.5, 8, 2), (3.0, 8, 3), (64.0, 8, 8), (2.0, 1, 1)],
)
def test_the_smaller_of_mask_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    monkeypatch.setattr(cpu, "cgroup_cpu_quota", lambda: quota)
    assert available_threads() == expected


def test_systems_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(cpu, "cgroup_cpu_quota", lambda: None)
    assert available_threads() == 1
