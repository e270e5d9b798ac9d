"""Tests that manifests are parsed strictly and that errors name the field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedrt import Manifest
from embedrt.bundle.manifest import (
    FORMAT_VERSION,
    MAX_DIMENSION,
    POOLING_MASK,
    TOKEN_IDS,
    FileEntry,
    Source,
)
from embedrt.bundle.quantization import Quantization
from embedrt.errors import BundleFormatError
from tiny_bundle import tiny_manifest

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MAPPINGS = st.dictionaries(TEXT, TEXT, max_size=3)
FULL = tiny_manifest(
    source=Source(
        id="someone/tiny", origin="hub", revision="0" * 40, license="mit", weights={"w": "00"}
    ),
    prompts={"query": "query: "},
    default_prompt_name="query",
    precision="int8",
    quantization=Quantization(
        scheme="row",
        rejected=("static: too coarse",),
        texts=2,
        mean_cosine=0.999,
        first_percentile_cosine=0.998,
        min_cosine=0.997,
        rank_agreement=0.9,
    ),
    files={"README.md": FileEntry(size=3, sha256="ab")},
)
REMEDY = "; copy or export the bundle again"
NEW = ("task", "inputs", "outputs")  # fields that version 2 added
Path = tuple[str | int, ...]


def content() -> dict[str, Any]:
    """Return the JSON of a complete manifest."""
    parsed: dict[str, Any] = json.loads(FULL.to_json())
    return parsed


def paths(value: object, place: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a JSON value except the root."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*place, key)
        yield from paths(inner, (*place, key))


def named(place: Path) -> str:
    """Return a path as error messages format it."""
    return "manifest.json" + "".join(
        f"[{key}]" if isinstance(key, int) else f".{key}" for key in place
    )


def changed(place: Path, change: Callable[[Any, Any], None]) -> str:
    """Return the manifest's JSON after `change` was called with a path's container and key."""
    whole = content()
    container: Any = whole
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    return json.dumps(whole)


def at(place: Path) -> Any:
    value: Any = content()
    for key in place:
        value = value[key]
    return value


PLACES = list(paths(content()))
FREE = {"prompts", "weights", "tools", "files"}  # mappings with arbitrary keys
FIELDS = [place for place in PLACES if not (len(place) > 1 and place[-2] in FREE)]
FIELDS = [place for place in FIELDS if isinstance(place[-1], str)]
OBJECTS = [
    (),
    *(place for place in PLACES if isinstance(at(place), dict) and place[-1] not in FREE),
]

OPTIONAL = {"revision", "license", "default_prompt_name", "agreement"}


def fits(place: Path, value: object) -> bool:
    """Whether a value of this type is valid at a path."""
    right = at(place)
    number = isinstance(right, float) and type(value) is int
    return type(value) is type(right) or number or (value is None and place[-1] in OPTIONAL)


KINDS: tuple[object, ...] = (True, 3, 2.5, "other", [[]], {"a": 1}, None)
WRONG = [(place, kind) for place in PLACES for kind in KINDS if not fits(place, kind)]


@given(
    prompts=MAPPINGS,
    tools=MAPPINGS,
    name=TEXT,
    dimension=st.integers(1, MAX_DIMENSION),
    difference=st.floats(allow_nan=False, allow_infinity=False),
    files=st.dictionaries(TEXT, st.builds(FileEntry, size=st.integers(), sha256=TEXT), max_size=3),
    pooling=st.lists(st.sampled_from(["cls", "mean", "lasttoken"])).map(tuple),
)
def test_round_trip(difference: float, **facts: Any) -> None:
    agreement = FULL.agreement
    assert agreement is not None
    agreement = dataclasses.replace(agreement, max_difference=difference)
    manifest = tiny_manifest(agreement=agreement, **facts)
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text.encode()).to_json() == text


def test_a_mask_and_the_endings_of_prompts_belong_together() -> None:
    masked = (TOKEN_IDS, POOLING_MASK)
    manifest = tiny_manifest(inputs=masked, prompt_endings=(2,))
    assert Manifest.from_json(manifest.to_json()) == manifest
    for wrong in (
        tiny_manifest(inputs=masked),
        tiny_manifest(prompt_endings=()),
        tiny_manifest(inputs=masked, prompt_endings=(2,), family="static"),
    ):
        with pytest.raises(BundleFormatError, match="prompt_endings"):
            Manifest.from_json(wrong.to_json())


def test_missing_measurements_round_trip() -> None:
    manifest = tiny_manifest(agreement=None)
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("place", FIELDS, ids=named)
def test_missing_field_is_named(place: Path) -> None:
    def remove(container: Any, key: Any) -> None:
        del container[key]

    version = place == ("format_version",)
    expected = "format_version None" if version else f"{named(place[:-1])} lacks {place[-1]}"
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(changed(place, remove))
    assert expected in str(caught.value)
    assert str(caught.value).endswith("again")


@pytest.mark.parametrize("place", OBJECTS, ids=named)
def test_unknown_field_is_named(place: Path) -> None:
    def add(container: Any, key: Any) -> None:
        container[key] = None

    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(changed((*place, "surprise"), add))
    assert str(caught.value) == f"{named(place)} has unknown fields: ['surprise']{REMEDY}"


@pytest.mark.parametrize(("place", "wrong"), WRONG)
def test_field_of_the_wrong_kind_is_named(place: Path, wrong: object) -> None:
    def replace(container: Any, key: Any) -> None:
        container[key] = wrong

    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(changed(place, replace))
    assert named(place).removeprefix("manifest.json.") in str(caught.value)
    assert str(caught.value).endswith("again")


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("builder", "handmade", "fused"),
        ("task", "rerank", "embedding"),
        ("precision", "fp7", "fp32"),
        ("truncation_side", "middle", "left"),
        ("similarity", "jaccard", "cosine"),
        ("pooling", ["median"], "mean_sqrt_len"),
        ("dimension", 0, "expected 1 to 65536"),
        ("dimension", 65_537, "expected 1 to 65536"),
        ("dimension", 10**4000, "expected 1 to 65536"),
        ("max_tokens", -1, "expected 1 to 1048576"),
        ("max_tokens", 2**63, "expected 1 to 1048576"),
        ("default_prompt_name", "querry", "query"),
    ],
)
def test_value_out_of_range_is_named_with_the_valid_ones(name: str, value: Any, good: str) -> None:
    with pytest.raises(
        BundleFormatError, match=rf"^manifest\.json\.{name}.* is .*{good}"
    ) as caught:
        Manifest.from_json(json.dumps({**content(), name: value}))
    assert str(caught.value).endswith(REMEDY)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0, "1", None, [1], True, 1.0])
def test_unknown_version(version: object) -> None:
    with pytest.raises(BundleFormatError, match=r"format_version"):
        Manifest.from_json(json.dumps({**content(), "format_version": version}))


def test_a_later_version_is_reported_before_its_fields_are_checked() -> None:
    with pytest.raises(BundleFormatError, match="format_version 3") as caught:
        Manifest.from_json('{"format_version": 3, "unheard-of": true}')
    assert str(caught.value) == (
        "manifest.json has format_version 3 and this version of embedrt reads 1 to 2; install the "
        "embedrt that made the bundle, or export the model again"
    )


class TestVersion1:
    """Manifests of version 1 lack the fields that version 2 added."""

    def old(self, **changes: Any) -> str:
        facts = {name: value for name, value in content().items() if name not in NEW}
        return json.dumps({**facts, "format_version": 1, **changes})

    def test_implied_fields_are_added(self) -> None:
        assert Manifest.from_json(self.old()) == dataclasses.replace(FULL, format_version=1)

    @pytest.mark.parametrize("name", NEW)
    def test_it_has_none_of_the_new_fields(self, name: str) -> None:
        with pytest.raises(BundleFormatError) as caught:
            Manifest.from_json(self.old(**{name: content()[name]}))
        assert str(caught.value) == f"manifest.json has unknown fields: ['{name}']{REMEDY}"

    def test_it_is_read_as_strictly(self) -> None:
        with pytest.raises(BundleFormatError, match=r"^manifest\.json\.dimension is 0"):
            Manifest.from_json(self.old(dimension=0))
        with pytest.raises(BundleFormatError, match=r"has unknown fields: \['surprise'\]"):
            Manifest.from_json(self.old(surprise=1))


@pytest.mark.parametrize("name", ["inputs", "outputs"])
@pytest.mark.parametrize("change", ["missing", "twice", "name", "dtype", "axes"])
def test_inputs_and_outputs_are_those_of_the_task(name: str, change: str) -> None:
    (value,) = content()[name]
    other = {
        "name": "token_type_ids",
        "dtype": "float32" if name == "inputs" else "int64",
        "axes": ["batch"],
    }
    wrong = {"missing": [], "twice": [value, value]}
    values = wrong[change] if change in wrong else [{**value, change: other[change]}]
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(json.dumps({**content(), name: values}))
    expected = f"{[value]}"
    if name == "inputs":
        expected += f" or {[value, {**value, 'name': 'pooling_mask'}]}"
    assert str(caught.value) == (
        f"manifest.json.{name} does not fit task 'embedding'; expected {expected}{REMEDY}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        b"\xff\xff",
        FULL.to_json().encode("utf-16"),
        FULL.to_json().encode("utf-8-sig"),
        FULL.to_json().encode().replace(b"tiny", b"\xed\xa0\x80"),
        FULL.to_json().encode().replace(b"tiny", b"t\xffny"),
        '{"format_version": 1',
        "[" * 100_000,
        '{"format_version":' * 100_000,
        "1" * 100_000,
    ],
    ids=lambda text: repr(text[:10]),
)
def test_invalid_json(text: str | bytes) -> None:
    with pytest.raises(BundleFormatError, match=r"^manifest\.json is not JSON: ") as caught:
        Manifest.from_json(text)
    assert str(caught.value).endswith(REMEDY)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("place", OBJECTS, ids=named)
def test_a_field_given_twice(place: Path) -> None:
    """Of two equal names, Python takes the last and others the first, so parsers would disagree."""

    def mark(container: Any, key: Any) -> None:
        container[key] = container[next(iter(container))]

    first = next(iter(at(place)))
    text = changed((*place, "mark"), mark).replace('"mark"', f'"{first}"')
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(text)
    assert str(caught.value) == f"manifest.json is not JSON: an object has '{first}' twice{REMEDY}"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_not_finite(number: str) -> None:
    text = FULL.to_json().replace('"tolerance": 1e-06', f'"tolerance": {number}')
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(text)
    message = str(caught.value)
    assert message.startswith("manifest.json.agreement.tolerance is ")
    assert message.endswith(f"; expected a finite number{REMEDY}")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_unreadable_numbers_are_not_written(number: float) -> None:
    assert FULL.agreement is not None
    agreement = dataclasses.replace(FULL.agreement, tolerance=number)
    with pytest.raises(ValueError, match="not JSON compliant"):
        tiny_manifest(agreement=agreement).to_json()


@pytest.mark.parametrize(
    "place", [("name",), ("prompts", "query"), ("quantization", "rejected", 0)]
)
def test_unpaired_surrogate(place: Path) -> None:
    """A string with an unpaired surrogate can be neither printed nor tokenized."""

    def replace(container: Any, key: Any) -> None:
        container[key] = "a\ud800"

    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(changed(place, replace))
    assert str(caught.value) == f"{named(place)} has an unpaired surrogate at 1{REMEDY}"


def test_unpaired_surrogate_in_a_name() -> None:
    text = json.dumps({**content(), "prompts": {"\ud800": ""}, "default_prompt_name": None})
    with pytest.raises(
        BundleFormatError, match=r"^manifest\.json\.prompts has an unpaired surrogate"
    ):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"x" * 500_000: 1},
        {f"unknown {i}": 1 for i in range(10_000)},
        {"name": ["x" * 500_000]},
        {"format_version": "x" * 500_000},
        {"precision": "x" * 500_000},
        {"default_prompt_name": "x" * 500_000},
        {"default_prompt_name": "x", "prompts": {f"name {i}": "" for i in range(10_000)}},
        {"prompts": {"x" * 500_000: 1}},
        {"prompts": {"\x1b[2J": 1}},
        {"tools": {"x\n" * 500_000: 1}},
    ],
    ids=lambda change: str(change)[:30],
)
def test_long_values_do_not_flood_the_error(change: dict[str, Any]) -> None:
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(json.dumps({**content(), **change}))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith("again")


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"', "{}"])
def test_json_that_is_not_a_manifest(text: str) -> None:
    with pytest.raises(BundleFormatError, match="format_version None"):
        Manifest.from_json(text)


@pytest.mark.parametrize("depth", range(1, 1000, 13))
def test_deep_nesting_is_an_error_like_any_other(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    whole = FULL.to_json().replace('"someone/tiny"', nested)
    with pytest.raises(BundleFormatError) as caught:
        Manifest.from_json(whole)
    assert len(str(caught.value)) < 230


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "null"), ("int8", "an object")])
def test_only_int8_has_quantization(precision: str, expected: str) -> None:
    manifest = json.loads(tiny_manifest().to_json()) | {"precision": precision}
    if precision == "fp32":
        manifest["quantization"] = content()["quantization"]
    with pytest.raises(BundleFormatError, match=rf"manifest.json.quantization .*{expected}"):
        Manifest.from_json(json.dumps(manifest))
