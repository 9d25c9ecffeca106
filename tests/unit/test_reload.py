"""A reload that breaks off, by a mistake or by the bound on a command, can be made again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import anyio
import pytest

from edge.app import App
from edge.clock import FakeClock
from edge.config import Config
from edge.control.safefile import safe_path
from edge.ground import Ground
from edge.settings import load
from edge.systemd import Notifier

pytestmark = pytest.mark.anyio

DEVICE = """
[[devices]]
name = "tank"
driver = "sim"
"""
OUTPUT = """
[[outputs]]
name = "light"
driver = "sim"
kind = "light"
safe = 0
"""


class Later:
    """What applies a config after the ground has; the first time it does as told, and what it got is kept."""

    def __init__(self, first: Callable[[], Awaitable[None]]) -> None:
        self._first: Callable[[], Awaitable[None]] | None = first
        self.seen: list[tuple[tuple[str, ...], set[str]]] = []

    async def apply(self, _config: Config, changed: tuple[str, ...], before: set[str]) -> None:
        self.seen.append((changed, set(before)))
        first, self._first = self._first, None
        if first is not None:
            await first()


def write(path: Path, more: str = "", *, name: str = "reef-1") -> None:
    store = f'[store]\npath = "{path.parent}/tidewatt.db"\n'
    path.write_text(f'[site]\nname = "{name}"\n{store}{more}', "utf-8")


def ground_of(path: Path) -> Ground:
    config, _ = load(path, Config)
    return Ground(config, path, FakeClock(), Notifier())


async def breaks() -> None:
    raise RuntimeError("a mistake in the daemon")


async def test_what_an_exception_left_undone_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write(path)
    ground, later = ground_of(path), Later(breaks)
    ground.app = cast(App, later)
    digest = ground.config_state.digest
    write(path, DEVICE)
    with pytest.raises(RuntimeError):
        await ground.reload()
    assert ground.config_state.digest == digest  # the page does not call it loaded
    ground.problems.set("config.reload", "the reload broke off", severity="alarm")
    assert await ground.reload() == "devices"
    assert [changed for changed, _ in later.seen] == [("devices",)] * 2
    assert "the reload broke off" not in ground.problems.texts()
    assert ground.config_state.digest != digest
    assert await ground.reload() == "nothing"


async def test_what_a_cancelled_one_left_undone_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write(path)
    ground, later = ground_of(path), Later(anyio.sleep_forever)
    ground.app = cast(App, later)
    write(path, DEVICE)
    async with anyio.create_task_group() as group:
        group.start_soon(ground.reload)
        with anyio.fail_after(60):
            while not later.seen:  # noqa: ASYNC110  # it reads a file on a thread
                await anyio.sleep(0.002)
        group.cancel_scope.cancel()
    assert await ground.reload() == "devices"
    assert await ground.reload() == "nothing"


async def test_taking_the_change_back_is_applied_too(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write(path)
    ground = ground_of(path)
    ground.app = cast(App, Later(breaks))
    write(path, DEVICE)
    with pytest.raises(RuntimeError):
        await ground.reload()
    write(path)
    assert await ground.reload() == "devices"
    assert await ground.reload() == "nothing"


async def test_safe_json_is_written_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    write(path)
    ground = ground_of(path)
    safe = safe_path(ground.control.database)
    write(path, OUTPUT)
    with monkeypatch.context() as broken:
        broken.setattr(ground.control, "compile_safe", breaks)
        with pytest.raises(RuntimeError):
            await ground.reload()
    assert await ground.reload() == "outputs"
    assert "light" in safe.read_text("utf-8")
    await ground.control.close()


async def test_what_counts_after_a_restart_only_is_told_each_time_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write(path)
    ground, later = ground_of(path), Later(breaks)
    ground.app = cast(App, later)
    write(path, DEVICE, name="reef-2")
    with pytest.raises(RuntimeError):
        await ground.reload()
    write(path, DEVICE)
    assert await ground.reload() == "devices"
