"""Tests of the progress bar on stderr."""

from __future__ import annotations

import pytest

from embedrt import Embedder
from embedrt.progress import increments, progress_bar


def test_hidden_bar_does_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar(10, shown=False) as advance:
        advance(3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("total", "shown"), [(10, "10.0/10.0"), (None, "10.0 line")])
def test_shown_bar_counts_on_stderr(
    capfd: pytest.CaptureFixture[str], total: int | None, shown: str
) -> None:
    with progress_bar(total, shown=True, unit="line") as advance:
        advance(4)
        advance(6)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert shown in captured.err


def test_a_program_without_a_console(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert embedder.encode(["a"], show_progress_bar=True).shape == (1, embedder.dimension)


def test_increments_add_up_to_the_count() -> None:
    counts, found = iter([3, 3, 8]), list[int]()
    report = increments(lambda: next(counts), found.append)
    for _ in range(3):
        report()
    assert found == [3, 0, 5]


def test_repeated_texts_count(embedder: Embedder, capfd: pytest.CaptureFixture[str]) -> None:
    embedder.encode(["a", "b", "a", "a"], show_progress_bar=True)
    assert "4.00/4.00" in capfd.readouterr().err
