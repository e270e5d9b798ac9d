"""Tests of waking callers: threads, and asyncio tasks, all of a batch at once in their loops."""

from __future__ import annotations

import asyncio
from threading import RLock, Thread
from unittest.mock import patch

from embedrt.engine.waking import Latch, Sleepers


class TestLatch:
    def test_a_thread_waits_until_it_is_set(self) -> None:
        latch = Latch()
        assert not latch.wait(0.01)
        assert not latch.is_set()
        woken = list[bool]()
        waiter = Thread(target=lambda: woken.append(latch.wait()))
        waiter.start()
        latch.set()
        waiter.join(10)
        assert woken == [True]
        assert latch.is_set()

    def test_set_before_it_is_waited_for(self) -> None:
        latch = Latch()
        latch.set()
        assert latch.wait()
        assert latch.wait(0)


class TestSleepers:
    def test_all_calls_of_a_batch_wake_their_loop_once(self) -> None:
        async def wait() -> int:
            lock = RLock()
            sleepers = Sleepers(lock)
            loop = asyncio.get_running_loop()
            futures = [loop.create_future() for _ in range(5)]
            futures[2].cancel()
            with patch.object(
                loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe
            ) as woken:

                def end() -> None:
                    with lock:
                        for future in futures:
                            sleepers.add(future)
                    sleepers.wake()
                    sleepers.wake()

                worker = Thread(target=end)
                worker.start()
                await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 10)
                worker.join()
                return woken.call_count

        assert asyncio.run(wait()) == 1

    def test_a_closed_loop_is_left_alone(self) -> None:
        lock = RLock()
        sleepers = Sleepers(lock)
        closed = asyncio.new_event_loop()
        abandoned = closed.create_future()
        closed.close()

        async def wait() -> None:
            future = asyncio.get_running_loop().create_future()
            with lock:
                sleepers.add(abandoned)
                sleepers.add(future)
            sleepers.wake()
            await asyncio.wait_for(future, 10)

        asyncio.run(wait())
        assert not abandoned.done()
