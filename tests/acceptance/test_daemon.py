"""The daemon as a process: how it starts, reloads, fails in part, and ends."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.local import LocalRefused, LocalUnavailable, call
from tests.services import Child, free_port

CONFIG = """
[site]
name = "reef-1"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = {flush_s}
[uplink]
enabled = false
[web]
port = {port}
[[devices]]
name = "waves"
driver = "sim"
model = "waves"
n = {points}
interval_s = 0.1
"""


class Daemon:
    """`tidewatt run` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.database = folder / "tidewatt.db"
        self.port = free_port()
        command = [sys.executable, "-m", "edge.cli.main", "--config", str(self.config), "run"]
        self.child = Child("daemon", command, log=folder / "daemon.log")

    def write(self, *, points: int = 5, flush_s: float = 0.3, extra: str = "") -> None:
        text = CONFIG.format(folder=self.folder, port=self.port, points=points, flush_s=flush_s)
        self.config.write_text(text + extra)

    def start(self) -> None:
        self.child.start()
        self.child.wait_ready(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("status"))
        except LocalUnavailable:
            return False

    def ask(self, verb: str, **args: Any) -> Any:
        return call(self.folder / "tidewatt.sock", verb, args)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def until(self, true: Callable[[], object], within_s: float = 60) -> None:
        for _ in range(round(within_s / 0.05)):
            if true():
                return
            time.sleep(0.05)
        pytest.fail(f"waited {within_s} s in vain\n{self.child.log_tail(30)}")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.write()
    yield daemon
    daemon.child.stop()


def test_sigterm_ends_it_in_order_and_nothing_that_was_read_is_lost(daemon: Daemon) -> None:
    daemon.write(flush_s=60)
    daemon.start()
    daemon.until(lambda: daemon.ask("status")["store"]["queued"] > 50)
    queued = daemon.ask("status")["store"]["queued"]
    assert daemon.child.stop() == 0
    assert daemon.rows("SELECT count(*) FROM reading")[0][0] >= queued
    assert daemon.rows("SELECT kind FROM event ORDER BY seq") == [("started",), ("stopped",)]
    assert daemon.rows("SELECT value FROM progress WHERE name = 'open'") == [(0,)]


def test_the_history_of_what_is_not_committed_yet_is_empty(daemon: Daemon) -> None:
    """The page asks for it as soon as the value is live."""
    daemon.write(flush_s=60)
    daemon.start()
    daemon.until(lambda: daemon.ask("status")["store"]["queued"] > 5)
    address = f"http://127.0.0.1:{daemon.port}/api/v1/"
    with urllib.request.urlopen(f"{address}devices") as answer:
        live = json.load(answer)["devices"][0]["points"][0]["series"]
    with urllib.request.urlopen(f"{address}readings?series={live}") as answer:
        assert json.load(answer)["readings"] == []
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}readings?series=waves.nothing&series={live}")


def test_the_history_of_a_point_that_was_never_read_is_empty(daemon: Daemon) -> None:
    """The processor's load is a difference of two reads; the page shows its row, and asks for it, before the second."""
    daemon.write(extra='[[devices]]\nname = "pi"\ndriver = "host"\ninterval_s = 3600\n')
    daemon.start()
    daemon.until(lambda: daemon.ask("status")["store"]["stored_total"] > 5)
    address = f"http://127.0.0.1:{daemon.port}/api/v1/readings?series=pi.cpu_used"
    with urllib.request.urlopen(address) as answer:
        assert json.load(answer)["readings"] == []


def test_kill_9_loses_at_most_the_flush_interval_and_nothing_committed(daemon: Daemon) -> None:
    daemon.write(flush_s=1.0)
    daemon.start()
    daemon.until(lambda: daemon.ask("status")["store"]["stored_total"] > 100)
    last_seen_ms = daemon.rows("SELECT max(ts) FROM reading")[0][0]
    before = daemon.rows("SELECT seq, series, ts, value FROM reading")
    daemon.child.kill()
    kept = daemon.rows("SELECT seq, series, ts, value FROM reading")
    assert kept[: len(before)] == before
    daemon.start()
    daemon.until(lambda: len(daemon.rows("SELECT 1 FROM reading")) > len(kept))
    first_new = daemon.rows(f"SELECT min(seq), min(ts) FROM reading WHERE seq > {kept[-1][0]}")[0]
    assert first_new[0] == kept[-1][0] + 1
    assert first_new[1] > last_seen_ms
    assert len(daemon.rows("SELECT id FROM log")) == 2
    daemon.until(lambda: "sound after an unclean stop" in daemon.child.log_tail(40))


def test_sighup_takes_over_a_changed_config_and_leaves_the_rest_alone(daemon: Daemon) -> None:
    daemon.start()
    daemon.until(lambda: daemon.ask("devices")["devices"][0]["state"] == "up")
    polls = daemon.ask("devices")["devices"][0]["polls"]
    daemon.write(extra='[[devices]]\nname = "tank"\ndriver = "sim"\ninterval_s = 0.5\n')
    daemon.child.send(signal.SIGHUP)
    daemon.until(lambda: [d["name"] for d in daemon.ask("devices")["devices"]] == ["waves", "tank"])
    daemon.until(lambda: daemon.ask("devices")["devices"][1]["state"] == "up")
    assert daemon.ask("devices")["devices"][0]["polls"] >= polls  # it was not started anew
    daemon.until(lambda: ("config-reloaded",) in daemon.rows("SELECT kind FROM event"))


