"""The stages of an export that depend on the task, for `pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from embedrt.bundle.manifest import Agreement, Reranking, ScoreActivation, Task
from embedrt.bundle.quantization import Quantization, ScoreQuantization, TermQuantization
from embedrt.pair import Text, TextKind
from embedrt.text.tokenizer import TokenIds
from embedrt_export.int8.calibration import DOCUMENTS, CalibrationTexts, pairs_of
from embedrt_export.int8.order import OrderQuality, measure_max_sim, measure_order
from embedrt_export.int8.quality import Quality, measure_quality
from embedrt_export.int8.selection import Figures, Measure
from embedrt_export.int8.terms import TermQuality, measure_terms
from embedrt_export.proof.agreement import prove, prove_rows
from embedrt_export.proof.comparison import rehearse
from embedrt_export.proof.late_oracle import LateOracle
from embedrt_export.proof.oracle import Oracle
from embedrt_export.proof.pair_oracle import PairOracle
from embedrt_export.proof.probes import pair_probes, probes, sparse_probes, token_probes
from embedrt_export.proof.scores import prove_scores, rehearse_scores
from embedrt_export.proof.sparse_oracle import SparseOracle
from embedrt_export.proof.token_vectors import prove_tokens, rehearse_tokens
from embedrt_export.source.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The data for int8: the inputs to fit it to, and the held-out inputs to judge it by."""

    fitted: Sequence[TokenIds]
    held_back: Sequence[TokenIds]
    measure: Measure
    judged: int
    """Number of held-out texts, or pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of one task. Each takes the original that `load` returns."""

    load: Callable[[Settings], Any]
    """Loads the original model that has these settings."""
    describe: Callable[[Any, Settings, int], dict[str, Any]]
    """Returns the task-specific fields of the manifest, given the maximum number of tokens."""
    probes: Callable[[Any], bytes]
    """Returns the content of ``probes.json``."""
    rehearse: Callable[[Any, int, Callable[[Text], int]], None]
    """Runs the texts of `prove` with the original, given the maximum number of tokens and a
    function that counts tokens."""
    prove: Callable[[Any, Any], Agreement]
    """Compares a loaded bundle with the original; raises ProofError if they disagree."""
    trial: Callable[[Any, CalibrationTexts], Trial]
    """Returns the token ids to fit int8 to, and those to judge it by."""
    least: Callable[..., Figures]
    """The quality that int8 must reach; keywords replace the defaults."""
    record: Callable[..., Quantization | ScoreQuantization | TermQuantization]
    """The manifest's record of int8."""


QUERIES = 12  # of a trial by the order of documents


def _try_texts(oracle: Oracle, texts: CalibrationTexts) -> Trial:
    fitted, held_back = (
        [ids for text in some if (ids := oracle.graph_inputs(text)).size]
        for some in (texts.fitted, texts.held_back)
    )
    judged = len(held_back)
    return Trial(fitted=fitted, held_back=held_back, measure=measure_quality, judged=judged)


def _try_pairs(oracle: PairOracle, texts: CalibrationTexts) -> Trial:
    fitted, held_back = (
        [oracle.inputs(pair) for pair in pairs_of(some)] for some in (texts.fitted, texts.held_back)
    )
    documents = min(DOCUMENTS, len(texts.held_back) - 1)
    measure = partial(measure_order, documents=documents)
    return Trial(fitted=fitted, held_back=held_back, measure=measure, judged=len(held_back))


def _try_tokens(oracle: LateOracle, texts: CalibrationTexts) -> Trial:
    """Return the texts as queries and as documents; some of the held-out texts are queries."""
    kinds: tuple[TextKind, ...] = ("query", "document")
    fitted = [oracle.inputs(text, kind) for kind in kinds for text in texts.fitted]
    every = max(1, len(texts.held_back) // QUERIES)
    queries = [oracle.inputs(text, "query") for text in texts.held_back[::every]]
    documents = [oracle.inputs(text, "document") for text in texts.held_back]
    held_back = [*queries, *documents]
    tokens = [ids.shape[-1] for ids in held_back]
    return Trial(
        fitted=fitted,
        held_back=held_back,
        measure=partial(measure_max_sim, tokens=tokens, queries=len(queries)),
        judged=len(queries) * len(documents),
    )


def _load_embedding(settings: Settings) -> Oracle:
    oracle = Oracle(settings.folder)
    if settings.leaves_prompt_out:
        oracle.leave_prompt_out()
    return oracle


def _describe_prompts(oracle: Oracle, settings: Settings, _: int) -> dict[str, Any]:
    return {"prompt_endings": oracle.prompt_endings()} if settings.leaves_prompt_out else {}


def _describe_scores(oracle: PairOracle, settings: Settings, _: int) -> dict[str, Any]:
    # The default is that of sentence-transformers.
    default: ScoreActivation = "Sigmoid" if len(oracle.labels) == 1 else "Identity"
    activation = settings.activation or default
    return {"reranking": Reranking(activation=activation, labels=oracle.labels)}


STAGES: dict[Task, Stages] = {
    "embedding": Stages(
        load=_load_embedding,
        describe=_describe_prompts,
        probes=probes,
        rehearse=rehearse,
        prove=prove,
        trial=_try_texts,
        least=Quality,
        record=Quantization,
    ),
    "reranking": Stages(
        load=lambda settings: PairOracle(settings.folder),
        describe=_describe_scores,
        probes=pair_probes,
        rehearse=rehearse_scores,
        prove=prove_scores,
        trial=_try_pairs,
        least=OrderQuality,
        record=ScoreQuantization,
    ),
    "sparse": Stages(
        load=lambda settings: SparseOracle(settings.folder),
        describe=lambda oracle, settings, _: {"sparse": oracle.sparsity(settings)},
        probes=sparse_probes,
        rehearse=rehearse,
        prove=prove_rows,
        trial=lambda oracle, texts: replace(_try_texts(oracle, texts), measure=measure_terms),
        least=TermQuality,
        record=TermQuantization,
    ),
    "late-interaction": Stages(
        load=lambda settings: LateOracle(settings.folder),
        describe=lambda oracle, settings, most: {"late_interaction": oracle.late(settings, most)},
        probes=token_probes,
        rehearse=rehearse_tokens,
        prove=prove_tokens,
        trial=_try_tokens,
        least=OrderQuality,
        record=ScoreQuantization,
    ),
}
