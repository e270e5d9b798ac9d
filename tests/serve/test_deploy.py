"""Tests that the files for Docker, systemd and Kubernetes name existing options and routes.

`make lint` checks each of them with its linter.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

import embedrt.serve
from embedrt.cli import parse
from embedrt.serve.app import OPERATIONS, PUBLIC
from embedrt.serve.lifecycle import FAREWELL_SECONDS, LAST_SECONDS
from serving import serving
from tiny_bundle import make_tiny

DEPLOY = Path(embedrt.serve.__file__).parent / "deploy"
DOCKER_STOP_SECONDS = 10
OPTIONS = vars(parse(["serve", "BUNDLE"])).keys() | {"api_key"}


def documents() -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_variables_are_options(file: Path) -> None:
    names = re.findall(r"EMBEDRT_(\w+)", file.read_text(encoding="utf-8"))
    assert names
    assert {name.lower() for name in names} <= OPTIONS


def test_dockerfile() -> None:
    content = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stages = re.split(r"(?m)^FROM ", content)[1:]
    assert len(stages) == 2
    assert "USER 65532:65532" in stages[1]
    parts = re.findall(r"(?m)^(?:ENTRYPOINT|CMD) (.*)$", content)
    program, *arguments = chain.from_iterable(map(json.loads, parts))
    assert program == "/opt/embedrt/bin/embedrt"
    assert parse(arguments).bundle == "/bundle"
    variables = dict(re.findall(r"(EMBEDRT_\w+)=(\S+)", stages[1]))
    longest = float(variables["EMBEDRT_GRACE"]) + FAREWELL_SECONDS + LAST_SECONDS
    assert longest < DOCKER_STOP_SECONDS


def test_the_health_check_of_the_image(tmp_path: Path) -> None:
    """It finds the server at the port that the container's environment names."""
    content = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    check = re.search(r"(?m)^HEALTHCHECK .*\\\n +CMD (.*)$", content)
    assert check is not None
    _, *arguments = json.loads(check[1])

    def status(port: int) -> int:
        environment = {**os.environ, "EMBEDRT_PORT": str(port), "no_proxy": "*"}
        command = [sys.executable, *arguments]
        ended = subprocess.run(command, env=environment, check=False, capture_output=True)
        return ended.returncode

    with serving(make_tiny(tmp_path / "tiny"), tmp_path / "log") as server:
        assert status(server.port) == 0
        port = server.port
    assert status(port) == 1


def test_unit() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read(DEPLOY / "embedrt.service", encoding="utf-8")
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/embedrt")
    options = parse(arguments)
    assert str(options.api_key_file) == "%d/key"
    grace = float(dict(word.split("=") for word in service["Environment"].split())["EMBEDRT_GRACE"])
    assert float(service["TimeoutStopSec"]) > grace


def test_kubernetes() -> None:
    deployment, service = documents()
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[name]["httpGet"]["path"] in PUBLIC
    variables = {each["name"]: each.get("value") for each in container["env"]}
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waits + float(variables["EMBEDRT_GRACE"])
    # Scrapers that follow annotations send no key, without which /metrics answers with 401.
    assert "/metrics" not in PUBLIC
    assert "prometheus.io" not in json.dumps(deployment)
    assert pod["enableServiceLinks"] is False  # else EMBEDRT_PORT is a URL
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_probes_are_public() -> None:
    assert {each.path for each in OPERATIONS if each.public} == PUBLIC
