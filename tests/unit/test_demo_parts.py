"""The demo's own parts: the count at the end, the display, the folder, the children."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config
from edge.demo import reef
from edge.demo.compare import Comparison, Counts, Row, compare_facts, compare_meta, compare_rows
from edge.demo.display import SHOW_CURSOR, Display, View, block, line
from edge.demo.outputs import Changes, changes_in, last_event, states, told
from edge.demo.process import Account, Child, ChildFailed, free_port, listens
from edge.demo.session import Outcome, readings_of
from edge.demo.site import Addresses, Folder, birth
from edge.settings import warnings
from edge.times import stopwatch


def rows(*seqs: int, log: int = 1, value: float = 1.0) -> list[Row]:
    return [((log, seq), ("tank.temperature", value)) for seq in seqs]


# ------------------------------------------------------------------------------------------- compare


def test_equal_sides_have_nothing_to_complain_about() -> None:
    counts = compare_rows(rows(1, 2, 3), rows(1, 2, 3))
    assert counts == Counts(stored=3, upstream=3)
    assert counts.good


@pytest.mark.parametrize(
    ("here", "there", "wrong"),
    [
        (rows(1, 2, 3), rows(1, 3), {"missing": 1}),
        (rows(1, 2, 3), [], {"missing": 3}),
        (rows(1, 2), rows(1, 2, 2), {"doubled": 1}),
        (rows(1, 2), rows(1, 2, 2, 2), {"doubled": 2}),
        (rows(1, 2), [*rows(1), *rows(2, value=9.0)], {"differing": 1}),
        (rows(1, 2), [*rows(1), *rows(2, log=2)], {"missing": 1, "unknown": 1}),
        (rows(1, 3), rows(1, 2, 3), {"unknown": 1}),
        ([], rows(1), {"unknown": 1}),
        ([*rows(1, log=1), *rows(2, log=2)], [*rows(1, log=1), *rows(2, log=2)], {}),
    ],
)
def test_what_is_wrong_is_counted(here: list[Row], there: list[Row], wrong: dict[str, int]) -> None:
    counts = compare_rows(here, there)
    found = {name: getattr(counts, name) for name in ("missing", "doubled", "differing", "unknown")}
    assert {name: n for name, n in found.items() if n} == wrong
    assert counts.good is not bool(wrong)
    assert (counts.stored, counts.upstream) == (len(here), len(there))


def test_rows_that_were_pruned_here_are_passed_over() -> None:
    assert compare_rows(rows(3, 4), rows(1, 2, 3, 4)) == Counts(stored=2, upstream=2)


def test_what_the_stop_wrote_after_the_last_delivery_is_not_missing() -> None:
    assert compare_rows(rows(1, 2, 3), rows(1, 2), head=2) == Counts(stored=2, upstream=2, after=1)
    assert compare_rows(rows(1, 2, 3), rows(1, 2, 3), head=2).good


def meta(seq: int, id: str, body: Any) -> Row:
    return (1, seq), (0, "series", id, body)


def test_of_meta_the_newest_of_each_key_counts() -> None:
    here = [meta(1, "a", 1), meta(2, "b", 1), meta(3, "a", 2)]
    assert compare_meta(here, [meta(2, "b", 1), meta(3, "a", 2)]) == Counts(stored=2, upstream=2)
    assert compare_meta(here, [meta(2, "b", 1), meta(1, "a", 1)]).differing == 1
    assert compare_meta(here, [meta(3, "a", 2)]).missing == 1
    assert compare_meta(here, [meta(2, "b", 1), meta(3, "a", 2), meta(9, "z", 1)]).unknown == 1


def test_meta_after_the_last_delivery_may_be_there_or_not() -> None:
    here = [meta(1, "a", 1), meta(2, "a", 2)]
    assert compare_meta(here, [meta(1, "a", 1)], head=1) == Counts(stored=1, upstream=1, after=1)
    assert compare_meta(here, [meta(2, "a", 2)], head=1) == Counts(stored=1, upstream=1)


def test_facts_are_compared_by_what_they_are() -> None:
    one, two = (("n", "E1", 20260101, "a"), ("kWh", ["1.0"])), (("n", "E1", 20260102, "b"), ("kWh", ["1.0"]))
    other = (one[0], ("kWh", ["1.00"]))
    assert compare_facts([one, two], [two, one]) == Counts(stored=2, upstream=2)
    assert compare_facts([one, two], [two]).missing == 1
    assert compare_facts([one], [one, one]).doubled == 1
    assert compare_facts([one], [one, two]).unknown == 1
    assert compare_facts([one], [other]).differing == 1


def test_the_outcome_in_json_has_what_programs_rely_on() -> None:
    streams = {
        "readings": Counts(stored=10, upstream=9, missing=1),
        "events": Counts(stored=2, upstream=3, doubled=1),
    }
    heater = {
        "name": "heater",
        "kind": "heater",
        "level": 1.0,
        "state": "up",
        "sentence": "heater is on.",
        "safe": 0,
    }
    changes = Changes(counts={"heater": 3}, last={"output": "heater", "text": "it is cold"})
    outcome = Outcome(
        comparison=Comparison(streams=streams),
        drained=True,
        length_s=30.04,
        outputs=[heater],
        changes=changes,
    )
    said = json.loads(outcome.as_json())
    assert "\n" not in outcome.as_json()
    assert (said["stored"], said["upstream"], said["missing"], said["doubled"]) == (10, 9, 1, 1)
    assert said["ok"] is False
    assert (said["output_changes"], said["last_change"]) == (3, {"output": "heater", "text": "it is cold"})
    (output,) = said["outputs"]
    assert output == {key: value for key, value in heater.items() if key != "safe"} | {"changes": 3}


@pytest.mark.parametrize(
    ("streams", "drained"),
    [
        ({"readings": Counts(stored=1, upstream=1)}, False),
        ({"readings": Counts(missing=1)}, True),
        ({}, True),
    ],
)
def test_an_outcome_is_good_only_when_all_arrived(streams: dict[str, Counts], drained: bool) -> None:
    assert not Outcome(comparison=Comparison(streams=streams), drained=drained, length_s=1).good


# ------------------------------------------------------------------------------------------- outputs


def journal(path: Path, *bodies: tuple[str, dict[str, Any]]) -> Path:
    """A database with nothing but events: two rows a change, as the daemon writes them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, kind, subject, body)")
        for number, (output, body) in enumerate(bodies):
            for state in ("pending", "success"):
                text = json.dumps(body | {"change": f"c-{number}", "state": state})
                connection.execute(
                    "INSERT INTO event (kind, subject, body) VALUES ('output', ?, ?)", [output, text]
                )
        connection.execute("INSERT INTO event (kind, subject, body) VALUES ('device-up', 'tank', '{}')")
        connection.commit()
    return path


