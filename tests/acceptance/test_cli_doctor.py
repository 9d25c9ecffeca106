"""`tidewatt doctor` as a person runs it, with and without daemon and broker; and the manners of the whole CLI."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from edge.cli.main import VERBS, cli, run
from edge.local import LocalRefused, LocalUnavailable, call
from tests.services import Mosquitto, MosquittoOptions, free_port

ROOT = Path(__file__).parents[2]
START_TRIES = 600
CONFIG = """\
[site]
name = "reef"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.1
[uplink]
port = {port}
username = "reef"
password = "right"
[web]
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
ACL = ("user reef", "topic readwrite tidewatt/v1/reef/#")
DEAF = ("user reef", "topic write tidewatt/v1/reef/#", "topic read tidewatt/v1/reef/held")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli.main", *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(folder=tmp_path, port=free_port()))
    path.chmod(0o640)
    return path


def ask(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code, and what each check found."""
    capsys.readouterr()
    code = run(["--config", str(config), "doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] == (code == 0)
    found: dict[str, list[dict[str, str]]] = {}
    for finding in told["checks"]:
        found.setdefault(finding["check"], []).append(finding)
    return code, found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Any]:
    started: list[Mosquitto] = []

    def broker(acl: tuple[str, ...]) -> int:
        options = MosquittoOptions(passwords={"reef": "right"}, acl=acl)
        started.append(Mosquitto(tmp_path / f"broker{len(started)}", options=options))
        started[-1].start()
        return started[-1].port

    yield broker
    for one in started:
        one.stop()


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_without_a_daemon_it_says_what_is_missing_and_makes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(tmp_path)
    code, found = ask(config, capsys)
    assert code == 1
    assert tree(tmp_path) == before
    assert "the daemon is not running" in found["daemon"][0]["text"]
    assert found["broker"][0]["state"] == "failed"
    assert "no broker answers at localhost:" in found["broker"][0]["text"]
    assert "yet; the daemon makes it" in found["database"][0]["text"]
    for check in ("config", "software", "rights", "buses", "meter files"):
        assert [finding["state"] for finding in found[check]] == ["ok"], found[check]
    assert run(["--config", str(config), "doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "failed") for line in lines[: lines.index("")])


def test_an_invalid_config_is_told_and_the_service_is_still_looked_at(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("kind =", "knd ="))
    code, found = ask(config, capsys)
    assert code == 1
    assert set(found) == {"config", "service"}
    assert any("did you mean kind?" in finding["text"] for finding in found["config"])
    assert run(["--config", str(config), "doctor"]) == 1
    assert "The rest is checked when the config is valid." in capsys.readouterr().out


def test_the_upstream_process_has_a_command_of_its_own(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("[sink]\n")
    assert run(["--config", str(config), "doctor"]) == 1
    assert "tidewatt sink status looks at that" in capsys.readouterr().err


def test_the_broker_is_asked_for_an_echo(
    config: Path, tmp_path: Path, broker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.format(folder=tmp_path, port=broker(ACL)))
    finding = ask(config, capsys)[1]["broker"][0]
    assert finding["state"] == "ok", finding
    assert "answers without TLS as reef, and takes and gives" in finding["text"]
    config.write_text(config.read_text().replace('"right"', '"wrong"'))
    finding = ask(config, capsys)[1]["broker"][0]
    assert finding["state"] == "failed"
    assert "refuses the login 'reef'" in finding["text"]
    config.write_text(CONFIG.format(folder=tmp_path, port=broker(DEAF)))
    finding = ask(config, capsys)[1]["broker"][0]
    assert finding["state"] == "failed"
    assert "tidewatt/v1/reef/state/" in finding["text"]
    assert "ACL" in finding["text"]


def test_with_a_daemon_its_own_word_counts(
    config: Path, tmp_path: Path, broker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG.format(folder=tmp_path, port=broker(ACL)))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command("run", "--config", str(config)), cwd=ROOT, stdout=log, stderr=log, env=environment()
        )
    try:
        for _ in range(START_TRIES):
            assert process.poll() is None, (tmp_path / "log").read_text()
            try:
                if call(tmp_path / "tidewatt.sock", "status")["delivery"]["state"] == "connected":
                    break
            except (LocalRefused, LocalUnavailable):  # not there yet, or opening its database
                pass
            time.sleep(0.05)
        _, found = ask(config, capsys)
        assert "the daemon is connected to localhost:" in found["broker"][0]["text"]
        assert found["sink"][0]["state"] == "warning"  # bound to nothing
        for check in ("config", "rights", "database", "safe file", "meter files", "broker"):
            assert [finding["state"] for finding in found[check]] == ["ok"], found[check]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    before = tree(tmp_path)
    _, found = ask(config, capsys)
    assert [finding["state"] for finding in found["database"]] == ["ok"]
    changed = {path for path, what in tree(tmp_path).items() if before.get(path) != what}
    assert not {path for path in changed if "broker" not in path}


# --------------------------------------------------------------------------------- the CLI's manners


def commands(path: str, found: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, found
    if isinstance(found, click.Group):
        for name, inner in found.commands.items():
            yield from commands(f"{path} {name}", inner)


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_ends_with_examples_of_its_command(verb: str) -> None:
    context = click.Context(cli)
    found = cli.get_command(context, verb)
    assert found is not None
    for path, one in commands(verb, found):
        epilog = one.epilog or ""
        assert "Example" in epilog, f"tidewatt {path} --help shows no example; give it an epilog"
        assert path.split()[-1] in epilog, path


def on_a_terminal(arguments: list[str], **more: str) -> bytes:
    """What a command writes on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        arguments, stdout=theirs, stderr=theirs, stdin=theirs, cwd=ROOT, env=environment(TERM="xterm", **more)
    )
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            piece = os.read(ours, 65_536)
        except OSError:
            break
        if not piece:
            break
        said += piece
    process.wait(60)
    os.close(ours)
    return said


