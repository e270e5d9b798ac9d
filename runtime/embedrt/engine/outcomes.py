"""The outcomes of work on the texts of several calls: a failing text fails only its own call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, compress, islice

from embedrt.engine.call import Call, Results, TokenIds, TokenizeTexts
from embedrt.engine.work import Batch, Tokenize
from embedrt.errors import EmbedrtError, TextError
from embedrt.pair import Text

Tokenized = list[TokenIds] | TextError
"""The token ids of a call's texts, or its error, with the index that the caller knows."""


def tokenize_slices(work: Tokenize, tokenize: TokenizeTexts) -> list[Tokenized]:
    """Return the outcome for each call; `tokenize` is for calls without their own tokenizer."""
    parts = [call.texts[part.start : part.stop] for call, part in work.slices]
    shared = [call.tokenize is None for call, _ in work.slices]
    texts = list(chain.from_iterable(compress(parts, shared)))
    ids: list[list[TokenIds] | None]
    try:
        tokenized = iter(tokenize(texts))
        ids = [
            list(islice(tokenized, len(part))) if together else None
            for part, together in zip(parts, shared, strict=True)
        ]
    except TextError:  # only the call with the invalid text may fail
        ids = [None] * len(parts)
    return [
        _tokenize_and_check(call, part, texts, text_ids, tokenize)
        for (call, part), texts, text_ids in zip(work.slices, parts, ids, strict=True)
    ]


def _tokenize_and_check(
    call: Call,
    part: range,
    texts: Sequence[Text],
    ids: list[TokenIds] | None,
    tokenize: TokenizeTexts,
) -> Tokenized:
    """Tokenize the texts of one call unless `ids` are given, then run the call's own check."""
    try:
        ids = (call.tokenize or tokenize)(texts) if ids is None else ids
        if call.check is not None:
            call.check(texts, ids)
    except TextError as error:
        return call.name_text(error, part)
    return ids


def run_batch(
    batch: Batch, run: Callable[[list[TokenIds]], Results]
) -> list[tuple[Batch, Results | EmbedrtError]]:
    """Run a batch; if it fails, each of its texts alone.

    If none of them fails alone, the graph cannot run batches, and the error is for all.
    """
    try:
        return [(batch, run(batch.texts))]
    except EmbedrtError as error:
        parts = [Batch((job,)) for job in batch.jobs]
        outcomes: list[Results | EmbedrtError] = []
        for part in parts if len(parts) > 1 else ():
            try:
                outcomes.append(run(part.texts))
            except EmbedrtError as of_one:
                outcomes.append(of_one)
        if not any(isinstance(outcome, EmbedrtError) for outcome in outcomes):
            outcomes = [error] * len(parts)
        return list(zip(parts, outcomes, strict=True))
