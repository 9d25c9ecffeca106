"""`tidewatt run` with an invalid config: a person at a terminal is told, everything else starts the last good one."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from edge.config import Config
from edge.control import lastgood
from tests.terminal import Terminal, command, environment

CONFIG = """\
[site]
name = "reef"
[store]
path = "{folder}/data/tidewatt.db"
[uplink]
enabled = false
[web]
enabled = false
"""
IN_FORCE = "the last good one is in force"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config that was started once, and has two mistakes since."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "data").mkdir()
    lastgood.keep(path, lastgood.load_or_last_good(path, Config)[0].store.control_database)
    path.write_text(path.read_text() + "port = 0\n[lgo]\n")
    return path


def shell(*arguments: str) -> list[str]:
    return ["/bin/sh", "-c", f"{shlex.join(command(*arguments))}; echo it ended with $?"]


def test_at_a_terminal_the_mistakes_are_told_and_nothing_starts(config: Path) -> None:
    folder = config.parent
    with Terminal(shell("--config", str(config), "run"), env=environment(), folder=folder) as terminal:
        shown = terminal.wait_for_end().replace("\r\n", "\n")
    kept = folder / "data" / "last-good.toml"
    first, second, advice, end = shown.splitlines()
    assert first.startswith(f"{config}:9: web.port: must be from 1 to 65535, is 0")
    assert second == f"{config}:10: lgo: there is no such option; did you mean log?"
    assert advice == f"nothing was started; the last good config runs by: tidewatt --config {kept} run"
    assert end == "it ended with 1"
    assert [path.name for path in (folder / "data").iterdir()] == ["last-good.toml"]

    with Terminal(command("--config", str(kept), "run"), env=environment(), folder=folder) as terminal:
        terminal.wait_for("devices up")
        assert IN_FORCE not in terminal.shown
        terminal.type("\x03")
        terminal.wait_for_end()


def test_a_service_that_has_a_terminal_starts_the_last_good_one(config: Path) -> None:
    """The unit with StandardError=tty, on a screen that nobody looks at."""
    env = environment(NOTIFY_SOCKET=str(config.parent / "nobody"))
    with Terminal(command("--config", str(config), "run"), env=env, folder=config.parent) as terminal:
        terminal.wait_for(IN_FORCE)
        terminal.type("\x03")
        terminal.wait_for_end()
