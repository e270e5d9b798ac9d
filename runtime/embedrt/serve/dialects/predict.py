"""TEI's ``/predict``: every score of a pair with its label, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embedrt.pair import Pair
from embedrt.serve.dialects import tei
from embedrt.serve.errors import RequestError
from embedrt.serve.fields import Texts, check_number, describe, flag, wrong
from embedrt.serve.operation import Operation
from embedrt.serve.service import Scoring, Service
from embedrt.serve.wire import Incoming, Reply, json_reply

EXPECTED = "expected [text, text], or a list of such pairs"


async def predict(service: Service, incoming: Incoming) -> Reply:
    """Answer ``POST /predict`` for one pair or several."""
    fields = incoming.fields
    labels = service.labels
    pairs, texts = _pairs(fields.get("inputs"), service.options.max_texts)
    raw = flag(fields, "raw_scores", default=False)
    wanted = Scoring(
        prompt_name=service.prompt_name(fields),
        # As in TEI, whatever the model's own activation is.
        activation="Identity" if raw else "Sigmoid" if len(labels) == 1 else "Softmax",
        truncate=flag(fields, "truncate", default=True),
        side=tei.side_of(fields),
    )
    scores = (await service.score(pairs, texts, wanted)).scores.reshape(len(pairs), len(labels))
    answers = [_labeled(row, labels) for row in scores]
    return json_reply(answers[0] if texts.is_one else answers)


def _labeled(scores: Any, labels: Sequence[str]) -> list[dict[str, Any]]:
    order = np.argsort(scores, kind="stable")[::-1].tolist()
    return [{"score": scores[index], "label": labels[index]} for index in order]


def _pairs(value: object, most: int) -> tuple[list[Pair], Texts]:
    """Return the pairs, and their second texts, which represent them in messages."""
    if not isinstance(value, list):
        raise _wrong("inputs", value)
    is_one = bool(value) and isinstance(value[0], str)
    rows = [value] if is_one else value
    check_number(rows, "inputs", "pair", most)
    pairs = [_pair(row, "inputs" if is_one else f"inputs[{at}]") for at, row in enumerate(rows)]
    texts = Texts(values=[second for _, second in pairs], name="inputs", is_one=is_one)
    return pairs, texts


def _pair(row: object, place: str) -> Pair:
    if not isinstance(row, list):
        raise _wrong(place, row)
    for index, text in enumerate(row):
        if not isinstance(text, str):
            raise wrong(f"{place}[{index}]", text, "a string")
    if len(row) != 2:
        raise RequestError(
            "invalid", f"{place} has {len(row):,} texts; a pair has two", field=place
        )
    return row[0], row[1]


def _wrong(place: str, value: object) -> RequestError:
    remedy = "; this model scores pairs of texts" if isinstance(value, str) else ""
    return RequestError("invalid", f"{place} is {describe(value)}{remedy}; {EXPECTED}", field=place)


OPERATIONS = [
    Operation(path="/predict", method="POST", answer=predict, dialect=tei.DIALECT, task="reranking")
]
