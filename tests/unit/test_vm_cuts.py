"""What judges a power cut notices each kind of damage: on the card, and at the relays."""

from __future__ import annotations

import gzip
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.vm.cutjudge import Found, Heard, Judge, MeterFile
from tests.vm.cutwires import ON_MAX_S, Wires
from tests.vm.serial import Said, heard

CONTENT = b"100,NEM12\r\n900\r\n"
HASH = hashlib.sha256(CONTENT).hexdigest()
FILES = {"a.csv": MeterFile(hash=HASH, days=2)}
SCHEMA = """
CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE reading (seq INTEGER PRIMARY KEY, series INTEGER, ts INTEGER, value REAL);
CREATE TABLE event (seq INTEGER PRIMARY KEY, ts INTEGER, kind TEXT);
CREATE TABLE meta (seq INTEGER PRIMARY KEY, ts INTEGER, kind TEXT, id TEXT, body TEXT);
CREATE TABLE progress (name TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE meter_file (id INTEGER PRIMARY KEY, name TEXT, hash TEXT, state TEXT, archive TEXT);
CREATE TABLE day (id INTEGER PRIMARY KEY, file INTEGER);
CREATE TABLE channel_day (seq INTEGER PRIMARY KEY, day INTEGER);
INSERT INTO series VALUES (1, 'counter.n');
"""


class Site:
    """A card with six readings of life 1, of which the last two were polled 3 and 2 s before the cut."""

    def __init__(self, card: Path) -> None:
        self.card = card
        self.heard = Heard(
            polled={1_000_000 + at: 100.0 + at for at in range(6)}, cut_s=107.0, open_s=90.0, files={"a.csv"}
        )
        (card / "inbox").mkdir()
        (card / "archive").mkdir()
        (card / "inbox" / "a.csv").write_bytes(CONTENT)
        with closing(sqlite3.connect(card / "tidewatt.db")) as database:
            database.executescript(SCHEMA)
        for at in range(4):
            self.do("INSERT INTO reading VALUES (?, 1, 0, ?)", at + 1, 1_000_000 + at)
        self.do("INSERT INTO progress VALUES ('total:counter.total', 4000000)")
        self.judge = Judge(FILES)

    def do(self, sql: str, *values: object) -> None:
        with closing(sqlite3.connect(self.card / "tidewatt.db")) as database, database:
            database.execute(sql, values)

    def complete(self, days: int = 2) -> None:
        self.do("INSERT INTO meter_file VALUES (1, 'a.csv', ?, 'completed', 'a.gz')", HASH)
        for day in range(1, days + 1):
            self.do("INSERT INTO day VALUES (?, 1)", day)
            self.do("INSERT INTO channel_day (day) VALUES (?)", day)
        (self.card / "archive" / "a.gz").write_bytes(gzip.compress(CONTENT))

    def look(self) -> Found:
        return self.judge.look(self.card, self.heard)

    def breach(self) -> str:
        return "; ".join(self.look().breaches)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_newest_readings_may_be_lost_and_it_says_how_long(site: Site) -> None:
    found = site.look()
    assert found.breaches == []
    assert (found.lost, found.loss_s, found.early_s, found.completed) == (2, 3.0, 0.0, 0)
    site.complete()
    again = site.look()
    assert (again.breaches, again.lost, again.completed) == ([], 0, 1)


def test_what_was_polled_before_there_was_a_database_is_counted_apart(site: Site) -> None:
    site.heard.open_s = 105.5
    found = site.look()
    assert (found.loss_s, found.early_s) == (1.5, 3.0)


def test_a_hole_a_double_and_an_invention_are_found(site: Site) -> None:
    site.do("UPDATE reading SET value = 1000005 WHERE seq = 4")
    assert "kept that were polled after 1000003" in site.breach()
    site.do("UPDATE reading SET value = 1000002 WHERE seq = 4")
    assert "1 readings doubled" in site.breach()
    site.do("UPDATE reading SET value = 7 WHERE seq = 4")
    assert "nobody polled: 1, 7" in site.breach()


def test_a_committed_row_that_goes_or_changes_is_found(site: Site) -> None:
    site.look()
    site.do("DELETE FROM reading WHERE seq = 4")
    assert "rows of reading that are gone or changed: 1, 4" in site.breach()
    site.do("UPDATE reading SET ts = 5 WHERE seq = 2")
    assert "rows of reading that are gone or changed: 1, 2" in site.breach()


def test_a_total_behind_its_readings_is_found(site: Site) -> None:
    site.do("UPDATE progress SET value = 3000000")
    assert "the total is 3" in site.breach()


