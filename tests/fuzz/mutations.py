"""Random mutations of bundles, reproducible from a seed and a number."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from embedrt.bundle.reader import CARD, GRAPH, MANIFEST, PROBES, TOKENIZER, describe_file
from embedrt.bundle.weights import WEIGHTS
from fuzz.graphs import mutate_graph
from fuzz.odd_values import NUMBERS, STRINGS, mutate_bytes
from fuzz.seed_corpus import Files, seed_corpus

CORPUS = seed_corpus()
KINDS = (GRAPH, GRAPH, GRAPH, WEIGHTS, TOKENIZER, TOKENIZER, MANIFEST, PROBES, CARD, "folder")
NAMES = (GRAPH, WEIGHTS, TOKENIZER, PROBES, CARD, MANIFEST)
DEEP, TWICE = "\0deep", "\0twice"  # placeholders, replaced in the JSON text


def write_mutated(seed: int, folder: Path, number: int) -> str:
    """Write the mutated bundle with this number; return a description of the mutation."""
    random = Random(f"{seed} {number}")
    origin = random.randrange(len(CORPUS))
    files, manifest = dict(CORPUS[origin][0]), CORPUS[origin][1]
    kind = random.choice(KINDS)
    done = []
    times = random.choice((1, 1, 1, 2, 4))
    if kind in files:
        for _ in range(times):
            files[kind], what = _mutate_file(kind, files[kind], random)
            done.append(what)
    sealed = random.random() < 0.75
    _write(folder, files if sealed else CORPUS[origin][0])
    entries = {name: describe_file(folder / name) for name in files}
    text = json.loads(manifest.to_json())
    text["files"] = {name: {"size": e.size, "sha256": e.sha256} for name, e in entries.items()}
    content = json.dumps(text).encode()
    if kind == MANIFEST:
        for _ in range(times):
            content, what = random.choice((mutate_bytes, _mutate_json))(content, random)
            done.append(what)
    _write(folder, {**files, MANIFEST: content})
    if kind == "folder":
        done.append(_mutate_folder(folder, random))
    return f"seed {origin}, {'sealed' if sealed else 'unsealed'}, {kind}: {', '.join(done)}"


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _mutate_file(name: str, content: bytes, random: Random) -> tuple[bytes, str]:
    structured = {GRAPH: mutate_graph, TOKENIZER: _mutate_json, PROBES: _mutate_json}
    if name in structured and random.random() < 0.75:
        return structured[name](content, random)
    return mutate_bytes(content, random)


def _mutate_folder(folder: Path, random: Random) -> str:
    name, other = random.choice(NAMES), random.choice(NAMES)
    file, spare = folder / name, folder / "spare"
    shutil.copy(file, spare)
    ways: dict[str, Callable[[], object]] = {
        "emptied": lambda: file.write_bytes(b""),
        "in place of another": lambda: shutil.copy(file, folder / other) if name != other else None,
    }
    gone: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "link": lambda: file.symlink_to(spare),
        "link to a folder": lambda: file.symlink_to(folder),
        "broken link": lambda: file.symlink_to(folder / "nowhere"),
        "device": lambda: file.symlink_to("/dev/zero"),
        "folder": file.mkdir,
        "pipe": lambda: os.mkfifo(file),
    }
    way = random.choice([*ways, *gone])
    if way in gone:
        file.unlink()
    {**ways, **gone}[way]()
    return f"{name} {way}"


def _mutate_json(content: bytes, random: Random) -> tuple[bytes, str]:
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return mutate_bytes(content, random)
    holders = [holder for holder in _holders(whole) if holder]
    if not holders:
        return mutate_bytes(content, random)
    holder = random.choice(holders)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    way = random.choice(("replaced", "replaced", "removed", "added", "swapped"))
    if way == "removed":
        del holder[key]
    elif way == "added" and isinstance(holder, dict):
        holder[random.choice((TWICE, *STRINGS))] = _any_json(random)
    elif way == "added":
        holder.insert(key, _any_json(random))
    elif way == "swapped":
        other = random.choice(holders)
        spot = random.choice(list(other) if isinstance(other, dict) else range(len(other)))
        holder[key] = json.loads(json.dumps(other[spot]))
    else:
        holder[key] = _any_json(random)
    text = json.dumps(whole, ensure_ascii=random.random() < 0.5)
    depth = random.choice((10, 120, 5000, 100_000))
    text = text.replace(json.dumps(DEEP), "[" * depth + "]" * depth)
    text = text.replace(json.dumps(TWICE), json.dumps(key))
    return text.encode(errors="surrogatepass"), f"{way} at {str(key)[:40]!r}"


def _holders(value: object) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _any_json(random: Random) -> object:
    plain: tuple[object, ...] = (
        None,
        True,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        [],
        {},
        [[]],
        {"type": "BPE"},
        DEEP,
    )
    return random.choice((*plain, *NUMBERS, *STRINGS))
