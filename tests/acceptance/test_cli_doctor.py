"""`tidewatt doctor` as a person runs it, with and without daemon and broker."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish

from edge.cli.main import run
from edge.local import LocalRefused, LocalUnavailable, call
from tests.services import Mosquitto, MosquittoOptions, free_port
from tests.terminal import ROOT, command, environment

START_TRIES = 1200
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
MUTE = ("user reef", "topic read tidewatt/v1/reef/#", "user other", "topic write tidewatt/v1/reef/#")
DEAF = ("user reef", "topic write tidewatt/v1/reef/#", "topic read tidewatt/v1/reef/held")


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
        options = MosquittoOptions(passwords={"reef": "right", "other": "right"}, acl=acl)
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
    assert found["meter files"][0]["text"].count(" (will be made)") == 2
    assert run(["--config", str(config), "doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "failed") for line in lines[: lines.index("")])
    warned = sum(line.startswith("warning") for line in lines)
    assert lines[-1].endswith(f", {warned} warning{'s' if warned > 1 else ''}")


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("tls = true", "does this port speak MQTT with TLS"),
        ('tls = true\nca_file = "/nowhere.pem"', "/nowhere.pem is missing or may not be read"),
    ],
)
def test_tls_where_the_broker_speaks_none(
    options: str, words: str, config: Path, tmp_path: Path, broker: Any
) -> None:
    """In a process of its own: paho forgets a socket whose handshake failed."""
    config.write_text(CONFIG.format(folder=tmp_path, port=f"{broker(ACL)}\n{options}"))
    asked = command("--config", str(config), "doctor", "--json")
    done = subprocess.run(asked, cwd=ROOT, env=environment(), capture_output=True, check=False)
    (finding,) = [one for one in json.loads(done.stdout)["checks"] if one["check"] == "broker"]
    assert finding["state"] == "failed"
    assert words in finding["text"]


def test_an_echo_of_somebody_else_is_none(
    config: Path, tmp_path: Path, broker: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that the broker kept at the very topic comes at once; what was sent itself never does."""
    port = broker(MUTE)
    config.write_text(CONFIG.format(folder=tmp_path, port=port))
    publish.single(
        "tidewatt/v1/reef/state/doctor.echo", '{"value":1}', qos=1, retain=True, port=port,
        auth={"username": "other", "password": "right"},
    )  # fmt: skip
    finding = ask(config, capsys)[1]["broker"][0]
    assert finding["state"] == "failed", finding
    assert "does not give back what is published" in finding["text"]


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
