"""The manifest: all metadata of a bundle.

The format is specified in ``models/README.md``. The manifest is the only source of metadata:
nothing is inferred from names, from ``tokenizer.json`` or from the graph.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
from dataclasses import dataclass
from typing import Any, Literal

from embedrt.bundle.decoding import decode, without_repeats, wrong
from embedrt.bundle.late_interaction import LateInteraction, check_late
from embedrt.bundle.quantization import Quantization, ScoreQuantization, TermQuantization
from embedrt.errors import BundleFormatError

FORMAT_VERSION = 2
MAX_DIMENSION = 1 << 16
MAX_VOCABULARY = 1 << 20
MAX_TOKENS = 1 << 20

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len", "weightedmean", "lasttoken"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
Precision = Literal["fp32", "int8"]
Builder = Literal["fused", "traced"]
Side = Literal["left", "right"]
STATIC_FAMILIES = frozenset({"model2vec", "static"})
Task = Literal["embedding", "reranking", "sparse", "late-interaction"]
ScoreActivation = Literal[
    "Hardsigmoid",
    "Identity",
    "LogSigmoid",
    "LogSoftmax",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
SparsePooling = Literal["max", "sum"]
SparseActivation = Literal["relu", "log1p_relu"]
ElementType = Literal["int64", "float32"]
Axis = Literal["batch", "tokens", "dimension", "labels", "vocabulary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the model came from."""

    id: str
    """Hub id, or the name of the local folder."""
    origin: str
    """Where the files come from: ``hub``, ``folder``, or a package with its version."""
    revision: str | None
    """Commit on the hub; None if the files come from elsewhere."""
    license: str | None
    """The license that the model card declares."""
    weights: dict[str, str]
    """sha256 (hex) of each weight file, by path in the model's folder."""
    ignored_code: tuple[str, ...] = ()
    """Classes of the model author's own code that the export ignored, on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the bundle."""

    size: int
    """In bytes."""
    sha256: str
    """Hex digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The agreement between the bundle and the original model, measured at export."""

    reference: str
    """The implementation that the bundle was compared with, and its version."""
    texts: int
    """Number of texts compared."""
    max_difference: float
    """Largest difference of a component: absolute if embeddings are normalized, otherwise relative
    to the largest component of the reference. For a reranker, relative to its largest score."""
    tolerance: float
    """Upper limit of `max_difference` for the export to succeed."""
    min_cosine: float
    """Smallest cosine between an embedding, or all vectors of a text, and the reference. For a
    reranker, the cosine between the scores of all pairs and their references."""
    same_bytes: bool
    """Whether each text gives the same bytes alone and in batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranking:
    """Properties of rerankers."""

    activation: ScoreActivation
    """Applied to the graph's scores unless the caller chooses another; the name in torch.nn."""
    labels: tuple[str, ...]
    """Names of the scores of a pair, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWeights:
    """How queries are computed without the graph, from a weight for each token."""

    max_tokens: int
    """Number of tokens that a query is truncated to; it has no special tokens."""
    by_default: bool
    """Whether a text that is neither a query nor a document is computed like a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity:
    """Properties of sparse encoders."""

    pooling: SparsePooling
    """How the logits of a word are pooled over the tokens of a text."""
    activation: SparseActivation
    """Function of a logit: ``relu`` is log1p(relu(x)), ``log1p_relu`` log1p of that."""
    max_active_dims: int | None
    """Number of active dimensions that a row keeps unless the caller chooses; None for all."""
    queries: QueryWeights | None
    """None if queries are computed by the graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An input or output of the graph."""

    name: str
    dtype: ElementType
    axes: tuple[Axis, ...]
    """The meaning of each axis; the size of an output's last one is the manifest's `dimension`."""


TOKEN_IDS = Value(name="input_ids", dtype="int64", axes=("batch", "tokens"))
ATTENTION_MASK = Value(name="attention_mask", dtype="int64", axes=("batch", "tokens"))
BY_TOKEN: tuple[Axis, ...] = ("batch", "tokens", "dimension")
POOLING_MASK = Value(name="pooling_mask", dtype="int64", axes=("batch", "tokens"))
TOKEN_TYPES = Value(name="token_type_ids", dtype="int64", axes=("batch", "tokens"))

