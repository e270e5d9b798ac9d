"""Tests of weights in a file beside the graph: moving them, refusals, and shared memory."""

from __future__ import annotations

import errno
import mmap
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedrt import Bundle, Embedder
from embedrt.bundle.graph_rules import check_graph
from embedrt.bundle.memory import load_file
from embedrt.bundle.protobuf import Span, find_graph, read_fields, text_of
from embedrt.bundle.reader import GRAPH
from embedrt.bundle.weights import ALIGNMENT, MINIMUM_SIZE, WEIGHTS, move_weights
from embedrt.bundle.writer import staged_bundle
from embedrt.errors import BundleFormatError
from tiny_bundle import (
    WORDS,
    Field,
    described,
    make_tiny,
    message,
    model,
    node,
    outside,
    tensor,
    tiny_graph,
    tiny_manifest,
    tiny_tokenizer,
    varint,
)

TABLE = np.eye(WORDS, dtype=np.float32)
SIZE = 1024  # bytes of the weights file in malicious bundles
REMEDY = "; copy or export the bundle again"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def parts(graph: bytes, weights: bytes) -> dict[str, tuple[bytes, bool]]:
    """Return each tensor's data by name, and whether it was in the graph."""
    found = {}
    outline, _ = find_graph(graph)
    for number, span in read_fields(graph, outline):
        if number == 5:
            fields = list(read_fields(graph, span))
            raw = [graph[s.start : s.stop] for n, s in fields if n == 9]
            place = dict(entry(graph, s) for n, s in fields if n == 13)
            start = int(place.get("offset", 0))
            data = raw[0] if raw else weights[start : start + int(place["length"])]
            found[text_of(graph, fields, 8)] = data, bool(raw)
    return found


def entry(graph: bytes, span: Span) -> tuple[str, str]:
    fields = list(read_fields(graph, span))
    return text_of(graph, fields, 1), text_of(graph, fields, 2)


def moved(folder: Path, graph: bytes) -> tuple[bytes, bytes]:
    """Return the graph without its weights, and the weights."""
    with (folder / WEIGHTS).open("wb") as file:
        outline = move_weights(graph, file)
    return outline, (folder / WEIGHTS).read_bytes()


