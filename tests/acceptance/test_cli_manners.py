"""The manners of the whole command line: help, exit codes, JSON, colours, and a sign of life on long work.

They hold for every command there is: one that is new needs a row in USES, or the test names it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click
import pytest

from edge.cli.main import VERBS, cli, run
from edge.control import lastgood
from tests.meterstore import nem12, write
from tests.services import free_port
from tests.terminal import ROOT, Terminal, command, environment

CONFIG = """\
[site]
name = "reef"
[store]
path = "{folder}/data/tidewatt.db"
[uplink]
enabled = false
[web]
enabled = false
[meters]
enabled = false
[[devices]]
name = "tank"
driver = "sim"
[[outputs]]
name = "lamp"
driver = "sim"
kind = "light"
safe = 0
"""
SINK = """\
[sink]
postgres = "postgresql://nobody@127.0.0.1:{port}/nowhere"
"""
NO_JSON: Final = {"run", "sink run", "config schema", "completion", "help"}
"""Commands without --json: processes, what is a program's already, and text to read."""
USES: Final[Mapping[str, str]] = {
    "db seed": "", "ingest": "january.csv",
    "clock": "", "clock confirm": "--yes",
    "status": "", "devices": "", "devices enable": "tank", "devices disable": "tank", "outputs": "",
    "outputs set": "lamp on --for 5m", "outputs ramp": "lamp 0.5 --over 10s --for 5m", "outputs release": "lamp",
    "outputs confirm": "lamp", "outputs safe": "", "why": "lamp", "series": "", "readings": "example.temperature",
    "events": "", "files": "", "meters": "", "intervals": "6102000001 E1 --from 2026-01-01",
    "sync": "", "sync bind": "tw1-1", "sync ask": "", "sync resend": "--from -1h", "scan": "", "test": "tank",
    "calibrate": "tank.temperature --at 25=25.2 --yes --dry-run", "doctor": "", "selftest": "--unsafe",
    "nem12 show": "january.csv", "nem12 check": "january.csv", "drivers": "", "config check": "",
    "config show": "", "sink ledger": "", "sink status": "", "sink dead-letters": "", "sink redrive": "",
    "sink reopen": "--edge reef --from -1h", "broker config": "--edge reef --out broker --no-tls",
    "db backup": "copy", "db restore": "copy", "db reset": "--yes", "db wipe": "", "db migrate": "",
    "db status": "", "db history": "", "db generate": "nothing --head core_core@head", "db detach": "meters",
    "demo": "--port none",
}  # fmt: skip
"""Command -> what a person writes behind it, in this order on a site whose daemon does not run."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def commands(path: str, found: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, found
    if isinstance(found, click.Group):
        for name, inner in found.commands.items():
            yield from commands(f"{path} {name}", inner)


def every() -> dict[str, click.Command]:
    """Every command, groups too, by its words."""
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for verb in VERBS:
        one = cli.get_command(context, verb)
        assert one is not None
        found.update(commands(verb, one))
    return found


def does_something(one: click.Command) -> bool:
    return not isinstance(one, click.Group) or one.invoke_without_command


EVERY: Final = every()


@pytest.mark.parametrize("path", EVERY)
def test_every_help_ends_with_examples_of_its_command(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path.split(), "--help"]) == 0
    _, _, examples = capsys.readouterr().out.partition("Example")
    assert examples, f"tidewatt {path} --help shows no example; give it an epilog"
    assert path.split()[-1] in examples, path


@pytest.mark.parametrize("path", EVERY)
def test_a_wrong_option_is_wrong_use(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path.split(), "--nonsense"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "tidewatt: " in said.err


def test_every_command_that_shows_something_has_json() -> None:
    without = {
        path
        for path, one in EVERY.items()
        if does_something(one) and not any("--json" in parameter.opts for parameter in one.params)
    }
    assert without - {"sink"} == NO_JSON  # `sink` alone is `sink run`


def test_no_command_is_left_out_here() -> None:
    able = {path for path, one in EVERY.items() if does_something(one)}
    assert able - {"sink"} - NO_JSON == USES.keys()


def no_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`outputs safe` falls back to the safe.json of the machine's own site, and would drive what is wired to it."""

    def ended(code: int) -> None:
        raise AssertionError(f"a command ended this whole process with {code}")

    monkeypatch.delenv(lastgood.STATE_VARIABLE, raising=False)
    monkeypatch.setattr(lastgood, "DEFAULT_DATABASE", folder / "no-site" / "tidewatt.db")
    monkeypatch.setattr(os, "_exit", ended)


