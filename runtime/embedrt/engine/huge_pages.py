"""Huge pages for the memory that loading a graph adds, on Linux 6.1 and later.

A short text reads all weights for little work, so that looking up the addresses of pages of 4 KB
takes part of its time. ONNX Runtime packs weights into such pages. Linux can replace each aligned
block of them by one huge page, of 2 MB on most machines, with the same content.

The system's setting is respected, and blocks that Linux refuses to move stay in small pages.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
MAPS = Path("/proc/self/maps")
PAGES = Path("/proc/self/pagemap")  # 8 bytes for each page

ANONYMOUS = ["rw-p", "00000000", "00:00", "0"]  # mode, offset, device and inode in MAPS
IN_MEMORY = 63  # bit of an entry of PAGES
COLLAPSE = 25  # MADV_COLLAPSE; the mmap module does not have it

# A huge page takes memory for the whole block. Of a thread's stack, for example, little is in use.
LEAST_USED = 15 / 16

Regions = list[tuple[int, int]]
"""The first address of each region of memory and the end."""


def memory_regions(added: int) -> Regions:
    """Return the private anonymous memory of this process, before or after a load of `added` bytes.

    Nothing without huge pages, and if so few bytes fill none.
    """
    if not 0 < block_bytes() <= added:
        return []
    try:
        return anonymous(MAPS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []


def anonymous(maps: str) -> Regions:
    """Return the private anonymous regions, except the stack, of a text like /proc/self/maps."""
    lines = (line.split(maxsplit=5) for line in maps.splitlines())
    found = [line[0] for line in lines if line[1:5] == ANONYMOUS and line[5:] != ["[stack]"]]
    return [(int(start, 16), int(end, 16)) for start, _, end in (at.partition("-") for at in found)]


def block_bytes() -> int:
    """Return the size of a huge page; 0 if the system has none, or is set to use none."""
    try:
        never = "[never]" in (SETTINGS / "enabled").read_text(encoding="utf-8")
        return 0 if never else int((SETTINGS / "hpage_pmd_size").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def added_blocks(before: Regions, after: Regions) -> list[range]:
    """Return the addresses of the aligned blocks that lie in `after` and not in `before`."""
    size = block_bytes()
    return list(_added(before, after, size)) if size else []


def _added(before: Regions, after: Regions, size: int) -> Iterator[range]:
    for start, end in sorted(set(after) - set(before)):
        old = [(first, last) for first, last in before if first < end and start < last]
        for at in range(-(-start // size) * size, end - size + 1, size):
            if not any(first < at + size and at < last for first, last in old):
                yield range(at, at + size)


def enlarge(blocks: Iterable[range]) -> None:
    """Move each block that is in use to a huge page, in about half a millisecond.

    Other threads may use the memory meanwhile, or may have freed it: new memory at the same
    addresses keeps its content too.
    """
    import ctypes  # noqa: PLC0415  # not needed before the first vector

    try:
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        with PAGES.open("rb", buffering=0) as pages:
            for block in blocks:
                pages.seek(block.start // mmap.PAGESIZE * 8)
                entries = array("Q", pages.read(len(block) // mmap.PAGESIZE * 8))
                used = sum(entry >> IN_MEMORY for entry in entries)
                if used >= LEAST_USED * len(block) / mmap.PAGESIZE:
                    madvise(block.start, len(block), COLLAPSE)
    except (OSError, ValueError, AttributeError):
        return  # the pages stay small
