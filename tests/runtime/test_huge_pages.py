from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from children import output_of
from embedrt.bench.memory import private_bytes
from embedrt.engine import huge_pages
from embedrt.engine.huge_pages import added_blocks, anonymous, enlarge, memory_regions

MB = 1 << 20
MAPS = """\
00400000-00600000 r-xp 00000000 08:01 77                                 /usr/bin/python
00a00000-00b00000 rw-p 00200000 08:01 77                                 /usr/bin/python
56519aa53000-56519c331000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
7f0000400000-7f0000500000 ---p 00000000 00:00 0 
7f0000500000-7f0000600000 r--p 00000000 00:00 0                          [anon: one]
7f0000600000-7f0000700000 rw-p 00000000 00:00 0                          [anon: two]
7f0000700000-7f0000800000 rw-s 00000000 00:00 0 
7f0000800000-7f0000900000 rw-s 00000000 00:01 2051                       /dev/zero (deleted)
7f0000900000-7f0000a00000 rw-p 00000000 08:01 78                         /a folder/model.onnx
7ffe00000000-7ffe00100000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""  # noqa: W291 - as Linux writes it

ENCODE = """
import hashlib, os, sys
from pathlib import Path
from embedrt import Embedder
from embedrt.engine import huge_pages

def huge():
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))

if len(sys.argv) > 3:
    huge_pages.SETTINGS = Path(sys.argv[3])
with Embedder.load(sys.argv[1], threads=1, kernels="off") as embedder:
    digest = hashlib.sha256(embedder.encode("a first text").tobytes())
    loaded = huge()
    if sys.argv[2] == "fork":
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        grown = huge()
    texts = ["a short text"] if sys.argv[2] == "texts" else ["a short text"] * 2
    for _ in range(40):
        digest.update(embedder.encode(texts)[0].tobytes())
    digest.update(embedder.encode(["a longer text of a batch", "text"]).tobytes())
    if sys.argv[2] == "fork":
        assert huge() == grown  # a page that is moved later is not shared with the child
    print(loaded, huge(), digest.hexdigest())
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of settings with which huge pages of 2 MB are used on request."""
    (tmp_path / "enabled").write_text("always [madvise] never\n", encoding="utf-8")
    (tmp_path / "hpage_pmd_size").write_text(f"{2 * MB}\n", encoding="utf-8")
    monkeypatch.setattr(huge_pages, "SETTINGS", tmp_path)
    return tmp_path


def never(folder: Path) -> None:
    (folder / "enabled").write_text("always madvise [never]\n", encoding="utf-8")


def mapped(size: int) -> tuple[mmap.mmap, range]:
    """Return memory, and the first aligned block in it."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = -(-address // (2 * MB)) * 2 * MB
    return memory, range(start, start + 2 * MB)


def is_huge(block: range) -> bool:
    """Whether the region of a block has a huge page."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            first, _, end = name.partition("-")
            inside = int(first, 16) <= block.start < int(end, 16)
        elif inside and name == "AnonHugePages:":
            return int(values[0]) > 0
    return False


def huge_on_request() -> bool:
    """Whether Linux makes huge pages here only where it is asked, and does so."""
    if huge_pages.block_bytes() != 2 * MB or not huge_pages.PAGES.exists():
        return False
    if "[madvise]" not in (huge_pages.SETTINGS / "enabled").read_text(encoding="utf-8"):
        return False
    memory, block = mapped(4 * MB)
    memory.write(bytes(4 * MB))
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return int(madvise(block.start, len(block), huge_pages.COLLAPSE)) == 0


on_request = pytest.mark.skipif(
    not huge_on_request(), reason="needs Linux 6.1 with huge pages of 2 MB on request"
)


def test_regions_that_are_private_and_anonymous() -> None:
    assert anonymous(MAPS) == [
        (0x56519AA53000, 0x56519C331000),
        (0x7F0000000000, 0x7F0000400000),
        (0x7F0000600000, 0x7F0000700000),
    ]
    assert anonymous("") == []


@pytest.mark.usefixtures("settings")
def test_blocks_of_new_and_grown_regions() -> None:
    before = [(0, 3 * MB), (20 * MB, 24 * MB), (30 * MB, 40 * MB)]
    after = [(0, 9 * MB), (11 * MB, 15 * MB), (18 * MB, 27 * MB), (30 * MB, 40 * MB)]
    added = added_blocks(before, after)
    assert [block.start // MB for block in added] == [4, 6, 12, 18, 24]
    assert {len(block) for block in added} == {2 * MB}
    assert added_blocks(after, after) == []


def test_nothing_where_the_system_says_never(settings: Path) -> None:
    assert len(added_blocks([], [(0, 4 * MB)])) == 2
    never(settings)
    assert memory_regions(2 * MB) == []
    assert added_blocks([], [(0, 4 * MB)]) == []


@pytest.mark.usefixtures("settings")
def test_nothing_for_what_fills_no_huge_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = tmp_path / "maps"
    maps.write_text(MAPS, encoding="utf-8")
    monkeypatch.setattr(huge_pages, "MAPS", maps)
    assert memory_regions(2 * MB) == anonymous(MAPS)
    assert memory_regions(2 * MB - 1) == []


@pytest.mark.parametrize("name", ["enabled", "hpage_pmd_size"])
def test_nothing_without_settings(settings: Path, name: str) -> None:
    (settings / name).unlink()
    assert memory_regions(2 * MB) == []
    assert added_blocks([], [(0, 4 * MB)]) == []


@pytest.mark.usefixtures("settings")
def test_nothing_is_raised_where_proc_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAPS", "PAGES"):
        monkeypatch.setattr(huge_pages, name, tmp_path / "none")
    assert memory_regions(2 * MB) == []
    enlarge([range(2 * MB, 4 * MB)])


@on_request
def test_a_block_in_use_keeps_its_content() -> None:
    memory, block = mapped(6 * MB)
    content = bytes(range(256)) * (6 * MB // 256)
    memory.write(content)
    assert not is_huge(block)
    enlarge([block])
    assert is_huge(block)
    assert memory[:] == content


@on_request
def test_memory_that_is_not_in_use_stays_unused() -> None:
    memory, block = mapped(6 * MB)
    for at in range(0, 6 * MB, 16 * mmap.PAGESIZE):
        memory[at] = 1
    before = private_bytes()
    enlarge([block])
    after = private_bytes()
    assert before is not None
    assert after is not None
    assert after - before < MB
    assert not is_huge(block)


@on_request
@pytest.mark.parametrize("address", [0, 1 << 46, (1 << 64) - 2 * MB])
def test_memory_that_does_not_exist(address: int) -> None:
    enlarge([range(address, address + 2 * MB)])


@on_request
@pytest.mark.parametrize("what", ["texts", "batches", "fork"])
def test_packed_weights_are_moved(minilm: Path, tmp_path: Path, what: str) -> None:
    never(tmp_path)
    loaded, grown, digest = output_of(ENCODE, minilm, what).split()
    assert int(loaded) < MB  # the load does not wait for it
    assert int(grown) > 4 * MB
    assert output_of(ENCODE, minilm, what, tmp_path).split() == ["0", "0", digest]
