"""The measurements of the server, each with its target."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.serving.load import send
from benchmarks.serving.servers import OTHERS, Running, embedrt, running
from benchmarks.serving.soak import soak
from benchmarks.statistics import median, percentile
from benchmarks.timing import each_call
from embedrt import Embedder

ROUNDS = 3
STARTS = 5
NO_CACHE = ("--cache-mb", "0")
OVERLOAD_CONNECTIONS = 400
WAITING_TOKENS = 2_000  # of the overloaded server; less than all connections can have waiting
PROBES_PER_SECOND = 5

Row = tuple[str, str, str]
"""What was measured, what was found, and the target."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements use."""

    bundle: Path
    embedder: Embedder
    texts: list[str]
    options: Namespace
    """The arguments of the command."""

    @property
    def bodies(self) -> list[str]:
        """A request for each text."""
        return [body(text) for text in self.texts]

    def encode_rate(self) -> float:
        """Return the texts per second of one call of `encode`."""
        begin = time.perf_counter()
        self.embedder.encode(self.texts)
        return len(self.texts) / (time.perf_counter() - begin)


def body(texts: str | list[str]) -> str:
    """Return the body of a request as OpenAI's client sends it."""
    return json.dumps({"input": texts, "model": "any", "encoding_format": "base64"})


def throughput(bench: Bench) -> Iterator[Row]:
    """Measure texts per second over HTTP as a share of `encode` on all texts, alternating."""
    texts, seconds = bench.texts, bench.options.seconds
    groups = [body(texts[start : start + 32]) for start in range(0, len(texts) - 31, 32)]
    with running(embedrt(bench.bundle, *NO_CACHE)) as server:
        for name, bodies, connections, size, target in (
            ("32 connections, one text", bench.bodies, 32, 1, 0.75),
            ("4 connections, 32 texts", groups, 4, 32, 0.85),
        ):
            shares, rates = [], []
            for _ in range(ROUNDS):
                library = bench.encode_rate()
                load = send(server.url, bodies, connections=connections, seconds=seconds)
                rates.append(load.rate * size)
                shares.append(rates[-1] / fmean([library, bench.encode_rate()]))
            what = f"{name}: texts/s of the server, against encode"
            yield what, f"{median(rates):,.0f}, {median(shares):.2f}", f">= {target}"


def latency(bench: Bench) -> Iterator[Row]:
    """Measure one text of 16 tokens on one connection, and an open loop at half the capacity."""
    sixteen = [text for text in bench.texts if bench.embedder.count_tokens(text) == 16][:20]

    def library() -> float:
        return median(each_call(bench.embedder.encode, sixteen * 10)) * 1e3

    with running(embedrt(bench.bundle, *NO_CACHE)) as server:
        more, alone = [], 0.0
        for _ in range(ROUNDS):
            before = library()
            alone = send(server.url, map(body, sixteen), connections=1, seconds=4).p50
            more.append(alone - fmean([before, library()]))
        yield (
            "one connection, 16 tokens: p50 over the library's, ms",
            f"{median(more):.2f} over {alone - median(more):.2f}",
            "<= 0.7",
        )
        capacity = send(server.url, bench.bodies, connections=32, seconds=5).rate
        half = send(server.url, bench.bodies, connections=64, seconds=10, rate=capacity / 2)
        yield (
            f"open loop at {capacity / 2:,.0f} requests/s: p99 ms, over the lone p50",
            f"{half.p99:.2f}, {half.p99 / alone:.1f}",
            "<= 5",
        )


def costs(bench: Bench) -> Iterator[Row]:
    """Measure CPU time per request, of texts that run and of texts that are in the cache.

    It depends less on what else the machine does than rates do. The texts in the cache show what is
    the server's own.
    """
    for name, options, bodies in (
        ("texts that run", NO_CACHE, bench.bodies),
        ("texts in the cache", (), bench.bodies[:50]),
    ):
        with running(embedrt(bench.bundle, *options)) as server:
            for connections in (1, 32):
                send(server.url, bodies, connections=connections, seconds=1)
                found = []
                for _ in range(ROUNDS):
                    begin, seconds = server.cpu_seconds(), bench.options.seconds
                    load = send(server.url, bodies, connections=connections, seconds=seconds)
                    found.append((server.cpu_seconds() - begin) / load.answered)
                what = f"{connections} connections, {name}: CPU us per request"
                yield what, f"{median(found) * 1e6:,.0f}", ""
    begin = time.process_time()
    bench.encode_rate()
    microseconds = (time.process_time() - begin) / len(bench.texts) * 1e6
    yield "encode, all texts in one call: CPU us per text", f"{microseconds:,.0f}", ""