def test_each_change_counts_once_and_how_it_stood_at_the_start_does_not(tmp_path: Path) -> None:
    database = journal(
        tmp_path / "db",
        ("heater", {"to": 0.0, "text": "its input is lost"}),
        ("heater", {"from": 0.0, "to": 1.0, "text": "it is cold"}),
        ("light", {"from": 0.0, "to": 0.8, "text": "it is day"}),
        ("heater", {"from": 1.0, "to": 0.0, "text": "it is warm"}),
    )
    changes = changes_in(database, after=0, head=last_event(database))
    assert (changes.total, changes.counts) == (3, {"heater": 2, "light": 1})
    assert changes.last is not None
    assert changes.last["state"] == "success"
    assert told(changes.last) == "heater on -> off, because it is warm"
    assert changes_in(database, after=4, head=5).counts == {"light": 1}
    assert changes_in(database, after=8, head=9) == Changes()


def test_outputs_are_told_in_two_words_and_cut_offs_when_they_have_cut() -> None:
    def output(name: str, level: float, kind: str = "other", state: str = "up") -> dict[str, Any]:
        return {"name": name, "level": level, "kind": kind, "state": state}

    assert states([output("heater", 1.0), output("light", 0.8), output("pump", 0.0, state="faulted")]) == [
        "heater on", "light 80 %", "pump off (faulted)",
    ]  # fmt: skip
    assert states([output("relay", 1.0, "cutoff")]) == []
    assert states([output("relay", 0.0, "cutoff")]) == ["relay off"]


# ------------------------------------------------------------------------------------------- display

VIEW = View(
    elapsed_s=65, length_s=120, stored=1200, delivered=1190, upstream=1190, rate=21.04, backlog=10,
    oldest_s=2.4, devices_up=4, devices=5, outputs=("heater on", "light 80 %"),
    health="degraded", problems=("host: no sensor; check its wiring",),
)  # fmt: skip


def test_the_block_says_everything_and_the_line_too() -> None:
    text = "\n".join(block(VIEW, page="http://127.0.0.1:8080", database=".demo/tidewatt.db"))
    for part in (
        "1:05 of 2:00",
        "4 of 5",
        "21.0 readings/s",
        "1,200",
        "1,190",
        "10 waiting",
        "2 s",
        "wiring",
        ":8080",
        "heater on, light 80 %",
    ):
        assert part in text
    for part in ("1:05", "4/5", "1,200", "waiting 10", "heater on, light 80 %", "degraded"):
        assert part in line(VIEW)


