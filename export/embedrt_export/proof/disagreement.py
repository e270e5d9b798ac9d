"""The errors about a bundle that does not agree with its original."""

from __future__ import annotations

from embedrt.bundle.decoding import REMEDY
from embedrt.errors import ProofError


def disagreement(reference: str, what: str) -> ProofError:
    """Return the error for a bundle that differs from the reference implementation."""
    return ProofError(f"the bundle does not agree with {reference}: {what}. Nothing was written")


def refusal(reference: str, call: object, error: Exception) -> ProofError:
    """Return the error for a bundle that raises an error in a call that the original accepts."""
    return disagreement(reference, f"it refuses {call}: {str(error).removesuffix(f'; {REMEDY}')}")
