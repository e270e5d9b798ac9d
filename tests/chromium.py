"""A headless Chromium, controlled over a pipe with the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
    "--window-size=1100,1000", "--no-first-run", "--disable-background-networking",
]  # fmt: skip


class Page:
    """One tab, with the requests that it made and the errors that it reported."""

    def __init__(self, messages: BinaryIO, write_to: int) -> None:
        self._messages = messages
        self._write_to = write_to
        self._session = ""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result; store the events that arrive before it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 120) -> Any:
        """Evaluate repeatedly until the value is true; return it."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, expression
            time.sleep(0.05)
        return value

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _next(self) -> bytes:
        content = b""
        while not content.endswith(b"\0"):
            byte = self._messages.read(1)
            assert byte, "the browser has ended"
            content += byte
        return content[:-1]


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Start a browser with a new profile, and open a tab."""
    assert PROGRAM is not None
    commands, write_to = os.pipe()
    read_from, answers = os.pipe()

    def move() -> None:  # the browser reads from 3 and writes to 4
        kept = [os.dup(commands), os.dup(answers)]
        os.dup2(kept[0], 3)
        os.dup2(kept[1], 4)

    process = subprocess.Popen(
        [PROGRAM, *FLAGS, f"--user-data-dir={profile}"],
        preexec_fn=move,  # noqa: PLW1509 - no other threads exist yet
        close_fds=False,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    try:
        with os.fdopen(read_from, "rb") as messages:
            yield Page(messages, write_to)
    finally:
        process.kill()
        process.wait()
        os.close(write_to)