def contenders(bench: Bench) -> Iterator[Row]:
    """Measure texts per second at 32 connections of each server, alternating with embedrt's."""
    threads, seconds = bench.embedder.options.threads or 1, bench.options.seconds
    for name in bench.options.contenders:
        command = OTHERS[name](threads)
        ratios, rates = [], []
        for _ in range(ROUNDS):
            found = []
            for each in (embedrt(bench.bundle, *NO_CACHE), command):
                with running(each) as server:
                    send(server.url, bench.bodies, connections=4, seconds=2)
                    load = send(server.url, bench.bodies, connections=32, seconds=seconds)
                    found.append(load.rate)
            rates.append(found[1])
            ratios.append(found[0] / found[1])
        yield (
            f"{command.name}: its texts/s at 32 connections, and how many times ours",
            f"{median(rates):,.0f}, {median(ratios):.1f}",
            ">= 8" if name == "infinity" else "",
        )


def overload(bench: Bench) -> Iterator[Row]:
    """Measure an open loop at four times the capacity with a short queue, and the recovery."""
    options = (*NO_CACHE, "--max-waiting-tokens", str(WAITING_TOKENS))
    with running(embedrt(bench.bundle, *options)) as server:
        capacity = send(server.url, bench.bodies, connections=32, seconds=5).rate
        before = server.resident_mb()
        with probing(server, bench.texts) as answers:
            load = send(
                server.url,
                bench.bodies,
                connections=OVERLOAD_CONNECTIONS,
                seconds=bench.options.overload,
                rate=4 * capacity,
            )
        time.sleep(2)
        (after,) = each_call(lambda text: ask(server, text), bench.texts[:1])
        memory = server.resident_mb()
    sent = (load.answered + load.refused + load.other) / load.seconds
    answered, refused = (answers.get(status, [float("nan")]) for status in (200, 429))
    p50, p99 = (percentile(refused, share) * 1e3 for share in (0.5, 0.99))
    yield (
        f"open loop at {sent:,.0f} requests/s: answered texts/s, of the capacity",
        f"{load.rate:,.0f}, {load.rate / capacity:.2f}",
        ">= 0.9",
    )
    yield (
        "the same: p99 s of the answered; p50 and p99 ms of the 429; others; lost",
        f"{percentile(answered, 0.99):.2f}; {p50:.1f}, {p99:.1f}; {load.other}; {load.lost}",
        f"{WAITING_TOKENS:,} tokens of backlog; quick; 0; 0",
    )
    yield (
        "the same: memory before and after, MB; one text 2 s later, ms",
        f"{before:.0f}, {memory:.0f}; {after * 1e3:.1f}",
        "flat; normal",
    )


def repeated(bench: Bench) -> Iterator[Row]:
    """Measure the cache with texts half of which were requested before."""
    few = bench.texts[:50]
    pairs = zip(bench.texts, few * len(bench.texts), strict=False)
    bodies = [body(text) for pair in pairs for text in pair]
    rates, equal = [], True
    for options in (NO_CACHE, ("--cache-mb", "1")):  # too small for the texts that occur once
        with running(embedrt(bench.bundle, *options)) as server:
            first, again = ([ask(server, text) for text in few] for _ in range(2))
            equal &= first == again
            load = send(server.url, bodies, connections=32, seconds=bench.options.seconds)
            rates.append(load.rate)
    yield (
        "half of the texts repeated: texts/s over those without a cache; bytes equal",
        f"{rates[1] / rates[0]:.2f}; {'yes' if equal else 'NO'}",
        "about 2; yes",
    )


def start(bench: Bench) -> Iterator[Row]:
    """Measure the time from the start of the process to the first 200 of ``/ready``."""
    found = []
    for _ in range(STARTS):
        with running(embedrt(bench.bundle)) as server:
            found.append(server.seconds_to_ready)
    yield "start to ready, s: median and least", f"{median(found):.2f}, {min(found):.2f}", "<= 0.6"


def minutes(bench: Bench) -> Iterator[Row]:
    """Measure mixed load with clients that disconnect, and SIGTERM at the end."""
    seconds = bench.options.soak
    with running(embedrt(bench.bundle)) as server:
        found = soak(server, bench.texts, seconds)
    shown = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
    yield f"{seconds:,.0f} s of mixed load and SIGTERM", shown, "no lost; 0"


MEASURES = {
    each.__name__: each
    for each in (throughput, latency, costs, contenders, overload, repeated, start, minutes)
}


@contextmanager
def probing(server: Running, texts: Sequence[str]) -> Iterator[dict[int, list[float]]]:
    """Request one text at intervals, and yield the seconds by status."""
    ending, found = Event(), dict[int, list[float]]()

    def run() -> None:
        number = 0
        while not ending.wait(1 / PROBES_PER_SECOND):
            number += 1
            begin, status = time.perf_counter(), 200
            try:
                ask(server, f"{number} {texts[number % len(texts)]}")
            except HTTPError as error:
                status = error.code
            found.setdefault(status, []).append(time.perf_counter() - begin)

    thread = Thread(target=run)
    thread.start()
    try:
        yield found
    finally:
        ending.set()
        thread.join()


def ask(server: Running, text: str) -> str:
    """Request one vector and return it in base64."""
    request = Request(server.url, body(text).encode(), method="POST")  # noqa: S310 - our own
    with urlopen(request, timeout=60) as answer:  # noqa: S310
        embedding: str = json.load(answer)["data"][0]["embedding"]
        return embedding
