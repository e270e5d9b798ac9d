"""Minutes of mixed load, with clients that disconnect, and SIGTERM during the load."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from threading import Event, Thread

from benchmarks.serving.servers import PORT, Running

CLIENTS = 6  # wait for each answer
VANISHING = 2  # disconnect before the answer
SIZES = (1, 1, 1, 1, 4, 32)  # texts per request


def soak(server: Running, texts: Sequence[str], seconds: float) -> dict[str, float]:
    """Return the requests by outcome, the memory at a tenth and at the end, the exit status."""
    counts: Counter[str] = Counter()
    ending = Event()
    work = [(_ask, number) for number in range(CLIENTS)]
    work += [(_vanish, number) for number in range(VANISHING)]
    threads = [Thread(target=each, args=(texts, number, counts, ending)) for each, number in work]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 10)
    early = server.resident_mb()
    time.sleep(seconds * 9 / 10)
    late = server.resident_mb()
    status = server.end()
    ending.set()
    for thread in threads:
        thread.join()
    return {**counts, "early_mb": early, "late_mb": late, "exit_status": status}


def _ask(texts: Sequence[str], seed: int, counts: Counter[str], ending: Event) -> None:
    """Send requests until the server no longer listens. A missing answer is a lost request."""
    choose = random.Random(seed)  # noqa: S311 - not for cryptography
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    while not ending.is_set():
        try:
            if connection.sock is None:
                connection.connect()
        except OSError:  # the server no longer listens
            return
        body = json.dumps({"input": choose.choices(texts, k=choose.choice(SIZES))})
        try:
            connection.request("POST", "/v1/embeddings", body)
            answer = connection.getresponse()
            answer.read()
            counts["answered" if answer.status == 200 else f"status {answer.status}"] += 1
        except (OSError, http.client.HTTPException):
            counts["lost"] += 1
            connection.close()


def _vanish(texts: Sequence[str], seed: int, counts: Counter[str], ending: Event) -> None:
    choose = random.Random(seed)  # noqa: S311 - not for cryptography
    while not ending.is_set():
        body = json.dumps({"input": choose.choices(texts, k=32)}).encode()
        head = b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
        try:
            with socket.create_connection(("127.0.0.1", PORT), timeout=10) as connection:
                whole = head + body
                connection.sendall(whole[: choose.choice([len(whole), len(whole) // 2])])
                time.sleep(choose.random() / 10)
            counts["vanished"] += 1
        except OSError:
            time.sleep(0.1)
