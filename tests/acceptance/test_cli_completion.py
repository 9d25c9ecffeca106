"""Completion in the shells themselves: a script is loaded as its help says, and somebody presses Tab."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.cli.main import VERBS
from tests.stores import migrated
from tests.terminal import Terminal

ROOT = Path(__file__).parents[2]
TAB = "\t"
CONFIG = """
[site]
name = "reef-1"
[store]
path = "{folder}/tidewatt.db"
[[devices]]
name = "return_tank"
driver = "sim"
[[outputs]]
name = "heater_left"
driver = "sim"
safe = false
"""
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}
LOAD = {
    "bash": "source {folder}/completions/tidewatt",
    "zsh": "fpath=({folder}/zfunc $fpath); autoload -Uz compinit; compinit -u -d {folder}/zcompdump",
    "fish": "source {folder}/tidewatt.fish",
}
SCRIPT = {"bash": "completions/tidewatt", "zsh": "zfunc/_tidewatt", "fish": "tidewatt.fish"}
TYPED = [
    ("tidewatt sta", "tidewatt status"),
    ("tidewatt config che", "tidewatt config check"),
    ("tidewatt readings --resol", "tidewatt readings --resolution"),
    ("tidewatt test retu", "tidewatt test return_tank"),
    ("tidewatt outputs set heat", "tidewatt outputs set heater_left"),
    ("tidewatt readings return_tank.te", "tidewatt readings return_tank.temperature"),
    ("tidewatt nem12 check janu", "tidewatt nem12 check january.csv"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a database with a series, a meter file, and `tidewatt` as a command."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    (folder / "january.csv").write_text("")
    store = migrated(folder)
    command = folder / "bin" / "tidewatt"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m edge.cli.main "$@"\n')
    command.chmod(0o755)
    with closing(sqlite3.connect(store.database)) as connection, connection:
        connection.execute(
            "INSERT INTO series (name, unit, decimals, kind) VALUES ('return_tank.temperature', '', 2, 'gauge')"
        )
        connection.executemany(
            "INSERT INTO channel (nmi, suffix, newest, unit, interval_min, register, stream, serial)"
            " VALUES ('6102000001', ?, '', 'KWH', 30, '', '', '')",
            [("E1",), ("B1",)],
        )
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ},
        "HOME": str(folder),
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "TERM": "xterm",
        "TIDEWATT_CONFIG": str(folder / "config.toml"),
        "PS1": "$ ",
    }


@pytest.fixture(params=list(START))
def shell(request: pytest.FixtureRequest, site: Path) -> Iterator[Terminal]:
    """A shell with the script in place."""
    name = request.param
    script = site / SCRIPT[name]
    script.parent.mkdir(exist_ok=True)
    script.write_text(said(site, "tidewatt", "completion", name))
    with Terminal(START[name], env=environment(site), folder=site) as terminal:
        terminal.type(LOAD[name].format(folder=site) + "\n")
        terminal.type("echo rea''dy\n")
        terminal.wait_for("ready")
        yield terminal


def test_tab_completes_commands_options_files_and_names_of_the_site(shell: Terminal) -> None:
    for typed, completed in TYPED:
        shell.type(typed + TAB)
        shell.wait_for(completed.removeprefix(typed))
        shell.type("\x15")  # Ctrl-U: the line is empty again


def test_fish_shows_a_whole_summary(site: Path) -> None:
    script = site / "whole.fish"
    script.write_text(said(site, "tidewatt", "completion", "fish"))
    told = said(site, "fish", "--no-config", "-c", f"source {script}; complete -C 'tidewatt sta'")
    assert told == f"status\t{VERBS['status'][1]}\n"
    assert "," in told


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("why ", ["heater_left"]),
        ("devices disable r", ["return_tank"]),
        ("series r", ["return_tank.temperature"]),
        ("intervals 61", ["6102000001"]),
        ("intervals 6102000001 ", ["B1", "E1"]),
        ("db generate x --head m", ["meters_core@head"]),
        ("db detach ", ["meters"]),
        ("--config nowhere.toml why ", []),
        ("why --config nowhere.toml ", []),
        ("why --config config.toml ", ["heater_left"]),
        ("--config january.csv series ", []),
    ],
)
def test_names_come_from_the_config_and_the_database(site: Path, words: str, completed: list[str]) -> None:
    script = site / "names.fish"
    script.write_text(said(site, "tidewatt", "completion", "fish"))
    told = said(site, "fish", "--no-config", "-c", f"source {script}; complete -C 'tidewatt {words}'")
    assert told.splitlines() == completed


def said(site: Path, *command: str) -> str:
    done = subprocess.run(
        command, env=environment(site), cwd=site, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout
