"""The measurements of the server, each with its target."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.serving.load import send
from benchmarks.serving.servers import Command, Running, embedrt, running
from benchmarks.serving.soak import soak
from benchmarks.statistics import median, percentile
from embedrt import Embedder

ROUNDS = 3
STARTS = 5
NO_CACHE = ("--cache-mb", "0")
OVERLOAD_CONNECTIONS = 400
PROBES_PER_SECOND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the table."""

    what: str
    found: str
    target: str


def body(texts: str | list[str]) -> str:
    """Return the body of a request as OpenAI's client sends it."""
    return json.dumps({"input": texts, "model": "any", "encoding_format": "base64"})


def throughput(
    bundle: Path, embedder: Embedder, texts: Sequence[str], seconds: float
) -> Iterator[Finding]:
    """Measure texts per second over HTTP as a share of `encode` on all texts, alternating."""
    groups = [list(texts[start : start + 32]) for start in range(0, len(texts) - 31, 32)]
    kinds = [("32 connections, one text", list(texts), 32, 1, 0.75)]
    kinds += [("4 connections, 32 texts", groups, 4, 32, 0.85)]  # type: ignore[list-item]
    with running(embedrt(bundle, *NO_CACHE)) as server:
        for name, questions, connections, size, target in kinds:
            bodies = [body(question) for question in questions]
            shares, rates = [], []
            for _ in range(ROUNDS):
                library = _encode_rate(embedder, texts)
                load = send(server.url, bodies, connections=connections, seconds=seconds)
                again = _encode_rate(embedder, texts)
                rates.append(load.rate * size)
                shares.append(rates[-1] / fmean([library, again]))
            share = median(shares)
            yield Finding(
                what=f"{name}: texts/s of the server, against encode",
                found=f"{median(rates):,.0f}, {share:.2f}",
                target=f">= {target}",
            )


def costs(
    bundle: Path, embedder: Embedder, texts: Sequence[str], seconds: float
) -> Iterator[Finding]:
    """Measure CPU time per request, of texts that run and of texts that are in the cache.

    It depends less on what else the machine does than rates do. The texts in the cache show what is
    the server's own.
    """
    for name, options, asked in (
        ("texts that run", NO_CACHE, list(texts)),
        ("texts in the cache", (), list(texts[:50])),
    ):
        bodies = [body(text) for text in asked]
        with running(embedrt(bundle, *options)) as server:
            for connections in (1, 32):
                send(server.url, bodies, connections=connections, seconds=1)
                found = [_cost(server, bodies, connections, seconds) for _ in range(ROUNDS)]
                yield Finding(
                    what=f"{connections} connections, {name}: CPU us per request",
                    found=f"{median(found) * 1e6:,.0f}",
                    target="",
                )
    begin = time.process_time()
    embedder.encode(texts)
    yield Finding(
        what="encode, all texts in one call: CPU us per text",
        found=f"{(time.process_time() - begin) / len(texts) * 1e6:,.0f}",
        target="",
    )


def contenders(
    bundle: Path, others: Sequence[Command], texts: Sequence[str], seconds: float
) -> Iterator[Finding]:
    """Measure texts per second at 32 connections of each server, alternating with embedrt's."""
    bodies = [body(text) for text in texts]
    for command in others:
        ratios, rates = [], []
        for _ in range(ROUNDS):
            found = []
            for each in (embedrt(bundle, *NO_CACHE), command):
                with running(each) as server:
                    send(server.url, bodies, connections=4, seconds=2)
                    load = send(server.url, bodies, connections=32, seconds=seconds)
                    found.append(load.rate)
            rates.append(found[1])
            ratios.append(found[0] / found[1])
        yield Finding(
            what=f"{command.name}: its texts/s at 32 connections, and how many times ours",
            found=f"{median(rates):,.0f}, {median(ratios):.1f}",
            target=">= 8" if command.name == "infinity" else "",
        )


def latency(bundle: Path, embedder: Embedder, texts: Sequence[str]) -> Iterator[Finding]:
    """Measure one text of 16 tokens on one connection, and an open loop at half the capacity."""
    bodies = [body(text) for text in texts]
    sixteen = [text for text in texts if embedder.count_tokens(text) == 16][:20]
    with running(embedrt(bundle, *NO_CACHE)) as server:
        more, alone = [], 0.0
        for _ in range(ROUNDS):
            library = _p50(embedder, sixteen)
            load = send(server.url, map(body, sixteen), connections=1, seconds=4)
            alone = load.p50
            more.append(load.p50 - fmean([library, _p50(embedder, sixteen)]))
        yield Finding(
            what="one connection, 16 tokens: p50 over the library's, ms",
            found=f"{median(more):.2f} over {alone - median(more):.2f}",
            target="<= 0.7",
        )
        capacity = send(server.url, bodies, connections=32, seconds=5).rate
        half = send(server.url, bodies, connections=64, seconds=10, rate=capacity / 2)
        yield Finding(
            what=f"open loop at {capacity / 2:,.0f} requests/s: p99 ms, over the lone p50",
            found=f"{half.p99:.2f}, {half.p99 / alone:.1f}",
            target="<= 5",
        )