def test_outside_a_terminal_it_prints_a_line_every_five_seconds() -> None:
    out = io.StringIO()
    display = Display(out, page="", database="")
    for second in range(12):
        display.show(View(elapsed_s=second))
    display.close()
    assert len(out.getvalue().splitlines()) == 3
    assert "\x1b" not in out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_the_block_is_drawn_over_itself_and_the_cursor_comes_back() -> None:
    out = Terminal()
    display = Display(out, page="http://127.0.0.1:8080", database="x")
    display.show(VIEW)
    display.show(VIEW)
    display.close()
    height = len(block(VIEW, page="", database=""))
    assert out.getvalue().count(f"\x1b[{height}F\x1b[J") == 1
    assert out.getvalue().endswith(SHOW_CURSOR)


def test_durations_are_short() -> None:
    assert [stopwatch(s) for s in (0, 65, 3600.9)] == ["0:00", "1:05", "1:00:00"]


def test_what_a_status_says_of_readings() -> None:
    stream = {"head": 100, "backlog": 10, "oldest_unsent_age_s": 3.2}
    assert readings_of({"delivery": {"streams": {"readings": stream}}}) == (100, 90, 10, 3.2)
    assert readings_of({}) == (0, 0, 0, None)


# -------------------------------------------------------------------------------------------- folder


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ChildFailed, match="choose another --dir"), Folder(tmp_path).held():
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "demo"):
        with pytest.raises(ChildFailed) as failed, Folder(folder).held():
            raise AssertionError("it is not held")
        assert str(failed.value) == f"cannot make {folder}: not a directory; choose another --dir"


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Folder(tmp_path / "demo").held(),
        pytest.raises(ChildFailed, match="already"),
        Folder(tmp_path / "demo").held(),
    ):
        pass


def test_a_fresh_demo_forgets_the_last_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "demo")
    with folder.held():
        folder.database.write_text("old")
        (folder.path / "postgres" / "data").mkdir(parents=True)
        folder.clear()
        assert not folder.database.exists()
        assert not (folder.path / "postgres").exists()
    with folder.held():
        pass  # and it is still known as a demo's


def test_the_config_is_for_the_owner_only_and_valid_toml(tmp_path: Path) -> None:
    folder = Folder(tmp_path / 'a "strange" folder')
    with folder.held():
        folder.write_config(
            Addresses(broker_port=1884, web_port=8081, postgres="postgresql://u:p@h/d", ledger="tw1-x")
        )
    config = tomllib.loads(folder.config.read_text())
    assert config["store"]["path"] == str(folder.database)
    assert config["uplink"]["ledger"] == "tw1-x"
    assert folder.config.stat().st_mode & 0o077 == 0


def test_nothing_is_to_be_said_against_the_demo_s_outputs(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "demo")
    with folder.held():
        folder.write_config(Addresses(broker_port=1884, web_port=8081, postgres="postgresql:///d"))
    assert warnings(folder.config, Config) == []
    assert len(tomllib.loads(folder.config.read_text())["outputs"]) > 4


def test_the_demo_s_tank_begins_in_the_evening_wherever_it_is() -> None:
    for hour in range(24):
        began_ms = 1_767_225_600_000 + hour * 3_600_000
        offset_h = reef.offset_h(began_ms)
        assert -12 <= offset_h <= 12
        assert (hour + offset_h) % 24 == pytest.approx(reef.BEGIN_HOUR)


def test_children_of_a_killed_demo_are_known_by_pid_and_birth(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "demo")
    child = Child("sleeper", ["sleep", "60"], log=tmp_path / "log")
    with folder.held():
        child.start()
        folder.note_children({"sleeper": child.pid, "init": 1})
        assert folder.left_over() == {"sleeper": child.pid, "init": 1}
        child.kill()
        assert folder.left_over() == {"init": 1}
        noted = json.loads(folder.children.read_text())
        noted["init"][1] += 1  # the same pid, another process
        folder.children.write_text(json.dumps(noted))
        assert folder.left_over() == {}


# ---------------------------------------------------------------------------------------- children


def test_a_child_that_dies_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    script = "import sys; print('the disk is on fire', file=sys.stderr); sys.exit(3)"
    child = Child("daemon", [sys.executable, "-c", script], log=tmp_path / "log")
    child.start()
    with pytest.raises(ChildFailed, match=r"(?s)code 3.*the disk is on fire"):
        child.wait_ready(lambda: False)


def test_a_child_that_does_not_listen_to_the_signal_is_killed(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)"
    script += "; time.sleep(60)"
    child = Child("deaf", [sys.executable, "-c", script], log=tmp_path / "log")
    child.start()
    child.wait_ready(lambda: "up" in child.log_tail())
    assert child.stop(within_s=0.2) == -signal.SIGKILL
    assert birth(child.pid) == 0


def test_a_child_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    child = Child("sleeper", ["sleep", "60"], log=tmp_path / "log")
    child.start()
    assert os.getsid(child.pid) == child.pid
    child.stop()


def test_a_free_port_is_free() -> None:
    assert not listens(free_port())


def test_whether_an_account_reaches_a_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    account = Account(uid=65534, gid=65534)
    assert not account.reaches(private / "data")
    assert account.reaches(Path("/tmp/x"))
