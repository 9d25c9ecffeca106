"""The thread of one output bus, with a queue of its own: what blocks or hangs there delays nobody else.

An order reads the wanted level when it is carried out, not when it was given, so that a late one never drives an
output by an old word.  Orders that wait behind a call that hangs are dropped as soon as the bus is called stuck.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from drivers.base import Clock, Output

ORDERS_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an order.

    level      what was written; None where it did not come to that, or nothing was to be
    read_back  what the hardware says; None where it cannot say, or was not asked
    error      what went wrong, "" for nothing
    """

    level: float | None = None
    read_back: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do with one output.

    wanted   the level to write, asked at the last moment; None: only look where it stands
    open     take it over first
    release  let it go instead
    """

    output: Output
    wanted: Callable[[], float] | None
    done: Callable[[Done], None]
    open: bool = False
    release: bool = False


@dataclass(slots=True, eq=False)
class _Batch:
    orders: Sequence[Order]
    loop: asyncio.AbstractEventLoop
    idle: Callable[[], None]
    dropped: bool = False


class Worker:
    """Owned by the event loop.  It takes one batch at a time: `busy` until `idle` was called."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.busy = False
        self._clock = clock
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._batch: _Batch | None = None
        self._began_s: float | None = None
        self._thread: threading.Thread | None = None

    def give(self, orders: Sequence[Order], idle: Callable[[], None]) -> None:
        """Carry them out in turn; each order's `done` and then `idle` are called on this event loop."""
        assert not self.busy
        assert len(orders) <= ORDERS_MAX
        self.busy = True
        self._batch = _Batch(orders=orders, loop=asyncio.get_running_loop(), idle=idle)
        self._batches.put(self._batch)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"output-{self.name}", daemon=True)
            self._thread.start()

    def waited_s(self) -> float:
        """How long the present call has been at work; 0 while there is none."""
        began_s = self._began_s
        return 0.0 if began_s is None else max(0.0, self._clock.monotonic_s() - began_s)

    def drop(self) -> None:
        """Let the call that is at work be the last one of its batch."""
        if self._batch is not None:
            self._batch.dropped = True

    def close(self) -> None:
        """Let the thread end after what is queued; one that hangs is left behind."""
        if self._thread is not None:
            self._batches.put(None)
            self._thread = None

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            for order in batch.orders:
                if batch.dropped:
                    break
                self._began_s = self._clock.monotonic_s()
                done = _carry_out(order)
                self._began_s = None
                if not _tell(batch.loop, order.done, done):
                    return
            if not _tell(batch.loop, self._end, batch):
                return

    def _end(self, batch: _Batch) -> None:
        self.busy = False
        self._batch = None
        batch.idle()


def _carry_out(order: Order) -> Done:
    written: float | None = None
    try:
        if order.release:
            order.output.release()
            return Done()
        if order.open:
            order.output.open()
        if order.wanted is not None:
            level = order.wanted()
            order.output.write(level)
            written = level
        return Done(level=written, read_back=order.output.read_back())
    except BaseException as error:  # noqa: BLE001  # a driver that calls sys.exit() is only broken
        return Done(level=written, error=_words(error))


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if text else type(error).__name__


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *arguments: Any) -> bool:
    """Call it on the loop; false when that has gone, and with it everybody who could wait."""
    try:
        loop.call_soon_threadsafe(what, *arguments)
    except RuntimeError:
        return False
    return True
