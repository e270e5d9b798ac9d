"""Recomputes a sample of an output's rows."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.reader import Bundle
from embedrt.corpus.computing import engine_of, load_to_compare
from embedrt.corpus.embedding import Embedding
from embedrt.corpus.part import with_partitions
from embedrt.corpus.places import Place
from embedrt.corpus.plan import Part, Plan
from embedrt.corpus.reading import read_rows
from embedrt.corpus.source import partition_schema
from embedrt.corpus.table import embed_texts, texts_of
from embedrt.corpus.work import choose_to_read, hash_bundle
from embedrt.engine.cpu import processor_name
from embedrt.sparse_rows import Terms
from embedrt.verify import SLACK

FLOAT16_STEP = 1e-3  # relative: half precision has 11 bits
BITS = 0.02  # share of a row's bits that may differ: those of components near 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One row of the sample."""

    part: Part
    row: int
    """In the source file."""
    vector: NDArray[Any] | None
    """None if null."""
    text: str | None
    """None if null, or not known."""
    is_known: bool
    """Whether the text is known."""
    processors: tuple[str, ...]
    """Kinds of processors, one of which computed the row."""
    engines: tuple[str, ...]
    """Engines, one of which computed the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The result of recomputing rows."""

    rows: int = 0
    """Rows compared."""
    tolerant: int = 0
    """Rows that another kind of processor or another engine computed, compared to the tolerance;
    the others were compared bit for bit."""
    tolerance: float = 0.0
    """Largest allowed difference of a component; for bits, of the share of a row's bits."""
    others: tuple[str, ...] = ()
    """The engines and processors that computed the tolerant rows."""
    here: str = ""
    """The engine and processor that recomputed them."""
    problems: tuple[str, ...] = ()


def choose_rows(plan: Plan, count: int, seed: int | None) -> dict[int, list[int]]:
    """Return `count` random rows of a plan, by the number of their file, ascending."""
    ends = list(accumulate(sum(file.groups) for file in plan.files))
    chosen = random.Random(seed).sample(range(plan.rows), min(count, plan.rows))  # noqa: S311
    rows: dict[int, list[int]] = {}
    for number in sorted(chosen):
        file = bisect_right(ends, number)
        rows.setdefault(file, []).append(number - (ends[file - 1] if file else 0))
    return rows


def read_texts(
    source: Place, plan: Plan, embedding: Embedding, sampled: Sequence[Sampled]
) -> list[Sampled]:
    """Return the rows with their texts, read from the source."""
    keys = partition_schema([file.source for file in plan.files])
    found = []
    for number, rows in groupby(sampled, key=lambda one: one.part.file):
        file, group = plan.files[number], list(rows)
        columns = choose_to_read(file.schema, dict.fromkeys(embedding.text))
        tables = read_rows(
            source,
            f"{plan.root}/{file.source.path}",
            file.source,
            columns,
            groups=file.groups,
            windows=[(one.row, 1) for one in group],
        )
        for one, table in zip(group, tables, strict=True):
            (text,) = texts_of(with_partitions(table, keys, file), embedding)
            found.append(replace(one, text=text, is_known=True))
    return found


def compute_again(
    open_bundle: Callable[[], Bundle],
    settings: dict[str, Any],
    embedding: Embedding,
    sampled: Sequence[Sampled],
) -> Again:
    """Recompute the rows whose texts are known, and compare them."""
    known = [one for one in sampled if one.is_known]
    if not known:
        return Again()
    bundle = open_bundle()
    if hash_bundle(bundle) != settings["bundle"]["sha256"]:
        return Again(problems=(f"{bundle.path} is another bundle than the one that made it",))
    agreement = bundle.manifest.agreement
    tolerance = SLACK[bundle.manifest.precision] * (agreement.tolerance if agreement else 0.0)
    if embedding.precision == "float16":
        tolerance += FLOAT16_STEP
    if embedding.precision in ("binary", "ubinary"):
        tolerance = BITS
    with load_to_compare(bundle.path, settings["engine"]) as embedder:
        embedded = embed_texts([one.text for one in known], embedder, embedding)
        here = _maker((engine_of(embedder),), (processor_name(),))
    problems, tolerant, others = [], 0, set[str]()
    for one, vector, is_valid in zip(known, embedded.vectors, embedded.valid, strict=True):
        maker = _maker(one.engines, one.processors)
        other = maker != here
        if other:
            tolerant += 1
            others.add(maker)
        same = is_valid == (one.vector is not None) and (
            one.vector is None
            or one.vector.tobytes() == vector.tobytes()
            or (other and _difference(one.vector, vector) <= tolerance)
        )
        if not same:
            tolerated = f"by more than {tolerance:g}: by {maker} before, by {here} now"
            how = tolerated if other else "in its bytes"
            problems.append(f"{one.part.name}: row {one.row} differs {how}")
    return Again(
        rows=len(known),
        tolerant=tolerant,
        tolerance=tolerance,
        others=tuple(sorted(others)),
        here=here,
        problems=tuple(problems),
    )


def _maker(engines: Sequence[str], processors: Sequence[str]) -> str:
    """Return the engine and processor of a row, for messages: equal if the bytes must be equal."""
    return f"{' or '.join(engines)} on {' or '.join(processors)}"


def _difference(before: NDArray[Any], now: NDArray[Any]) -> float:
    """Return the largest difference of a component, or the share of the bits that differ."""
    if before.dtype.names:
        before, now = _aligned(before, now)
    if before.dtype.kind == "f":
        largest = max(1.0, float(np.abs(now).max(initial=0)))
        return float(np.abs(before.astype(np.float32) - now).max(initial=0)) / largest
    bits = np.unpackbits(before.view(np.uint8) ^ now.view(np.uint8))
    return float(bits.mean())


def _aligned(before: Terms, now: Terms) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of both at all dimensions that are active in one of them."""
    active = np.union1d(before["index"], now["index"])
    values = np.zeros((2, len(active)), np.float32)
    for row, terms in zip(values, (before, now), strict=True):
        row[np.searchsorted(active, terms["index"])] = terms["value"]
    return values[0], values[1]
