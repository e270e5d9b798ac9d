"""Tests that the README's examples run, that it lists every route, and the defaults in the help."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import embedrt.serve
from embedrt.cli import main
from embedrt.serve.app import OPERATIONS
from serving import Serving

FOLDER = Path(embedrt.serve.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", blocks("py"))
def test_python(server: Serving, block: str) -> None:
    exec(compile(block.replace(ADDRESS, server.url), "README.md", "exec"), {})


@pytest.mark.parametrize("block", blocks("sh"))
def test_shell(server: Serving, block: str) -> None:
    command = block.replace(ADDRESS, server.url).replace("curl", "curl --silent --fail")
    ended = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert ended.stdout.startswith(b'{"object":"list","data":[{"object":"embedding"')


def test_the_help_shows_the_defaults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMBEDRT_GRACE", "7")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    help_text = capsys.readouterr().out
    assert "port; 0 takes a free one (8080)" in help_text
    assert "after SIGTERM (7)" in help_text


def test_every_route_is_documented() -> None:
    told = set(re.findall(r"`(?:GET |POST )?(/[^` ]*)`", README.partition("## Load")[0]))
    assert {each.path.replace(":path", "").rstrip("/") or "/" for each in OPERATIONS} <= told