def test_a_reload_does_not_hang_on_a_database_that_is_written_later(daemon: Daemon) -> None:
    def also(name: str) -> str:
        return f'[[devices]]\nname = "{name}"\ndriver = "sim"\ninterval_s = 0.5\n'

    def known(name: str) -> bool:
        return bool(daemon.rows(f"SELECT 1 FROM meta WHERE kind = 'device' AND id = '{name}'"))

    def troubled() -> bool:
        return any("inventory" in text for text in daemon.ask("status")["problems"])

    daemon.start()
    daemon.until(lambda: known("waves"))
    other = sqlite3.connect(daemon.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    daemon.write(extra=also("tank"))
    daemon.child.send(signal.SIGHUP)
    daemon.until(troubled)
    assert [device["state"] for device in daemon.ask("devices")["devices"]] == ["up", "up"]
    other.rollback()
    other.close()
    daemon.write(extra=also("tank") + also("sump"))
    daemon.child.send(signal.SIGHUP)
    daemon.until(lambda: known("tank") and known("sump"))
    daemon.until(lambda: not troubled())


def test_an_invalid_config_changes_nothing_and_is_shown(daemon: Daemon) -> None:
    daemon.start()
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("interval_s = 0.1", 'interval_s = "often"'))
    daemon.child.send(signal.SIGHUP)
    daemon.until(lambda: daemon.ask("status")["config"]["error"])
    status = daemon.ask("status")
    line = good[: good.index("interval_s = 0.1")].count("\n") + 1
    assert f"config.toml:{line}: devices.waves.interval_s" in status["config"]["error"]
    assert any("the new config is not used" in text for text in status["problems"])
    daemon.until(lambda: daemon.ask("devices")["devices"][0]["state"] == "up")
    with pytest.raises(LocalRefused, match="interval_s"):
        daemon.ask("reload")
    daemon.config.write_text(good)
    daemon.child.send(signal.SIGHUP)
    daemon.until(lambda: not daemon.ask("status")["config"]["error"])


def test_what_needs_a_restart_is_said(daemon: Daemon) -> None:
    daemon.start()
    daemon.config.write_text(daemon.config.read_text().replace('"reef-1"', '"reef-2"'))
    assert "site" in daemon.ask("reload")["changed"]
    assert daemon.ask("status")["site"] == "reef-1"
    assert any("[site] count after a restart" in text for text in daemon.ask("status")["problems"])


def test_a_taken_port_is_a_problem_and_not_an_end(daemon: Daemon) -> None:
    other = Daemon(daemon.folder / "other")
    other.folder.mkdir()
    other.port = daemon.port
    other.write()
    daemon.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/healthz") as answer:
        assert json.load(answer)["status"] == "ok"
    daemon.until(lambda: f"http://127.0.0.1:{daemon.port}/" in daemon.child.log_tail(40))
    daemon.until(lambda: "1 of 1 devices up" in daemon.child.log_tail(40))
    try:
        other.start()
        other.until(lambda: "set [web] port" in other.child.log_tail(40))
        other.until(lambda: any("set [web] port" in text for text in other.ask("status")["problems"]))
        other.until(lambda: other.ask("status")["store"]["stored_total"] > 20)
    finally:
        other.child.stop()


def test_two_daemons_on_one_database_are_one_too_many(daemon: Daemon) -> None:
    daemon.start()
    second = Child("second", daemon.child.argv, log=daemon.folder / "second.log")
    second.start()
    assert second.wait(60)
    assert second.exit_code == 1
    assert "stop it first" in second.log_tail()
    assert daemon.ask("status")


def test_a_corrupt_database_is_set_aside_and_a_new_one_begun(daemon: Daemon) -> None:
    daemon.database.write_bytes(b"no database at all " * 1000)
    daemon.start()
    aside = list(daemon.folder.glob("tidewatt.db.corrupt-*"))
    assert len(aside) == 1
    assert aside[0].read_bytes().startswith(b"no database")
    assert any(str(aside[0]) in text for text in daemon.ask("status")["problems"])
    daemon.until(lambda: ("store-set-aside",) in daemon.rows("SELECT kind FROM event"))
    daemon.until(lambda: daemon.rows("SELECT count(*) FROM reading")[0][0] > 10)


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(daemon: Daemon) -> None:
    (daemon.folder / "file").write_text("")
    daemon.config.write_text(
        daemon.config.read_text().replace(f"{daemon.folder}/tidewatt.db", f"{daemon.folder}/file/tidewatt.db")
    )
    daemon.child.start()
    assert daemon.child.wait(60)
    assert daemon.child.exit_code == 1
    assert "[store] path" in daemon.child.log_tail()
    assert "Traceback" not in daemon.child.log_tail()


def test_a_newer_database_is_left_alone(daemon: Daemon) -> None:
    daemon.start()
    daemon.child.stop()
    connection = sqlite3.connect(daemon.database)
    with connection:
        connection.execute("UPDATE alembic_version_core SET version_num = '9999'")
    connection.close()
    daemon.child.start()
    assert daemon.child.wait(60)
    assert daemon.child.exit_code == 1
    assert "newer" in daemon.child.log_tail()
    assert "Traceback" not in daemon.child.log_tail()


def test_a_dead_sensor_is_a_problem_in_words(daemon: Daemon) -> None:
    daemon.write(extra='[[devices]]\nname = "probe"\ndriver = "ds18b20"\naddress = "28-000000000001"\n')
    daemon.start()
    daemon.until(lambda: any("device probe is" in text for text in daemon.ask("status")["problems"]))
    assert daemon.ask("status")["health"] == "degraded"
    daemon.until(lambda: ("device-failed",) in daemon.rows("SELECT kind FROM event"))
