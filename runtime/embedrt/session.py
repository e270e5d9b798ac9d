"""The graph in ONNX Runtime. The only module that imports it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import BundleCorruptError, NonFiniteEmbeddingError
from embedrt.manifest import Precision
from embedrt.processor import clips_int8

# ONNX Runtime's Linux wheels upload usage data unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

FloatArray = NDArray[np.float32]

# Rewrites that would undo what was measured at export.
FUSIONS = ["SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion", "AttentionFusion"]
SILENT = 4  # ONNX Runtime's log level "fatal": what goes wrong is raised, not printed


class Session:
    """One loaded graph: `run` may be called from many threads, each running on its own core."""

    def __init__(self, graph: Path, precision: Precision = "fp32") -> None:
        options = ort.SessionOptions()
        options.log_severity_level = SILENT
        # One thread a run: parallel runs of small batches beat one run split over the cores, and
        # with no pool there is nothing that spins.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The graph was optimized at export: what was proven is what runs.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if precision == "int8" and clips_int8():
            # The rewrite of weights that keeps int8 exact here is part of this level.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.x64quantprecision", "1")
        # It caches a plan for every new shape, and shapes here never end.
        options.enable_mem_pattern = False
        try:
            self._session = ort.InferenceSession(
                str(graph),
                sess_options=options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=FUSIONS,
            )
        except Exception as error:
            raise BundleCorruptError(
                f"{graph} does not load in ONNX Runtime {ort.__version__}: {error}"
            ) from error

    @property
    def dimension(self) -> int | None:
        """Components of an embedding, where the graph tells."""
        components = self._session.get_outputs()[0].shape[-1]
        return components if isinstance(components, int) else None

    def run(self, input_ids: NDArray[np.int64]) -> FloatArray:
        """Embed one batch of texts of equal token count.

        Shape: (batch, tokens) to (batch, dimension). Raises NonFiniteEmbeddingError.
        """
        (embedding,) = self._session.run(["embedding"], {"input_ids": input_ids})
        if not np.isfinite(embedding).all():
            raise NonFiniteEmbeddingError(
                f"the model gave NaN or infinity for a batch of shape {input_ids.shape}; "
                "its weights or its bundle are broken: run embedrt verify"
            )
        result: FloatArray = embedding
        return result
