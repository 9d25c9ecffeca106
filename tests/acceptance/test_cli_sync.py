"""`tidewatt sync` against a running daemon, mosquitto, sink and Postgres: what it shows, and sending again."""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.cli.main import run
from edge.local import LocalUnavailable, call
from migrations.runner import migrate_upstream
from tests.services import Child, Mosquitto, Postgres, free_port
from tests.upstream import fetch, run_sql

NOBODY = "postgresql://sink@localhost/none"
CONFIG = """\
[site]
name = "reef"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.2
[uplink]
port = {port}
ledger = "{ledger}"
batch_interval_s = 0.2
clock_wait_s = 0
[web]
port = {web_port}
[[devices]]
name = "waves"
driver = "sim"
model = "waves"
n = 20
interval_s = 0.1
[sink]
port = {port}
postgres = "{dsn}"
"""


class Site:
    """A daemon and a sink in one folder, and the command line beside them."""

    def __init__(self, folder: Path, broker: Mosquitto, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.dsn, self.web_port = folder, dsn, free_port()
        self.config = folder / "config.toml"
        self._capsys = capsys
        ledger = fetch(dsn, "SELECT tidewatt_ledger() AS id")[0]["id"] if dsn != NOBODY else ""
        self.config.write_text(
            CONFIG.format(folder=folder, port=broker.port, ledger=ledger, dsn=dsn, web_port=self.web_port)
        )
        self.daemon, self.sink = self._child("run"), self._child("sink")

    def _child(self, verb: str) -> Child:
        command = [sys.executable, "-m", "edge.cli.main", "--config", str(self.config), verb]
        return Child(verb, command, log=self.folder / f"{verb}.log")

    def tidewatt(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what was said, errors included."""
        self._capsys.readouterr()
        code = run(["--config", str(self.config), *arguments])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def asked(self, *arguments: str) -> Any:
        return json.loads(self.tidewatt(*arguments, "--json")[1])

    def delivery(self) -> dict[str, Any]:
        found: dict[str, Any] = call(self.folder / "tidewatt.sock", "status")["delivery"]
        return found

    def rows(self) -> list[tuple[int, int]]:
        query = "SELECT log, seq FROM reading ORDER BY log, seq"
        return [(row["log"], row["seq"]) for row in fetch(self.dsn, query)]

    def metrics(self) -> set[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/metrics") as answer:
            text = answer.read().decode()
        return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}

    def until(self, true: Callable[[], object], within_s: float = 60) -> None:
        for _ in range(round(within_s / 0.05)):
            if true():
                return
            time.sleep(0.05)
        pytest.fail(f"in vain\n{self.daemon.log_tail(20)}\n{self.sink.log_tail(20)}")

    def answers(self) -> bool:
        try:
            return bool(self.delivery())
        except LocalUnavailable:
            return False


@contextmanager
def running(site: Site) -> Iterator[Site]:
    """With its daemon; the sink is started by who wants one."""
    site.daemon.start()
    try:
        site.daemon.wait_ready(site.answers)
        yield site
    finally:
        site.daemon.stop()
        site.sink.stop()


@pytest.fixture
def site(
    tmp_path: Path, mosquitto: Mosquitto, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    dsn = postgres.fresh_database()
    migrate_upstream(dsn)
    with running(Site(tmp_path, mosquitto, dsn, capsys)) as made:
        yield made


@pytest.fixture
def lonely_site(tmp_path: Path, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    """One that no sink will ever answer."""
    with running(Site(tmp_path, mosquitto, NOBODY, capsys)) as made:
        yield made


def test_field_12_sync_shows_what_waits_and_resend_brings_back_what_was_deleted_upstream(site: Site) -> None:
    site.until(lambda: site.delivery()["streams"]["readings"]["backlog"] > 500)
    shown = site.asked("sync")
    readings = shown["streams"]["readings"]
    assert set(shown["lanes"]) == {"live", "backlog"}
    assert (readings["fragments"], readings["ranges"][0][0]) == (1, 1)
    assert readings["ranges"][0][1] == readings["head"] == readings["backlog"]
    site.until(lambda: site.delivery()["streams"]["readings"]["oldest_unsent"], 12)
    code, text = site.tidewatt("sync")
    assert code == 0
    for words in ("\nlive ", " in flight", "\nbacklog ", " ranges, oldest ", "window ", "readings wait  1-"):
        assert words in text, text

    site.sink.start()
    site.until(lambda: "listening" in site.sink.log_tail(20))
    assert site.tidewatt("sync", "ask")[0] == 0
    site.until(lambda: site.delivery()["streams"]["readings"]["settled"] > 600)
    site.until(lambda: site.delivery()["streams"]["readings"]["backlog"] < 100)
    assert site.delivery()["rows_s"] > 0
    wanted = {
        "tidewatt_lane_batches_in_flight", "tidewatt_lane_rows_per_second", "tidewatt_lane_behind_seconds",
        "tidewatt_hole_rows", "tidewatt_refused_rows", "tidewatt_events_dropped_total",
        "tidewatt_events_capped_total", "tidewatt_readings_dropped_total",
    }  # fmt: skip
    assert wanted <= site.metrics()

    before = site.rows()
    run_sql(site.dsn, "DELETE FROM reading WHERE seq BETWEEN 101 AND 300")
    answer = site.asked("sync", "resend", "--from", "-1h", "--stream", "readings", "--wait", "60s")
    part = answer["streams"]["readings"]
    assert part["sent"] >= part["held"] >= 600
    assert (part["stored"], part["gone"], part["oldest"]) == (part["sent"], 0, None)
    assert (before[0][0], 101) not in site.rows(), "the ledger still takes them for stored"

    reopened = site.asked(
        "sink", "reopen", "--edge", "reef", "--stream", "readings", "--from", "-1h", "--to", "now"
    )
    assert reopened["reopened"] == 200
    code, text = site.tidewatt(
        "sync", "resend", "--from", "-1h", "--wait", "60s", "--why", "deleted by mistake"
    )
    assert code == 0, text
    assert "readings: " in text
    assert " were held already; " in text
    assert set(before) <= set(site.rows())
    lost = fetch(
        site.dsn,
        "SELECT sum(missing) AS n FROM v1_completeness WHERE stream = 'readings' AND state != 'open'",
    )
    assert not lost[0]["n"]
    kinds = [event["kind"] for event in site.asked("events", "--kind", "resend-asked")["events"]]
    assert kinds == ["resend-asked"] * 2


def test_resend_refuses_in_words_and_offline_waits_for_the_link(
    lonely_site: Site, mosquitto: Mosquitto
) -> None:
    site = lonely_site
    code, text = site.tidewatt("sync", "resend", "--from", "-1h", "--to", "-2h")
    assert (code, "has no length" in text) == (1, True)
    code, text = site.tidewatt("sync", "resend", "--from", "-1h", "--wait", "1h")
    assert (code, "100s at most" in text) == (2, True)
    code, text = site.tidewatt("sync", "resend", "--from", "soon")
    assert (code, "is no time" in text) == (2, True)
    mosquitto.stop()
    site.until(lambda: site.delivery()["state"] != "connected")
    code, text = site.tidewatt("sync", "resend", "--from", "-1h", "--wait", "1s")
    assert (code, "there is no connection" in text) == (1, True)


def test_what_a_person_asks_of_the_delivery_stands_in_the_journal(lonely_site: Site) -> None:
    site = lonely_site
    ledger = "tw1-0123456789abcdef"
    assert site.tidewatt("sync", "bind", ledger, "--why", "moved")[0] == 0
    assert site.tidewatt("sync", "ask", "--why", "the sink is back")[0] == 0
    call(site.folder / "tidewatt.sock", "sync.drain", {"timeout_s": 0.1, "why": "the card goes"})
    who = pwd.getpwuid(os.geteuid()).pw_name
    for kind, why in (
        ("ledger-bound", "moved"), ("ledger-asked", "the sink is back"), ("drain-asked", "the card goes"),
    ):  # fmt: skip
        (event,) = site.asked("events", "--kind", kind)["events"]
        assert (event["body"]["who"], event["body"]["why"]) == (who, why)
