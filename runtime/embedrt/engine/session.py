"""The graph in ONNX Runtime. The only module that imports it."""

from __future__ import annotations

import mmap
import os
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import REMEDY, Precision
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.clipping import EXACT, largest_product, largest_rows
from embedrt.errors import BundleCorruptError, BundleFormatError, NonFiniteEmbeddingError

# ONNX Runtime's Linux wheels upload usage data unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

FloatArray = NDArray[np.float32]

# Rewrites that would undo what was measured at export.
FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion", "AttentionFusion"]
KINDS = [("tensor(int64)", 2), ("tensor(float)", 2)]  # of input and output, with their ranks
SILENT = 4  # ONNX Runtime's log level "fatal": what goes wrong is raised, not printed


class Session:
    """One loaded graph: `run` may be called from many threads.

    Each run takes `threads` cores; the bytes that come out do not depend on how many. `weights` is
    the content of the file of weights; without it, ONNX Runtime maps the file beside the graph.
    """

    def __init__(
        self,
        graph: Path,
        precision: Precision = "fp32",
        *,
        threads: int = 1,
        weights: mmap.mmap | None = None,
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = SILENT
        # With one thread there is no pool. The threads of a pool spin between the steps of a run,
        # which are too short to sleep in, and stop when it ends.
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # The graph was optimized at export: what was proven is what runs.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if precision == "int8" and clips_int8():
            # The rewrite of weights that keeps int8 exact here is part of this level.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.x64quantprecision", "1")
        # Plans the memory of each shape, 3 KB a plan, so that a run takes its memory in one piece.
        # In many, runs side by side pass them from one core to another: a quarter slower where the
        # cores share no cache. The tokens of a batch and of a text bound the number of shapes.
        options.enable_mem_pattern = True
        if weights is not None:
            options.add_external_initializers_from_files_in_memory(
                [WEIGHTS], [weights], [len(weights)]
            )
            # ONNX Runtime before 1.31 does not know this and copies them for each session.
            options.add_session_config_entry(
                "session.use_external_initializer_file_buffers_directly", "1"
            )
        try:
            self._session = ort.InferenceSession(
                str(graph),
                sess_options=options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=FUSIONS,
                enable_fallback=0,  # it would print, and try the same once more
            )
            ends = (*self._session.get_inputs(), *self._session.get_outputs())
            kinds = [(end.type, len(end.shape)) for end in ends]
        except Exception as error:
            raise BundleCorruptError(
                f"{graph} does not load in ONNX Runtime {ort.__version__} ({_line(error)}); "
                f"{REMEDY}"
            ) from error
        components = ends[-1].shape[-1] if kinds == KINDS else None
        self.dimension: int | None = components if isinstance(components, int) else None
        """Components of an embedding, where the graph tells."""
        self._graph = graph
        self._weights = weights  # used as long as there is the session
        if kinds != KINDS:
            raise BundleFormatError(
                f"{graph} has input and output of type and rank {kinds}; expected {KINDS}; {REMEDY}"
            )

    def run(self, input_ids: NDArray[np.int64]) -> FloatArray:
        """Embed one batch of texts of equal token count.

        Shape: (batch, tokens) to (batch, dimension). Raises NonFiniteEmbeddingError.
        """
        try:
            (embedding,) = self._session.run(["embedding"], {"input_ids": input_ids})
        except Exception as error:
            raise self._broken(f"fails ({_line(error)})", input_ids) from error
        if embedding.shape != (len(input_ids), self.dimension or embedding.shape[-1]):
            raise self._broken(f"gives shape {embedding.shape}", input_ids)
        if not np.isfinite(embedding).all():
            raise NonFiniteEmbeddingError(
                f"the model gave NaN or infinity for a batch of shape {input_ids.shape}; "
                "its weights or its bundle are broken: run embedrt verify"
            )
        result: FloatArray = embedding
        return result

    def _broken(self, what: str, input_ids: NDArray[np.int64]) -> BundleCorruptError:
        return BundleCorruptError(
            f"{self._graph} {what} in ONNX Runtime {ort.__version__} for token ids of shape "
            f"{input_ids.shape}, the largest {input_ids.max()}; {REMEDY}"
        )


@cache
def clips_int8() -> bool:
    """Whether ONNX Runtime clips uint8 x int8 products here. Takes a few milliseconds, once."""
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
