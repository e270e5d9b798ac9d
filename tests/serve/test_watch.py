"""Tests of the watch over requests: those that are quick, late, or whose client goes away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from embedrt.serve.errors import RequestError
from embedrt.serve.watch import Watch
from embedrt.serve.wire import ClientGoneError
from waiting import SECONDS


def watch(timeout: float = SECONDS) -> Watch:
    return Watch(timeout, lambda: 7)


async def silent() -> dict[str, Any]:
    """Receive nothing, as of a client that waits."""
    await asyncio.Event().wait()
    raise AssertionError


async def gone() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def forever() -> str:
    await asyncio.Event().wait()
    raise AssertionError


class TestWatch:
    def test_a_quick_answer_leaves_no_timer_and_no_task(self) -> None:
        async def main() -> None:
            watching = watch()

            async def answer() -> str:
                assert watching._timer is not None
                await asyncio.sleep(0)
                return "an answer"

            assert await watching.over(gone, answer()) == "an answer"
            assert watching._timer is None
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())

    def test_a_client_that_goes(self) -> None:
        with pytest.raises(ClientGoneError):
            asyncio.run(watch().over(gone, forever()))

    def test_a_late_answer(self) -> None:
        with pytest.raises(RequestError, match=r"no answer within 0\.01 s") as raised:
            asyncio.run(watch(0.01).over(silent, forever()))
        assert (raised.value.kind, raised.value.retry_after) == ("timeout", 7)

    def test_lateness_is_known_where_the_answer_is_computed(self) -> None:
        """There, the error gets the words of the route's client."""

        async def main() -> RequestError | None:
            watching, found = watch(0.01), []

            async def answer() -> None:
                try:
                    await forever()
                finally:
                    found.append(watching.lateness())

            with pytest.raises(RequestError):
                await watching.over(silent, answer())
            assert watching.lateness() is None
            return found[0]

        error = asyncio.run(main())
        assert error is not None
        assert error.kind == "timeout"

    def test_the_end_of_the_server(self) -> None:
        async def main() -> None:
            answering = asyncio.create_task(watch().over(silent, forever()))
            await asyncio.sleep(0)
            answering.cancel()
            with pytest.raises(RequestError, match="the server has ended"):
                await answering
            assert not answering.cancelled()

        asyncio.run(main())

    def test_requests_end_apart(self) -> None:
        async def main() -> Any:
            watching, ready = watch(), asyncio.Event()

            async def answer() -> str:
                await ready.wait()
                return "an answer"

            first = asyncio.create_task(watching.over(silent, answer()))
            second = asyncio.create_task(watching.over(gone, answer()))
            await asyncio.wait([second])
            ready.set()
            return await asyncio.gather(first, second, return_exceptions=True)

        answered, ended = asyncio.run(main())
        assert answered == "an answer"
        assert isinstance(ended, ClientGoneError)

    def test_one_loop_after_another(self) -> None:
        watching = watch()
        for _ in range(2):
            with pytest.raises(ClientGoneError):
                asyncio.run(watching.over(gone, forever()))