# Inputs and outputs of the graph, by task.
INPUTS: dict[Task, tuple[Value, ...]] = {
    "embedding": (TOKEN_IDS,),
    "reranking": (TOKEN_IDS,),
    "sparse": (TOKEN_IDS,),
    "late-interaction": (TOKEN_IDS,),
}
FURTHER_INPUTS: dict[Task, tuple[Value, ...]] = {
    "embedding": (POOLING_MASK,),  # if the pooling leaves the prompt out
    "reranking": (TOKEN_TYPES,),  # in families that distinguish the texts of a pair by type
    "late-interaction": (ATTENTION_MASK,),  # if no token attends to those that expand a query
}
# The record of the quality of int8, by task; `Quantization` for others.
QUANTIZATIONS: dict[Task, type] = {
    "reranking": ScoreQuantization,
    "late-interaction": ScoreQuantization,
    "sparse": TermQuantization,
}
OUTPUTS: dict[Task, tuple[Value, ...]] = {
    "embedding": (Value(name="embedding", dtype="float32", axes=("batch", "dimension")),),
    "reranking": (Value(name="scores", dtype="float32", axes=("batch", "labels")),),
    "sparse": (Value(name="weights", dtype="float32", axes=("batch", "vocabulary")),),
    "late-interaction": (Value(name="token_embeddings", dtype="float32", axes=BY_TOKEN),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A bundle's ``manifest.json``."""

    format_version: int
    """Version of the bundle on disk. Fields that older versions lack are filled in on reading."""
    name: str
    source: Source
    task: Task
    """The kind of result that the graph computes."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    family: str
    """The encoder's architecture: ``bert``, ``mpnet``, ..."""
    builder: Builder
    """``fused``: built from the weights; ``traced``: made by a tracing exporter, see `tools`."""
    precision: Precision
    dimension: int
    """Components of an embedding or a token's vector, labels of a reranker, or words of a row."""
    max_tokens: int
    """Number of tokens that a text is truncated to, including special tokens."""
    truncation_side: Side
    """The side from which tokens of a long text are dropped."""
    pooling: tuple[Pooling, ...]
    """Pooling modes; their results are concatenated in this order."""
    normalized: bool
    """Whether embeddings, or the vectors of tokens, have length 1."""
    similarity: Similarity
    """The score that the model was trained for; in late interaction, that of two tokens."""
    prompts: dict[str, str]
    """Texts to prepend to the input, by name; an empty prompt prepends nothing."""
    default_prompt_name: str | None
    """The prompt for texts that are neither queries nor documents, unless the caller chooses."""
    tools: dict[str, str]
    """Versions of the packages that made the bundle."""
    agreement: Agreement | None
    """None only while an export is still verifying the bundle."""
    quantization: Quantization | ScoreQuantization | TermQuantization | None
    """None for fp32."""
    files: dict[str, FileEntry]
    """Every file of the bundle except the manifest, by name."""
    reranking: Reranking | None = None
    """For the task ``reranking``, otherwise None."""
    max_characters: int | None = None
    """Number of characters that a text is cut to before it is tokenized."""
    sparse: Sparsity | None = None
    """For the task ``sparse``, otherwise None."""
    late_interaction: LateInteraction | None = None
    """For the task ``late-interaction``, otherwise None."""
    prompt_endings: tuple[int, ...] | None = None
    """For a model whose pooling leaves the prompt out, otherwise None: ids of tokens that do not
    count as part of the prompt at its end."""

    @property
    def is_static(self) -> bool:
        """Whether the graph averages the rows of a table, and so takes texts of no tokens too."""
        return self.family in STATIC_FAMILIES

    def to_json(self) -> str:
        """Return the manifest as JSON. Equal manifests give equal text."""
        facts = _without_defaults(self)
        facts["source"] = _without_defaults(self.source)
        return json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse a manifest; raise BundleFormatError naming the first invalid field.

        Bytes are decoded as UTF-8. Objects with a repeated field are refused.
        """
        try:
            text = text.decode() if isinstance(text, bytes) else text
            value = json.loads(text, object_pairs_hook=without_repeats)
        except (ValueError, RecursionError) as error:
            raise wrong(f"manifest.json is not JSON: {error}") from error
        version = value.get("format_version") if isinstance(value, dict) else None
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise BundleFormatError(
                f"manifest.json has format_version {reprlib.repr(version)} and this version of "
                f"embedrt reads 1 to {FORMAT_VERSION}; install the embedrt that made the bundle, "
                "or export the model again"
            )
        manifest = decode(_upgrade(value) if version == 1 else value, cls, "manifest.json")
        assert isinstance(manifest, cls)  # for the type checker
        _check_values(manifest)
        return manifest


def describe_pooling(manifest: Manifest) -> str:
    """Return the pooling of an embedding model, for people: ``cls + mean, without the prompt``."""
    left_out = "" if manifest.prompt_endings is None else ", without the prompt"
    return " + ".join(manifest.pooling) + left_out


def _without_defaults(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, without optional ones that have their default."""
    facts = dataclasses.asdict(value)
    return {f.name: facts[f.name] for f in dataclasses.fields(value) if facts[f.name] != f.default}


def _upgrade(fields: dict[str, Any]) -> dict[str, Any]:
    """Add to a manifest of version 1 the fields that version 2 makes explicit."""
    implied = {
        "task": "embedding",
        "inputs": _as_json(INPUTS["embedding"]),
        "outputs": _as_json(OUTPUTS["embedding"]),
    }
    if unknown := sorted(fields.keys() & implied.keys()):
        raise wrong(f"manifest.json has unknown fields: {reprlib.repr(unknown)}")
    return {**fields, **implied}


def _as_json(values: tuple[Value, ...]) -> list[dict[str, Any]]:
    return [{"name": v.name, "dtype": v.dtype, "axes": list(v.axes)} for v in values]


def _check_values(manifest: Manifest) -> None:
    task = manifest.task
    widest = MAX_VOCABULARY if task == "sparse" else MAX_DIMENSION
    for name, most in (("dimension", widest), ("max_tokens", MAX_TOKENS)):
        _check_range(name, getattr(manifest, name), most)
    inputs, outputs = INPUTS[task], OUTPUTS[task]
    every = inputs + FURTHER_INPUTS.get(task, ())
    for name, known in (("inputs", (inputs, every)), ("outputs", (outputs,))):
        if getattr(manifest, name) not in known:
            expected = " or ".join(dict.fromkeys(str(_as_json(values)) for values in known))
            raise wrong(f"manifest.json.{name} does not fit task {task!r}; expected {expected}")
    if manifest.max_characters is not None and manifest.max_characters < 1:
        raise wrong(
            f"manifest.json.max_characters is {reprlib.repr(manifest.max_characters)}; expected at "
            "least 1, or no such field"
        )
    if (manifest.precision == "int8") != (manifest.quantization is not None):
        expected = "an object" if manifest.precision == "int8" else "null"
        raise wrong(
            f"manifest.json.quantization does not fit precision {manifest.precision!r}; "
            f"expected {expected}"
        )
    _check_task(manifest)
    leaves_out = manifest.prompt_endings is not None
    if leaves_out != (POOLING_MASK in manifest.inputs) or (leaves_out and manifest.is_static):
        raise wrong(
            "manifest.json.prompt_endings and the input pooling_mask must occur together, and not "
            "in a static model"
        )
    default = manifest.default_prompt_name
    if default is not None and default not in manifest.prompts:
        raise wrong(
            f"manifest.json.default_prompt_name is {reprlib.repr(default)}; expected null or one "
            f"of {reprlib.repr(sorted(manifest.prompts))}"
        )


def _check_range(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise wrong(f"manifest.json.{name} is {reprlib.repr(value)}; expected 1 to {most}")


def _check_task(manifest: Manifest) -> None:
    """Check the fields that depend on the task."""
    task, reranking, sparse = manifest.task, manifest.reranking, manifest.sparse
    expected = QUANTIZATIONS.get(task, Quantization)
    if not isinstance(manifest.quantization, expected | None):
        raise wrong(f"manifest.json.quantization does not have the fields for task {task!r}")
    for name in ("reranking", "sparse", "late_interaction"):
        if (task == name.replace("_", "-")) != ((value := getattr(manifest, name)) is not None):
            wanted = "an object" if value is None else "no such field"
            raise wrong(f"manifest.json.{name} does not fit task {task!r}; expected {wanted}")
    if sparse is not None:
        most = sparse.max_active_dims
        _check_range("sparse.max_active_dims", 1 if most is None else most, MAX_VOCABULARY)
        longest = sparse.queries.max_tokens if sparse.queries else 1
        _check_range("sparse.queries.max_tokens", longest, MAX_TOKENS)
    if reranking is not None and len(reranking.labels) != manifest.dimension:
        raise wrong(
            f"manifest.json.reranking.labels has {len(reranking.labels)} names; expected "
            f"{manifest.dimension}, the dimension"
        )
    if (late := manifest.late_interaction) is not None:
        check_late(late, [value.name for value in manifest.inputs], MAX_TOKENS, MAX_VOCABULARY)