def overload(bundle: Path, texts: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Measure an open loop at four times the capacity with a short queue, and the recovery."""
    bodies = [body(text) for text in texts]
    limit = 2_000  # less than all connections can have waiting
    with running(embedrt(bundle, *NO_CACHE, "--max-waiting-tokens", str(limit))) as server:
        capacity = send(server.url, bodies, connections=32, seconds=5).rate
        before = server.resident_mb()
        probes: list[tuple[int, float]] = []
        with _probing(server, texts, probes):
            load = send(
                server.url,
                bodies,
                connections=OVERLOAD_CONNECTIONS,
                seconds=seconds,
                rate=4 * capacity,
            )
        time.sleep(2)
        start = time.perf_counter()
        _ask(server, texts[0])
        after = time.perf_counter() - start
        memory = server.resident_mb()
    sent = (load.answered + load.refused + load.other) / load.seconds
    answered = sorted(seconds for status, seconds in probes if status == 200)
    refused = sorted(seconds for status, seconds in probes if status == 429)
    yield Finding(
        what=f"open loop at {sent:,.0f} requests/s: answered texts/s, of the capacity",
        found=f"{load.rate:,.0f}, {load.rate / capacity:.2f}",
        target=">= 0.9",
    )
    yield Finding(
        what="the same: p99 s of the answered; p50 and p99 ms of the 429; others; lost",
        found=f"{_quantile(answered, 0.99):.2f}; {_quantile(refused, 0.5) * 1e3:.1f}, "
        f"{_quantile(refused, 0.99) * 1e3:.1f}; {load.other}; {load.lost}",
        target=f"{limit:,} tokens of backlog; quick; 0; 0",
    )
    yield Finding(
        what="the same: memory before and after, MB; one text 2 s later, ms",
        found=f"{before:.0f}, {memory:.0f}; {after * 1e3:.1f}",
        target="flat; normal",
    )


def repeated(bundle: Path, texts: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Measure the cache with texts half of which were requested before."""
    few = list(texts[:50])
    half = [text for pair in zip(texts, few * len(texts), strict=False) for text in pair]
    rates, bytes_equal = [], True
    for options in (NO_CACHE, ("--cache-mb", "1")):  # too small for the texts that occur once
        with running(embedrt(bundle, *options)) as server:
            answers = [_ask(server, text) for text in (*few, *few)]
            bytes_equal &= answers[: len(few)] == answers[len(few) :]
            bodies = [body(text) for text in half]
            rates.append(send(server.url, bodies, connections=32, seconds=seconds).rate)
    yield Finding(
        what="half of the texts repeated: texts/s over those without a cache; bytes equal",
        found=f"{rates[1] / rates[0]:.2f}; {'yes' if bytes_equal else 'NO'}",
        target="about 2; yes",
    )


def start(bundle: Path) -> Iterator[Finding]:
    """Measure the time from the start of the process to the first 200 of ``/ready``."""
    found = []
    for _ in range(STARTS):
        with running(embedrt(bundle)) as server:
            found.append(server.seconds_to_ready)
    yield Finding(
        what="start to ready, s: median and least",
        found=f"{median(found):.2f}, {min(found):.2f}",
        target="<= 0.6",
    )


def minutes(bundle: Path, texts: Sequence[str], seconds: float) -> Iterator[Finding]:
    """Measure mixed load with clients that disconnect, and SIGTERM at the end."""
    with running(embedrt(bundle)) as server:
        found = soak(server, texts, seconds)
    shown = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
    yield Finding(
        what=f"{seconds:,.0f} s of mixed load and SIGTERM", found=shown, target="no lost; 0"
    )


class _probing:  # noqa: N801 - used as a function
    """Requests one text at intervals, and records status and seconds."""

    def __init__(
        self, server: Running, texts: Sequence[str], noted: list[tuple[int, float]]
    ) -> None:
        from threading import Event, Thread  # noqa: PLC0415

        self._ending = Event()
        self._thread = Thread(target=self._run, args=(server, texts, noted))

    def _run(self, server: Running, texts: Sequence[str], noted: list[tuple[int, float]]) -> None:
        number = 0
        while not self._ending.wait(1 / PROBES_PER_SECOND):
            number += 1
            begin = time.perf_counter()
            try:
                _ask(server, f"{number} {texts[number % len(texts)]}")
                status = 200
            except HTTPError as error:
                status = error.code
            noted.append((status, time.perf_counter() - begin))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()


def _ask(server: Running, text: str) -> str:
    request = Request(server.url, body(text).encode(), method="POST")  # noqa: S310 - our own
    with urlopen(request, timeout=60) as answer:  # noqa: S310
        embedding: str = json.load(answer)["data"][0]["embedding"]
        return embedding


def _encode_rate(embedder: Embedder, texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    embedder.encode(texts)
    return len(texts) / (time.perf_counter() - begin)


def _p50(embedder: Embedder, texts: Sequence[str]) -> float:
    times = []
    for text in list(texts) * 10:
        begin = time.perf_counter()
        embedder.encode(text)
        times.append(time.perf_counter() - begin)
    return median(times) * 1e3


def _cost(server: Running, bodies: Sequence[str], connections: int, seconds: float) -> float:
    begin = server.cpu_seconds()
    load = send(server.url, bodies, connections=connections, seconds=seconds)
    return (server.cpu_seconds() - begin) / load.answered


def _quantile(values: Sequence[float], share: float) -> float:
    return percentile(values, share) if values else float("nan")
