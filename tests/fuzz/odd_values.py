"""Edge-case numbers and strings, and random mutations of bytes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

POSITIVE = (1, 2, 3, 5, 100, 2**16, 2**20, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 10**400)
NUMBERS = (0, *POSITIVE, *(-number for number in POSITIVE))
STRINGS = ("", "w1", "\0", "\ud800", "[CLS]", "x" * 5000, "../../etc/passwd", "(w|w)*$", "é", "1e9")


def mutate_bytes(content: bytes, random: Random) -> tuple[bytes, str]:
    """Mutate a range of bytes, or all bytes; return the result and a description."""
    start = random.randrange(len(content) + 1)
    run = content[start : start + random.choice((1, 1, 2, 4, 8, 64, 1000))]
    stop = start + len(run)
    ways: dict[str, Callable[[], bytes]] = {
        "flipped": lambda: bytes(byte ^ 1 << random.randrange(8) for byte in run),
        "replaced": lambda: random.randbytes(len(run)),
        "ones": lambda: b"\xff" * len(run),
        "zeroed": lambda: bytes(len(run)),
        "removed": lambda: b"",
        "doubled": lambda: run * 2,
        "inserted": lambda: random.randbytes(8) + run,
    }
    if random.random() < 0.1:
        return random.choice(((content[:start], "cut"), (bytes(len(content)), "all zeros")))
    way = random.choice(list(ways))
    return content[:start] + ways[way]() + content[stop:], f"{way} at {start}"
