"""The manifest: all metadata of a bundle.

The format is specified in ``models/README.md``. The manifest is the only source of metadata:
nothing is inferred from names, from ``tokenizer.json`` or from the graph.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
import sys
import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from embedrt.errors import BundleFormatError

FORMAT_VERSION = 2
MAX_DIMENSION = 1 << 16
MAX_TOKENS = 1 << 20
REMEDY = "copy or export the bundle again"  # ends the messages about damaged or invalid bundles

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len", "weightedmean", "lasttoken"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
Precision = Literal["fp32", "int8"]
Scheme = Literal["static", "row", "wide"]
Builder = Literal["fused", "traced"]
Side = Literal["left", "right"]
Task = Literal["embedding", "reranking", "sparse"]
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
    """Smallest cosine between an embedding and its reference. For a reranker, the cosine between
    the scores of all pairs and their references."""
    same_bytes: bool
    """Whether each text gives the same bytes alone and in batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How an int8 bundle was quantized, and its quality against fp32 on held-out texts."""

    scheme: Scheme
    """How activations are scaled: ``static`` per model, ``row`` per row, ``wide`` per row in 16
    bits."""
    rejected: tuple[str, ...]
    """Why each faster scheme was rejected."""
    texts: int
    mean_cosine: float
    first_percentile_cosine: float
    min_cosine: float
    rank_agreement: float
    """Mean share of a text's ten nearest neighbors that int8 and fp32 have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuantization:
    """How an int8 reranker was quantized, and its quality against fp32 on held-out queries."""

    scheme: Scheme
    """As in `Quantization`."""
    rejected: tuple[str, ...]
    """Why each faster scheme was rejected."""
    texts: int
    """Number of pairs."""
    kendall_tau: float
    """Kendall's tau between the orders of a query's documents in int8 and in fp32; the mean."""
    top_agreement: float
    """Mean share of a query's ten best documents that int8 and fp32 have in common."""
    score_error: float
    """Root mean square difference of a score, relative to the standard deviation of the scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranking:
    """What belongs to rerankers alone."""

    activation: ScoreActivation
    """Applied to the graph's scores unless the caller chooses another; the name in torch.nn."""
    labels: tuple[str, ...]
    """Names of the scores of a pair, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An input or output of the graph."""

    name: str
    dtype: ElementType
    axes: tuple[Axis, ...]
    """The meaning of each axis; the size of an output's last one is the manifest's `dimension`."""


TOKEN_IDS = Value(name="input_ids", dtype="int64", axes=("batch", "tokens"))
TOKEN_TYPES = Value(name="token_type_ids", dtype="int64", axes=("batch", "tokens"))

