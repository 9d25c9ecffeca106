"""An event loop whose end waits for no name lookup.

Connecting to a broker or a Postgres looks its name up in a thread, and a name server that does not answer holds that
thread for as long as the system's resolver likes.  The process does not wait for it either: see `leave` in main.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import anyio

THREADS_MAX: Final = 32
"""Lookups that hang leave room for others; a thread is begun only when it is needed."""

T = TypeVar("T")


class _Unwaited(ThreadPoolExecutor):
    """Its loop does not wait for what it still does."""

    def shutdown(self, *_: object, **__: object) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def run_unwaited(main: Callable[[], Awaitable[T]]) -> T:
    """`anyio.run`, but its end, in order or by Ctrl-C, leaves name lookups alone."""

    async def running() -> T:
        asyncio.get_running_loop().set_default_executor(_Unwaited(THREADS_MAX))
        return await main()

    return anyio.run(running)