class TestMoving:
    @given(sizes=st.lists(st.integers(0, 2 * MINIMUM_SIZE // 4), min_size=1, max_size=8))
    def test_every_byte_is_kept_and_large_tensors_lie_outside(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
    ) -> None:
        folder = tmp_path_factory.mktemp("moved")
        arrays = {f"t{i}": np.arange(i, i + n, dtype=np.float32) for i, n in enumerate(sizes)}
        tensors: list[Field] = [(5, tensor(name, array)) for name, array in arrays.items()]
        identity: Field = (1, node("Identity", ["input_ids"], "embedding"))
        outline, weights = moved(folder, model(identity, *tensors))
        found = parts(outline, weights)
        assert found == {
            name: (array.tobytes(), array.nbytes < MINIMUM_SIZE) for name, array in arrays.items()
        }
        (folder / GRAPH).write_bytes(outline)
        check_graph(folder / GRAPH, len(weights))

    def test_moving_twice_changes_nothing(self, tmp_path: Path) -> None:
        outline, _ = moved(tmp_path, tiny_graph(TABLE))
        again, weights = moved(tmp_path, outline)
        assert (again, weights) == (outline, b"")

    @pytest.mark.parametrize(
        "extra",
        [
            (9, bytes(4 * WORDS * WORDS)),
            (12, "a comment"),
        ],
    )
    def test_fields_that_change_nothing(self, tmp_path: Path, extra: Field) -> None:
        """If data is given twice, protobuf takes the last."""
        graph = model((5, tensor("table", TABLE, extra)))
        outline, weights = moved(tmp_path, graph)
        assert len(weights) == TABLE.nbytes
        assert weights == (bytes(TABLE.nbytes) if extra[0] == 9 else TABLE.tobytes())
        assert (b"a comment" in outline) == (extra[0] == 12)

    @pytest.mark.parametrize(
        "odd",
        [
            tensor("odd", TABLE, (3, b"")),  # a segment
            tensor("odd", TABLE, (16, message((1, "key"), (2, "value")))),
            described("odd", TABLE, (4, TABLE.tobytes())),  # data in a typed field
            tensor("odd", TABLE, (2, 9)),  # booleans
            tensor("odd", TABLE, (2, 8)),  # strings
        ],
        ids=["segment", "metadata", "float_data", "booleans", "strings"],
    )
    def test_unusual_tensors_are_not_moved(self, tmp_path: Path, odd: bytes) -> None:
        graph = model((5, odd))
        assert moved(tmp_path, graph) == (graph, b"")


def bundle_of(folder: Path, *tensors: bytes, weights: int = SIZE) -> Path:
    """Make a tiny bundle with additional tensors and a weights file of `weights` bytes."""
    graph = model(
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("ReduceSum", ["rows", "axes"], "embedding", (5, NOT_KEPT))),
        (5, tensor("table", TABLE)),
        (5, tensor("axes", np.array([1]))),
        *((5, content) for content in tensors),
    )
    with staged_bundle(folder) as staging:
        staging.add(GRAPH, graph)
        staging.add(WEIGHTS, bytes(weights))
        staging.add("tokenizer.json", tiny_tokenizer().to_str().encode())
        staging.add("probes.json", b"[]")
        staging.add("README.md", b"# tiny\n")
        staging.seal(tiny_manifest())
        staging.publish()
    return folder


NOT_KEPT = message((1, "keepdims"), (3, 0), (20, 2))
ROW = np.zeros(16, np.float32)  # 64 bytes


def place(*entries: bytes, where: tuple[Field, ...] = ((14, 1),)) -> bytes:
    return described("t", ROW, *((13, content) for content in entries), *where)


def pair(key: str, text: str) -> bytes:
    return message((1, key), (2, text))


LOCATION, OFFSET, LENGTH = pair("location", WEIGHTS), pair("offset", "0"), pair("length", "64")
WHOLE = (LOCATION, OFFSET, LENGTH)

HOSTILE: dict[str, list[tuple[bytes, ...]]] = {
    "a tensor has its data in {}": [
        (outside("t", ROW, 0, location=location),)
        for location in (
            "/etc/passwd",
            "../weights.bin",
            "./weights.bin",
            "sub/weights.bin",
            "model.onnx",
            "WEIGHTS.BIN",
            "weights.bin\0",
            "",
            "*/_ORT_MEM_ADDR_/*",
        )
    ],
    "a tensor has the offset {} in weights.bin": [
        (outside("t", ROW, 0, offset=offset),)
        for offset in ("-64", "+64", " 64", "064", "6e1", "0x40", "64.0", "", "٦٤", "9" * 400)
    ],
    "a tensor has the length {} in weights.bin": [
        (outside("t", ROW, 0, length=length),) for length in ("-1", "", "1e2", "9" * 30)
    ],
    "a tensor lies at {} of weights.bin, not a multiple of 64": [
        (outside("t", ROW, offset),) for offset in (1, 32, 63, 65)
    ],
    "a tensor ends at {} of weights.bin, which has 1024 bytes": [
        (outside("t", ROW, 1024),),
        (outside("t", ROW, 64 * (1 << 30)),),
        (outside("t", np.zeros(257, np.float32), 0),),
        (outside("t", ROW, 0, length="999999999999"),),
        (outside("t", ROW, 0, offset=str(64 * 10**10)),),
    ],
    "a tensor has {} bytes in weights.bin, which do not fit its shape": [
        (outside("t", ROW, 0, length="60"),),
        (outside("t", ROW, 0, length="128"),),
        (outside("t", ROW, 0, length="0"),),
        (outside("t", np.zeros((4, 0), np.float32), 0),),
        (place(*WHOLE, where=((14, 1), (1, 2**63))),),  # another dimension, -2**63 in protobuf
        (place(*WHOLE, where=((14, 1), *([(1, 2**40)] * 5000))),),
        (place(*WHOLE, where=((14, 1), (1, varint(2) * 50))),),  # packed
        (place(*WHOLE, where=((14, 1), (2, 8))),),  # strings
        (place(*WHOLE, where=((14, 1), (2, 0))),),
        (place(*WHOLE, where=((14, 1), (2, (1 << 32) + 1))),),
    ],
    "two tensors share bytes of weights.bin": [
        (outside("t", ROW, 64), outside("u", ROW, 64)),
        (outside("t", np.zeros(33, np.float32), 0), outside("u", ROW, 128)),
        (outside("u", ROW, 960), outside("v", ROW, 64), outside("t", np.zeros(256, np.float32), 0)),
    ],
    "a tensor has the external_data keys {}": [
        (place(),),
        (place(LOCATION),),
        (place(OFFSET, LENGTH),),
        (place(*WHOLE, pair("checksum", "0" * 40)),),
        (place(*WHOLE, pair("prepacked_0", "Gemm+1|0|64")),),
        (place(*WHOLE, pair("location", "/etc/passwd")),),
        (place(*WHOLE, OFFSET),),
        (place(LOCATION, pair("Offset", "0"), LENGTH),),
    ],
    "a tensor has an external_data entry that is not a key with a value": [
        (place(LOCATION, OFFSET, b""),),
        (place(LOCATION, OFFSET, LENGTH + message((2, "128"))),),
        (place(LOCATION, OFFSET, message((2, "64"), (1, "length"))),),
        (place(LOCATION, OFFSET, message((1, "length"), (2, 64))),),
        (place(*WHOLE[:2], where=((13, 64), (14, 1))),),
    ],
    "a tensor must have data_location EXTERNAL exactly once": [
        (place(*WHOLE, where=()),),
        (place(*WHOLE, where=((14, 0),)),),
        (place(*WHOLE, where=((14, 2),)),),
        (place(*WHOLE, where=((14, (1 << 32) + 1),)),),
        (place(*WHOLE, where=((14, 0), (14, 1))),),
        (place(*WHOLE, where=((14, "1"),)),),
        (tensor("t", ROW, (14, 0)),),
    ],
    "a tensor in weights.bin has fields {} as well": [
        (outside("t", ROW, 0) + message((field, content)),)
        for field, content in ((9, ROW.tobytes()), (4, ROW.tobytes()), (3, b""), (16, b""))
    ],
}
CASES = [(words, tensors) for words, cases in HOSTILE.items() for tensors in cases]


class TestHostile:
    @pytest.mark.parametrize(("words", "tensors"), CASES)
    def test_is_refused(self, tmp_path: Path, words: str, tensors: tuple[bytes, ...]) -> None:
        bundle = bundle_of(tmp_path / "tiny", *tensors)
        with pytest.raises(BundleFormatError) as caught:
            Embedder.load(bundle)
        start, _, end = f"{bundle / GRAPH}: {words}{REMEDY}".partition("{}")
        text = str(caught.value)
        assert text.startswith(start)
        assert text.endswith(end)
        assert len(text) - len(str(bundle)) < 250

    @pytest.mark.parametrize("attribute", [5, 10])
    def test_in_an_attribute(self, tmp_path: Path, attribute: int) -> None:
        value = message((1, "value"), (attribute, outside("t", ROW, 0)))
        graph = model((1, node("Constant", [], "embedding", (5, value))))
        (tmp_path / GRAPH).write_bytes(graph)
        with pytest.raises(BundleFormatError, match="a tensor whose data lies in another file"):
            check_graph(tmp_path / GRAPH, SIZE)

    def test_similar_valid_tensors_are_accepted(self, tmp_path: Path) -> None:
        tensors = [
            outside("a", ROW, 0),
            outside("b", ROW, 64),
            outside("c", np.zeros((8, 5), np.float32), 128),
            outside("d", np.zeros(1, np.int64), 960),
            tensor("e", ROW),
            message((1, varint(4) + varint(4)), (2, 1), (8, "f"))  # packed dimensions
            + message((13, LOCATION), (13, pair("offset", "512")), (13, LENGTH), (14, 1)),
        ]
        with Embedder.load(bundle_of(tmp_path / "tiny", *tensors)) as embedder:
            assert embedder.encode("w1").argmax() == 1

    def test_fifty_bad_ones_do_not_flood_the_error(self, tmp_path: Path) -> None:
        tensors = [outside(f"t{i}", ROW, 0, location="x" * 10**5 + str(i)) for i in range(50)]
        with pytest.raises(BundleFormatError) as caught:
            Embedder.load(bundle_of(tmp_path / "tiny", *tensors))
        assert len(str(caught.value)) < 1500

    def test_not_in_version_1(self, tmp_path: Path) -> None:
        """A bundle of version 1 has no weights file."""
        (tmp_path / GRAPH).write_bytes(model((5, outside("t", ROW, 0))))
        (tmp_path / WEIGHTS).write_bytes(bytes(SIZE))
        with pytest.raises(BundleFormatError, match="a tensor whose data lies in another file"):
            check_graph(tmp_path / GRAPH)


def mappings(file: Path, field: str) -> list[int]:
    """Return a field of /proc/self/smaps, in kB, for each mapping of a file."""
    found: list[int] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(" ")
        if "-" in name:
            inside = line.endswith(f" {file}")
        elif inside and name == f"{field}:":
            found.append(int(rest.split()[0]))
    return found


@ON_LINUX
class TestMapped:
    def test_one_copy_for_both_sessions_and_all_processes(self, minilm: Path) -> None:
        """All pages are those of the file: none is private to this process."""
        with Embedder.load(minilm, threads=2) as embedder:
            once = len(mappings(minilm / WEIGHTS, "Rss"))
            embedder.encode([f"text {number}" for number in range(50)])
            table = 0.5 * (minilm / WEIGHTS).stat().st_size / 1024
            assert sum(mappings(minilm / WEIGHTS, "Size")) > table
            assert sum(mappings(minilm / WEIGHTS, "Rss")) > 100
            assert sum(mappings(minilm / WEIGHTS, "Anonymous")) == 0
            while not embedder._engine._sessions.loading:
                embedder.encode("alone")
            embedder._engine._sessions.loading.result(timeout=60)
            assert embedder._engine._sessions.all_cores
            # Linux merges adjacent mappings, and other tests may have mapped the file, too.
            assert once < len(mappings(minilm / WEIGHTS, "Rss")) <= 2 * once
            assert sum(mappings(minilm / WEIGHTS, "Anonymous")) == 0

    def test_truncating_the_file_kills_the_process(self, tiny: Path) -> None:
        program = (
            "import os, sys\nfrom embedrt import Embedder\n"
            "embedder = Embedder.load(sys.argv[1], mapped=sys.argv[2] == 'mapped')\n"
            "os.truncate(sys.argv[1] + '/weights.bin', 0)\n"
            "sys.exit(int(embedder.encode('w3').argmax()))\n"
        )

        def status(how: str) -> int:
            command = [sys.executable, "-c", program, str(tiny), how]
            return subprocess.run(command, check=False, timeout=60).returncode

        whole = (tiny / WEIGHTS).read_bytes()
        assert status("mapped") == -signal.SIGBUS
        (tiny / WEIGHTS).write_bytes(whole)
        assert status("read") == 3


class TestRead:
    @ON_LINUX
    def test_the_file_is_not_mapped(self, tiny: Path) -> None:
        with Embedder.load(tiny) as embedder:
            assert mappings(tiny / WEIGHTS, "Size")
            expected = embedder.encode("w1 w2").tobytes()
        del embedder
        with Embedder.load(tiny, mapped=False) as embedder:
            assert not mappings(tiny / WEIGHTS, "Size")
            assert embedder.encode("w1 w2").tobytes() == expected

    @pytest.mark.parametrize("copy", [lambda e: e, lambda e: pickle.loads(pickle.dumps(e))])
    def test_the_same_bytes_after_the_file_is_gone(
        self, minilm_with: Callable[..., Path], copy: Callable[[Embedder], Embedder]
    ) -> None:
        bundle = minilm_with(name="to be spoiled")
        texts = ["a text", "another", "London " * 50]
        with Embedder.load(bundle) as embedder:
            expected = embedder.encode(texts).tobytes()
        with copy(Embedder.load(bundle, mapped=False, threads=2)) as embedder:
            (bundle / WEIGHTS).unlink()
            assert embedder.encode(texts).tobytes() == expected
            assert embedder._load_again.keywords["mapped"] is False

    def test_without_memory_mapping(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = mmap.mmap

        def refuse(descriptor: int, size: int, **options: Any) -> mmap.mmap:
            if descriptor >= 0:
                raise OSError(errno.ENODEV, "No such device")
            return whole(descriptor, size, **options)

        monkeypatch.setattr("embedrt.bundle.memory.mmap.mmap", refuse)
        with load_file(tiny / WEIGHTS) as content:
            assert content[:] == (tiny / WEIGHTS).read_bytes()
        with Embedder.load(tiny) as embedder:
            assert embedder.encode("w1").argmax() == 1

    def test_a_file_that_shrinks_while_it_is_read(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = (tiny / WEIGHTS).stat().st_size

        class Longer:
            st_size = size + 1

        monkeypatch.setattr("embedrt.bundle.memory.os.fstat", lambda _: Longer)
        with pytest.raises(OSError, match="became shorter"):
            load_file(tiny / WEIGHTS, mapped=False)

    def test_no_weights_at_all(self, tmp_path: Path) -> None:
        """An empty file cannot be mapped."""
        bundle = make_tiny(tmp_path / "tiny", table=TABLE[:, :3].copy())
        assert (bundle / WEIGHTS).stat().st_size == 0
        for mapped in (True, False):
            with Embedder.load(bundle, mapped=mapped) as embedder:
                assert embedder.encode("w1").tolist() == [0, 1, 0]


class TestLinks:
    def test_files_in_different_folders(self, tiny: Path, tmp_path: Path) -> None:
        """ONNX Runtime maps only files in the graph's own folder."""
        bundle = Bundle.open(tiny)
        assert bundle.load_weights() is None
        linked = tmp_path / "linked"
        linked.mkdir()
        for file in tiny.iterdir():
            (linked / file.name).symlink_to(file)
        assert Bundle(linked, bundle.manifest).load_weights() is None
        (tiny / WEIGHTS).rename(tmp_path / "blob")
        (linked / WEIGHTS).unlink()
        (linked / WEIGHTS).symlink_to(tmp_path / "blob")
        apart = Bundle(linked, bundle.manifest)
        content = apart.load_weights()
        assert content is not None
        assert content[:] == (tmp_path / "blob").read_bytes()
        with Embedder(apart) as embedder:
            assert embedder.encode("w1 w2").tolist() == _sum(1, 2).tolist()


def _sum(*rows: int) -> NDArray[np.float32]:
    total: NDArray[np.float32] = TABLE[list(rows)].sum(axis=0)
    return total


def test_weights_are_aligned(minilm: Path) -> None:
    graph = (minilm / GRAPH).read_bytes()
    outline, _ = find_graph(graph)
    offsets = [
        int(text)
        for number, span in read_fields(graph, outline)
        if number == 5
        for key, text in (entry(graph, s) for n, s in read_fields(graph, span) if n == 13)
        if key == "offset"
    ]
    assert len(offsets) > 50
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
