"""Tests that workflows and hooks run what .ci/run and `make lint` run, and nothing else."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text(encoding="utf-8"))[
        "jobs"
    ]
    return content


def commands(workflow: Path) -> list[str]:
    """Return each step's command, without make's options."""
    steps = [step for job in jobs(workflow).values() for step in job.get("steps", [])]
    lines = [shlex.split(step["run"]) for step in steps if "run" in step]
    return [" ".join(word for word in line if not word.startswith("--")) for line in lines]


def test_the_commands_are_those_of_ci() -> None:
    lines = re.findall(r"^make (.*)", read(".ci/run"), flags=re.MULTILINE)
    words = [word for line in lines for word in line.split()]
    expected = [f"make {word}" for word in words if not word.startswith("--")]
    found = [command for workflow in WORKFLOWS for command in commands(workflow)]
    assert "make test" in expected
    assert sorted(found) == sorted(expected)


def test_every_python_is_tested() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    versions = re.findall(r":: (3\.\d+)", "\n".join(project["classifiers"]))
    assert f">={versions[0]}" == project["requires-python"]
    checks = jobs(ROOT / ".github" / "workflows" / "checks.yml")
    for job in ("test", "test-light"):
        assert checks[job]["strategy"]["matrix"]["python"] == versions


def test_what_is_published_is_what_was_tested() -> None:
    checks = ROOT / ".github" / "workflows" / "checks.yml"
    publish = jobs(ROOT / ".github" / "workflows" / "release.yml")["publish"]
    assert publish["needs"] == "checks"
    assert not any("run" in step for step in publish["steps"])
    assert commands(checks).count("make package") == 1
    assert jobs(checks)["test-light"]["needs"] == ["package", "bundles"]
    assert commands(checks).count("make package-kernels") == 1
    assert jobs(checks)["kernels"]["needs"] == "package-kernels"
    assert jobs(checks)["kernels"]["env"] == {"GIVEN": "dist-kernels/built"}


def test_only_the_packages_are_published() -> None:
    checks = jobs(ROOT / ".github" / "workflows" / "checks.yml")
    uploads = {
        step["with"]["name"]: name
        for name, job in checks.items()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact@")
    }
    publish = jobs(ROOT / ".github" / "workflows" / "release.yml")["publish"]
    pattern = publish["steps"][0]["with"]["pattern"]
    published = {name: job for name, job in uploads.items() if fnmatch(name, pattern)}
    assert published == {"dist": "package", "dist-kernels": "package-kernels"}
    assert set(uploads) > set(published)


def test_the_wheel_of_the_kernels_is_built_in_the_container_of_its_tag() -> None:
    checks = jobs(ROOT / ".github" / "workflows" / "checks.yml")
    (tag,) = re.findall(r"^MANYLINUX = (manylinux_\w+?)_\$", read("Makefile"), flags=re.MULTILINE)
    assert checks["package-kernels"]["container"] == f"quay.io/pypa/{tag}_x86_64"


def test_the_kernels_have_the_license_and_version_of_embedrt() -> None:
    assert read("runtime/kernels/LICENSE") == read("LICENSE")
    project = tomllib.loads(read("pyproject.toml"))["project"]
    kernels = tomllib.loads(read("runtime/kernels/pyproject.toml"))["project"]
    (extra,) = project["optional-dependencies"]["kernels"]
    assert kernels["version"] == project["version"]
    assert extra.startswith(f"{kernels['name']}=={project['version']};")


def test_no_job_may_write() -> None:
    for workflow in WORKFLOWS:
        assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {
            "contents": "read"
        }


def test_the_hooks_are_those_of_lint() -> None:
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    entries = {hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]}
    recipe = read("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    lines = [line.strip() for line in recipe.splitlines()[1:]]
    names = {"$(BIN)": ".venv/bin", "$(DEPLOY)": "runtime/embedrt/serve/deploy"}
    for name, folder in names.items():
        lines = [line.replace(name, folder) for line in lines]
    called = {line.removesuffix(" .") for line in lines}
    assert entries == {line.removesuffix(" --check") for line in called}