@pytest.mark.parametrize("state", ["", "state"])
def test_outputs_safe_falls_back_to_the_site_of_the_service(
    state: str,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The one that systemd names, else the package's; no other machine's is ever looked at."""
    no_site(tmp_path, monkeypatch)
    if state:
        monkeypatch.setenv(lastgood.STATE_VARIABLE, str(tmp_path / state))
    assert run(["--config", str(config), "outputs", "safe"]) == 1
    assert f"{tmp_path / (state or 'no-site')}/safe.json" in capsys.readouterr().err


def test_json_is_json_and_a_refusal_is_a_line_on_standard_error(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, one after another, on one site: a program reads what comes, or an exit code and nothing."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TIDEWATT_")]:
        monkeypatch.delenv(name)
    no_site(tmp_path, monkeypatch)
    write(tmp_path, "january.csv", nem12([("20260101", "1.5"), ("20260102", "1.6")]))
    sink = tmp_path / "sink.toml"
    sink.write_text(SINK.format(port=free_port()))
    told = {}
    for path, arguments in USES.items():
        used = sink if path.startswith("sink") else config
        code = run(["--config", str(used), *path.split(), *arguments.split(), "--json"])
        said = capsys.readouterr()
        assert code in (0, 1, 2), path
        assert "TIDEWATT_DEBUG" not in said.err, f"tidewatt {path}: {said.err}"
        if said.out:
            json.loads(said.out)
        else:
            assert code, f"tidewatt {path} --json ended well and printed nothing"
            assert said.err.strip(), f"tidewatt {path} --json ended with {code} and said nothing"
        told[path] = code
    assert {path for path, code in told.items() if code == 2} <= {"demo"}
    for path in ("series", "readings", "events", "ingest", "files", "meters", "intervals", "test", "db seed"):
        assert told[path] == 0, path


def on_a_terminal(arguments: list[str], **more: str) -> bytes:
    """What a command writes on a terminal."""
    with Terminal(arguments, env=environment(TERM="xterm", **more), folder=ROOT) as terminal:
        return terminal.wait_for_end().encode()


COLOURED: Final = (
    "doctor",
    "status",
    "drivers sim",
    "config show --changed",
    "db status",
    "nem12 check january.csv",
)


@pytest.mark.parametrize("arguments", COLOURED)
def test_no_color_takes_every_colour_out(arguments: str, config: Path, tmp_path: Path) -> None:
    january = write(tmp_path, "january.csv", nem12([("20260101", "1.5")]))
    asked = command("--config", str(config), *arguments.replace("january.csv", str(january)).split())
    plain = on_a_terminal(asked, NO_COLOR="1")
    assert b"\r\n" in plain
    assert b"m" not in [code[-1:] for code in escapes(plain)]
    bright = on_a_terminal(asked, NO_COLOR="")
    assert b"m" in [code[-1:] for code in escapes(bright)]


WORKING = """\
import threading
from edge.cli import waiting
told, tell = threading.Event(), waiting.tell
waiting.tell = lambda what: (tell(what), told.set())
waiting.TICK_S = {tick_s}
with waiting.waiting("copying") as say:
    {work}
    say("found")
print("done")
"""


@pytest.mark.parametrize(("tick_s", "work", "shown"), [(0.01, "told.wait(60)", True), (600, "pass", False)])
def test_long_work_shows_a_sign_of_life_on_a_terminal(tick_s: float, work: str, shown: bool) -> None:
    said = on_a_terminal([sys.executable, "-c", WORKING.format(tick_s=tick_s, work=work)])
    assert ("… copying, 1 s".encode() in said) == shown
    assert (b"\x1b[Kfound\r\n" in said) == shown
    assert said.endswith(b"\x1b[Kdone\r\n" if shown else b"done\r\n")


def test_nothing_but_a_terminal_is_shown_a_sign_of_life() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKING.format(tick_s=0.01, work="assert threading.active_count() == 1")],
        cwd=ROOT, capture_output=True, check=True, env=environment(),
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"found\ndone\n", b"")


WORK = {
    "status": ("asking the daemon", "data/tidewatt.sock"),
    "nem12 check january.csv": ("reading january.csv", "january.csv"),
    "nem12 show january.csv": ("reading january.csv", "january.csv"),
}


@pytest.mark.parametrize("arguments", WORK)
def test_commands_that_wait_say_so(arguments: str, config: Path, tmp_path: Path) -> None:
    """On a daemon that does not answer, on a file that does not come."""
    words, held = WORK[arguments]
    at = tmp_path / held
    at.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as silent:
        if held.endswith(".sock"):
            silent.bind(str(at))
            silent.listen()
        else:
            os.mkfifo(at)
        asked = command("--config", str(config), *arguments.split())
        with Terminal(asked, env=environment(TERM="xterm"), folder=tmp_path) as terminal:
            terminal.wait_for(f"… {words}, 1 s")


def escapes(text: bytes) -> list[bytes]:
    return re.findall(rb"\x1b\[[0-9;?]*[A-Za-z]", text)
