"""Tests of shortening the messages of other libraries."""

from __future__ import annotations

import pytest

from embedrt_export.quiet import LONGEST_GIST, gist


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("index out of range in self"), "index out of range in self"),
        (KeyError("no such name here"), "no such name here"),
        (KeyError("decoder"), "KeyError: decoder"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("It fails. Please pass `x=True`."), "It fails"),
        (ValueError("Please pass `x=True`. It fails."), "It fails"),
        (
            ValueError("xlnet is not supported yet. Only ['bert', 'albert'] are supported."),
            "xlnet is not supported yet",
        ),
        (
            ValueError(
                "The repository x contains code.\n You can inspect it at https://hf.co/x .\n"
                "Please pass the argument `trust_remote_code=True` to allow it to run."
            ),
            "The repository x contains code",
        ),
        (
            ValueError("Unrecognized model in x. Should have a `model_type`, or one of: a, b"),
            "Unrecognized model in x",
        ),
        (
            ValueError("Model type `cube` is not known.\n\nYou can update with `pip install y`"),
            "Model type `cube` is not known",
        ),
        (ValueError("two\n  lines of  it"), "two lines of it"),
    ],
)
def test_gist(error: Exception, expected: str) -> None:
    assert gist(error) == expected


def test_length() -> None:
    assert len(gist(ValueError("word " * 1000))) == LONGEST_GIST
    assert gist(ValueError("word " * 1000)).endswith("...")
