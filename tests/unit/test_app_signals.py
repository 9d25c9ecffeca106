"""What the daemon does at a signal."""

from __future__ import annotations

import os
import signal
from typing import cast

import anyio
import pytest

from edge.app import _obey_signals
from edge.clock import FakeClock
from edge.ground import Ground
from edge.supervisor import Problems
from edge.systemd import Notifier


class Reloading:
    """A ground whose reload hangs, or breaks off."""

    def __init__(self, error: Exception | None = None) -> None:
        self.clock = FakeClock()
        self.problems = Problems()
        self.begun = anyio.Event()
        self._error = error

    async def reload(self) -> str:
        self.begun.set()
        if self._error is not None:
            raise self._error
        await anyio.sleep_forever()
        return ""


async def stop_after_reload(ground: Reloading) -> None:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(_obey_signals, cast(Ground, ground), Notifier(), group)
            await anyio.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGHUP)
            await ground.begun.wait()
            await anyio.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.anyio
async def test_a_stop_does_not_wait_for_a_reload_that_hangs() -> None:
    await stop_after_reload(Reloading())


@pytest.mark.anyio
async def test_a_reload_that_breaks_off_is_told_and_ends_nothing() -> None:
    ground = Reloading(OSError(5, "Input/output error"))
    await stop_after_reload(ground)
    assert "Input/output error" in ground.problems.texts()[0]
    assert "systemctl restart tidewatt-edge" in ground.problems.texts()[0]