@pytest.mark.parametrize(
    "arguments", [["doctor"], ["status"], ["drivers", "sim"], ["config", "show", "--changed"]], ids=" ".join
)
def test_no_color_takes_every_colour_out(arguments: list[str], config: Path) -> None:
    plain = on_a_terminal(command("--config", str(config), *arguments), NO_COLOR="1")
    assert b"reef" in plain or b"sim" in plain
    assert b"m" not in [code[-1:] for code in escapes(plain)]
    bright = on_a_terminal(command("--config", str(config), *arguments), NO_COLOR="")
    assert b"m" in [code[-1:] for code in escapes(bright)]


WORKING = """\
import threading
from edge.cli import waiting
told, tell = threading.Event(), waiting.tell
waiting.tell = lambda what: (tell(what), told.set())
waiting.TICK_S = {tick_s}
with waiting.waiting("copying"):
    {work}
print("done")
"""


@pytest.mark.parametrize(("tick_s", "work", "shown"), [(0.01, "told.wait(60)", True), (600, "pass", False)])
def test_long_work_shows_a_sign_of_life_on_a_terminal(tick_s: float, work: str, shown: bool) -> None:
    code = WORKING.format(tick_s=tick_s, work=work)
    said = on_a_terminal([sys.executable, "-c", code])
    assert ("… copying, 1 s".encode() in said) == shown
    assert said.endswith(b"\x1b[Kdone\r\n" if shown else b"done\r\n")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, env=environment()
    )
    assert (done.stdout, done.stderr) == (b"done\n", b"")


def escapes(text: bytes) -> list[bytes]:
    return re.findall(rb"\x1b\[[0-9;?]*[A-Za-z]", text)


COMPLETIONS = [
    ("tidewatt doc", "doctor"),
    ("tidewatt config ch", "check"),
    ("tidewatt doctor --js", "--json"),
]


@pytest.mark.parametrize(("typed", "expected"), COMPLETIONS)
def test_bash_completes(typed: str, expected: str, tmp_path: Path) -> None:
    """The printed script, run by bash as its completion would."""
    program = tmp_path / "tidewatt"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edge.cli.main "$@"\n')
    program.chmod(0o755)
    script = (
        'source <(tidewatt completion bash)\nread -ra COMP_WORDS <<< "$1"\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n'
        '_tidewatt_completion tidewatt\necho "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", typed], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"), check=True,
    )  # fmt: skip
    assert done.stdout.split() == [expected], done.stderr


@pytest.mark.parametrize("shell", [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)])
def test_the_script_is_sound_to_its_shell(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=60)