# Inputs and outputs of the graph, by task.
INPUTS: dict[Task, tuple[Value, ...]] = {
    "embedding": (TOKEN_IDS,),
    "reranking": (TOKEN_IDS,),
    "sparse": (TOKEN_IDS,),
}
FURTHER_INPUTS: dict[Task, tuple[Value, ...]] = {
    "reranking": (TOKEN_TYPES,),  # in families that tell the texts of a pair apart by type
}
QUANTIZATIONS: dict[Task, type] = {"reranking": ScoreQuantization}  # Quantization for others
OUTPUTS: dict[Task, tuple[Value, ...]] = {
    "embedding": (Value(name="embedding", dtype="float32", axes=("batch", "dimension")),),
    "reranking": (Value(name="scores", dtype="float32", axes=("batch", "labels")),),
    "sparse": (Value(name="weights", dtype="float32", axes=("batch", "vocabulary")),),
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
    """Components of an embedding, labels of a reranker, or tokens of a sparse encoder's
    vocabulary."""
    max_tokens: int
    """Number of tokens that a text is truncated to, including special tokens."""
    truncation_side: Side
    """The side from which tokens of a long text are dropped."""
    pooling: tuple[Pooling, ...]
    """Pooling modes; their results are concatenated in this order."""
    normalized: bool
    """Whether embeddings have length 1."""
    similarity: Similarity
    """The score that the model was trained for."""
    prompts: dict[str, str]
    """Texts to prepend to the input, by name; an empty prompt prepends nothing."""
    default_prompt_name: str | None
    """The prompt for texts that are neither queries nor documents, unless the caller chooses."""
    tools: dict[str, str]
    """Versions of the packages that made the bundle."""
    agreement: Agreement | None
    """None only while an export is still verifying the bundle."""
    quantization: Quantization | ScoreQuantization | None
    """None for fp32."""
    files: dict[str, FileEntry]
    """Every file of the bundle except the manifest, by name."""
    reranking: Reranking | None = None
    """For the task ``reranking``, otherwise None."""

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
            value = json.loads(text, object_pairs_hook=_without_repeats)
        except (ValueError, RecursionError) as error:
            raise _wrong(f"manifest.json is not JSON: {error}") from error
        version = value.get("format_version") if isinstance(value, dict) else None
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise BundleFormatError(
                f"manifest.json has format_version {reprlib.repr(version)} and this version of "
                f"embedrt reads 1 to {FORMAT_VERSION}; install the embedrt that made the bundle, "
                "or export the model again"
            )
        manifest = _decode(_upgrade(value) if version == 1 else value, cls, "manifest.json")
        assert isinstance(manifest, cls)  # for the type checker
        _check_values(manifest)
        return manifest


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
        raise _wrong(f"manifest.json has unknown fields: {reprlib.repr(unknown)}")
    return {**fields, **implied}


def _as_json(values: tuple[Value, ...]) -> list[dict[str, Any]]:
    return [{"name": v.name, "dtype": v.dtype, "axes": list(v.axes)} for v in values]


def _wrong(problem: str) -> BundleFormatError:
    return BundleFormatError(f"{problem}; {REMEDY}")


def _without_repeats(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object with these fields; raise ValueError for a repeated name.

    JSON parsers disagree about which of the repeated fields to use.
    """
    found = dict(fields)
    if len(found) < len(fields):
        names = [name for name, _ in fields]
        repeated = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"an object has {reprlib.repr(repeated)} twice")
    return found


def _check_values(manifest: Manifest) -> None:
    for name, most in (("dimension", MAX_DIMENSION), ("max_tokens", MAX_TOKENS)):
        if not 1 <= (value := getattr(manifest, name)) <= most:
            raise _wrong(f"manifest.json.{name} is {reprlib.repr(value)}; expected 1 to {most}")
    task = manifest.task
    inputs, outputs = INPUTS[task], OUTPUTS[task]
    every = inputs + FURTHER_INPUTS.get(task, ())
    for name, known in (("inputs", (inputs, every)), ("outputs", (outputs,))):
        if getattr(manifest, name) not in known:
            expected = " or ".join(dict.fromkeys(str(_as_json(values)) for values in known))
            raise _wrong(f"manifest.json.{name} does not fit task {task!r}; expected {expected}")
    if (manifest.precision == "int8") != (manifest.quantization is not None):
        expected = "an object" if manifest.precision == "int8" else "null"
        raise _wrong(
            f"manifest.json.quantization does not fit precision {manifest.precision!r}; "
            f"expected {expected}"
        )
    _check_task(manifest)
    default = manifest.default_prompt_name
    if default is not None and default not in manifest.prompts:
        raise _wrong(
            f"manifest.json.default_prompt_name is {reprlib.repr(default)}; expected null or one "
            f"of {reprlib.repr(sorted(manifest.prompts))}"
        )


def _check_task(manifest: Manifest) -> None:
    """Check what belongs to one task alone."""
    task, found = manifest.task, manifest.reranking
    expected = QUANTIZATIONS.get(task, Quantization)
    if not isinstance(manifest.quantization, expected | None):
        raise _wrong(f"manifest.json.quantization has not the fields for task {task!r}")
    if (task == "reranking") != (found is not None):
        wanted = "an object" if task == "reranking" else "no such field"
        raise _wrong(f"manifest.json.reranking does not fit task {task!r}; expected {wanted}")
    if found is not None and len(found.labels) != manifest.dimension:
        raise _wrong(
            f"manifest.json.reranking.labels has {len(found.labels)} names; expected "
            f"{manifest.dimension}, the dimension"
        )


def _decode(value: object, kind: Any, place: str) -> Any:  # noqa: PLR0911 - one a kind
    """Decode a JSON value as `kind`, without accepting missing, unknown or converted fields."""
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(value, kind, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in arguments:
            raise _wrong(f"{place} is {reprlib.repr(value)}; expected one of {list(arguments)}")
        return value
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not types.NoneType]
        return None if value is None else _decode(value, _most_alike(value, inner), place)
    if origin is tuple:
        items = _expect(value, list, place)
        return tuple(_decode(item, arguments[0], f"{place}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        items = _expect(value, dict, place)
        return {
            _expect(key, str, place): _decode(item, arguments[1], _inside(place, key))
            for key, item in items.items()
        }
    if kind is float:
        return _decode_number(value, place)
    return _expect(value, kind, place)


def _most_alike(value: object, kinds: list[Any]) -> Any:
    """Return the dataclass that has the most of an object's fields, or the only kind."""
    if len(kinds) == 1 or not isinstance(value, dict):
        return kinds[0]
    return max(kinds, key=lambda kind: len(value.keys() & get_type_hints(kind).keys()))


def _decode_dataclass(value: object, kind: Any, place: str) -> Any:
    fields = _expect(value, dict, place)
    hints = get_type_hints(kind)
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if missing := sorted(required - fields.keys()):
        raise _wrong(f"{place} lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - hints.keys()):
        raise _wrong(f"{place} has unknown fields: {reprlib.repr(unknown)}")
    return kind(
        **{
            name: _decode(fields[name], hint, f"{place}.{name}")
            for name, hint in hints.items()
            if name in fields
        }
    )


def _decode_number(value: object, place: str) -> float:
    number = value if type(value) is int else _expect(value, float, place)
    if not abs(number) <= sys.float_info.max:
        raise _wrong(f"{place} is {reprlib.repr(number)}; expected a finite number")
    return float(number)


def _expect(value: object, kind: Any, place: str) -> Any:
    if type(value) is not kind:
        raise _wrong(
            f"{place} is {reprlib.repr(value)} ({type(value).__name__}); expected {kind.__name__}"
        )
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _wrong(f"{place} has an unpaired surrogate at {error.start}") from error
    return value


def _inside(place: str, name: str) -> str:
    """Return the path of a field for error messages, with long names shortened."""
    short = len(name) <= 60 and name.isprintable()
    return f"{place}.{name}" if short else f"{place}[{reprlib.repr(name)}]"
