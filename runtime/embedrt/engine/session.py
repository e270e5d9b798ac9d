"""A graph loaded in ONNX Runtime. The only module that imports ONNX Runtime."""

from __future__ import annotations

import mmap
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from embedrt.bundle.decoding import REMEDY, remedy_of
from embedrt.bundle.manifest import Precision
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.clipping import EXACT, largest_product, largest_rows
from embedrt.engine.runner import TextIds, non_finite, stack
from embedrt.errors import BundleCorruptError, BundleFormatError

FloatArray = NDArray[np.float32]

RUNTIME = f"ONNX Runtime {ort.__version__}"

# Graph rewrites that change results, which would invalidate the agreement measured at export.
FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion", "AttentionFusion"]
# Type and rank: of the token ids, of a second input if the graph takes one, and of the output.
TOKENS, ROWS = ("tensor(int64)", 2), ("tensor(float)", 2)
ROWS_BY_TOKEN = ("tensor(float)", 3)
SILENT = 4  # ONNX Runtime's log level "fatal": errors are raised, not printed


class Session:
    """A loaded graph. Thread-safe.

    Each run uses `threads` cores; the result does not depend on their number. `weights` is the
    content of the weights file; if it is None, ONNX Runtime maps the file beside the graph.
    `plans_memory` keeps a plan of the memory of each input shape. With `by_token`, the graph gives
    a row for each token in place of one for each text.
    """

    mixes = False

    def __init__(
        self,
        graph: Path,
        precision: Precision = "fp32",
        *,
        threads: int = 1,
        weights: mmap.mmap | None = None,
        plans_memory: bool = True,
        by_token: bool = False,
    ) -> None:
        options = _options(precision, threads, plans_memory=plans_memory)
        if weights is not None:
            options.add_external_initializers_from_files_in_memory(
                [WEIGHTS], [weights], [len(weights)]
            )
            # ONNX Runtime before 1.31 ignores this option and copies the weights for each session.
            options.add_session_config_entry(
                "session.use_external_initializer_file_buffers_directly", "1"
            )
        try:
            self._session = ort.InferenceSession(
                str(graph),
                sess_options=options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=FUSIONS,
                enable_fallback=0,  # the fallback prints, and repeats the same attempt
            )
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            ends = (*inputs, *outputs)
            kinds = [(end.type, len(end.shape)) for end in ends]
        except Exception as error:
            raise BundleCorruptError(
                f"{graph} does not load in {RUNTIME} ({_line(error)}); {remedy_of(error)}"
            ) from error
        rows = ROWS_BY_TOKEN if by_token else ROWS
        known = [[TOKENS, rows], [TOKENS, TOKENS, rows]]
        if kinds not in known:
            raise BundleFormatError(
                f"{graph} has inputs and outputs of type and rank {kinds}; expected {known[0]} or "
                f"{known[1]}; {REMEDY}"
            )
        components = ends[-1].shape[-1]
        self.dimension: int | None = components if isinstance(components, int) else None
        """Components of a row of the output; None if the graph does not declare them."""
        self.name = RUNTIME
        self._graph = graph
        self._weights = weights  # must outlive the session, which uses the memory
        self._inputs = [value.name for value in inputs]
        self._by_token = by_token

    def run(self, texts: TextIds) -> FloatArray:
        """Run a batch of texts of equal token count.

        Shape: (batch, tokens), or (batch, 2, tokens) with a second input after the ids if the graph
        takes one, to (batch, dimension), or (batch, tokens, dimension) by token. Raises
        NonFiniteEmbeddingError, and BundleCorruptError if the graph fails.
        """
        input_ids = stack(texts)
        one = len(self._inputs) == 1
        fed = [input_ids] if one else np.ascontiguousarray(input_ids.swapaxes(0, 1))
        try:
            (embedding,) = self._session.run(None, dict(zip(self._inputs, fed, strict=True)))
        except Exception as error:
            what = f"fails ({_line(error)})"
            raise self._broken(what, input_ids, remedy_of(error)) from error
        by_token = input_ids.shape[-1:] if self._by_token else ()
        expected = (len(input_ids), *by_token, self.dimension or embedding.shape[-1])
        if embedding.shape != expected:
            raise self._broken(f"gives shape {embedding.shape}", input_ids)
        if not np.isfinite(embedding).all():
            raise non_finite(f"shape {input_ids.shape}")
        result: FloatArray = embedding
        return result

    def _broken(
        self, what: str, input_ids: NDArray[np.int64], remedy: str = REMEDY
    ) -> BundleCorruptError:
        return BundleCorruptError(
            f"{self._graph} {what} in {RUNTIME} for token ids of shape {input_ids.shape}, the "
            f"largest {input_ids.max()}; {remedy}"
        )


def _options(precision: Precision, threads: int, *, plans_memory: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = SILENT
    # One thread needs no pool. The threads of a pool spin between the nodes of a run, because the
    # gaps are too short for sleeping, and stop spinning when the run ends.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # The graph is optimized and verified at export, and must run unchanged.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if precision == "int8" and clips_int8():
        # This level includes the conversion of weights to uint8, which avoids clipping.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.x64quantprecision", "1")
    # A memory plan, of 3 KB for each input shape, lets a run allocate its memory in one block. With
    # many small blocks, concurrent runs exchange blocks between cores, which is 25 % slower if the
    # cores share no cache. The limits of tokens per batch and per text bound the number of shapes,
    # except those of a static model, which may have no limit of tokens.
    options.enable_mem_pattern = plans_memory
    return options


@cache
def clips_int8() -> bool:
    """Whether ONNX Runtime clips uint8 x int8 products on this machine.

    Takes a few milliseconds the first time; the result is cached.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        largest_product(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    (product,) = session.run(["product"], {"rows": largest_rows()})
    return bool((product != EXACT).any())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