def test_half_an_import_is_found(site: Site) -> None:
    site.complete(days=1)
    assert "1 of 2 days" in site.breach()
    site.do("UPDATE meter_file SET state = 'processing'")
    assert "1 of its days are visible" in site.breach()


def test_a_lost_file_or_original_is_found(site: Site) -> None:
    (site.card / "inbox" / "a.csv").unlink()
    assert "not whole in the inbox" in site.breach()
    site.complete()
    assert site.breach() == ""
    (site.card / "archive" / "a.gz").write_bytes(b"")
    assert "no original" in site.breach()


def test_what_stays_unfinished_is_found(site: Site) -> None:
    site.do("INSERT INTO day VALUES (9, 1)")
    assert site.judge.unfinished(site.card, site.heard) == [
        "files never imported: 1, a.csv",
        "days left staged: 1, (9,)",
    ]


def test_a_damaged_database_and_one_set_aside_are_found(site: Site) -> None:
    assert site.breach() == ""
    (site.card / "control.db.aside-1").touch()
    assert "control.db.aside-1 on the card" in site.breach()
    site.do("CREATE INDEX ts ON reading (ts)")
    path = site.card / "tidewatt.db"
    data = bytearray(path.read_bytes())
    data[-200:] = b"\xff" * 200  # of the index's page
    path.write_bytes(data)
    assert "tidewatt.db: " in site.breach()


# ----------------------------------------------------------------------------------------------- relays


def said(host_s: float, what: str, **body: object) -> Said:
    return Said(at_s=0.0, host_s=host_s, what=what, body=dict(body))


def restarted(left_s: float, *, level: float = 1.0, trusted: bool = True, at_s: float = 100.0) -> list[str]:
    """An override set at 0 for 1000 s, a cut, and what is found at `at_s`."""
    wires = Wires()
    wires.power_up(trusted=True)
    wires.note(said(0.0, "ask", output="relay", level=1.0))
    wires.note(said(0.0, "set", output="relay", level=1.0, left_s=1000.0))
    wires.power_down(50.0)
    wires.power_up(trusted=trusted)
    return wires.note(said(at_s, "up", pulses=[], overrides={"relay": [level, left_s]}))


def test_an_override_goes_on_with_what_it_has_left() -> None:
    assert restarted(900.0) == []
    assert "not between" in restarted(950.0)[0]
    assert "not between" in restarted(850.0)[0]
    assert "it was" in restarted(900.0, level=0.0)[0]


def test_a_machine_without_a_clock_may_count_the_outage_as_nothing_and_no_more() -> None:
    assert restarted(1000.0, trusted=False) == []
    assert restarted(1100.0, trusted=False) != []
    assert restarted(850.0, trusted=False) != []


def test_an_override_that_was_not_answered_may_be_there_or_not() -> None:
    for overrides, fault in (({}, False), ({"pump": [1.0, 9.0]}, False), ({"return": [1.0, 9.0]}, True)):
        wires = Wires()
        wires.power_up(trusted=True)
        wires.note(said(0.0, "ask", output="pump", level=1.0))
        wires.power_down(5.0)
        wires.power_up(trusted=True)
        assert bool(wires.note(said(9.0, "up", pulses=[], overrides=overrides))) is fault


def test_a_pulse_and_too_long_a_time_on_are_found() -> None:
    wires = Wires()
    wires.power_up(trusted=True)
    assert wires.note(said(1.0, "up", pulses=["relay: out 0"], overrides={})) != []
    wires.note(said(1.0, "line", output="pump", safe=False))
    wires.note(said(51.0, "line", output="pump", safe=True))  # before it can remember anything
    wires.note(said(60.0, "set", output="pump", level=1.0, left_s=9.0))
    for at in range(2):
        wires.note(said(100.0 + 100.0 * at, "line", output="pump", safe=False))
        wires.power_down(100.0 + 100.0 * at + ON_MAX_S * 0.5)
    assert wires.too_long() == []
    wires.note(said(300.0, "line", output="pump", safe=False))
    wires.note(said(320.0, "line", output="pump", safe=True))
    assert wires.longest_on_s() == 60.0
    assert "60.0 s within 600" in wires.too_long()[0]


def test_a_message_is_found_among_what_else_is_said() -> None:
    line = b'[    5.1] kernel says VM> {"at": 1.5, "what": "poll", "n": 3} <VM and more\r\n'
    assert heard(line, 9.0) == Said(at_s=1.5, host_s=9.0, what="poll", body={"n": 3})
    assert heard(b"PASS", 9.0) is None
