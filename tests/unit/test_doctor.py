"""The doctor's parts: nothing stops the other checks, rights and file systems are judged right, nothing is written."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.control import safefile
from edge.doctor import delivery, machine, records, service
from edge.doctor.checks import Verdict, examine, ok
from edge.doctor.patient import ENTER, READ, WRITE, Account, Patient, look, nearest, this_account
from migrations.runner import migrate_edge

CONFIG = """\
[site]
name = "reef"
[store]
path = "{folder}/tidewatt.db"
[uplink]
enabled = {delivers}
"""
RELAY = """\
[[outputs]]
name = "pump"
driver = "sim"
kind = "light"
safe = 0
"""


@pytest.fixture
def patient(tmp_path: Path) -> Any:
    def patient(more: str = "", *, delivers: str = "false") -> Patient:
        (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path, delivers=delivers) + more)
        found = look(tmp_path / "config.toml")
        assert found.config is not None, found.mistakes
        return found

    return patient


def states(verdicts: Iterator[Verdict]) -> Sequence[str]:
    return [verdict.state for verdict in verdicts]


# ----------------------------------------------------------------------------------------- the runner


def test_a_check_that_breaks_or_hangs_stops_no_other() -> None:
    released = threading.Event()

    def breaks(_: Patient) -> list[Verdict]:
        raise ZeroDivisionError("in the middle")

    def hangs(_: Patient) -> list[Verdict]:
        released.wait()
        return []

    def its_end(name: str) -> None:
        """On a busy machine those that end may need longer than the one that hangs is given."""
        for thread in threading.enumerate():
            if thread.name == name != "two":
                thread.join(60.0)

    checks = {"one": breaks, "two": hangs, "three": lambda _: [ok("well")]}
    found = list(examine(Patient(config_path=Path("none")), checks, timeout_s=0.1, begins=its_end))
    released.set()
    assert [(finding.check, finding.state) for finding in found] == [
        ("one", "failed"),
        ("two", "failed"),
        ("three", "ok"),
    ]
    assert "ZeroDivisionError: in the middle" in found[0].text
    assert "no answer within 0.1 s" in found[1].text


def test_what_a_check_says_is_one_line() -> None:
    found = examine(Patient(config_path=Path("none")), {"one": lambda _: [ok("a\n b\x0bc")]})
    assert [finding.text for finding in found] == ["a b c"]


# ------------------------------------------------------------------------------------------- accounts


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that everybody gets to, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("mode", "own", "member", "other"),
    [(0o700, True, False, False), (0o070, False, True, False), (0o007, False, False, True)],
)
def test_rights_follow_the_mode(mode: int, own: bool, member: bool, other: bool, reachable: Path) -> None:
    reachable.chmod(mode)
    found = reachable.stat()
    stranger, group = found.st_uid + 12_345, found.st_gid
    wanted = READ | WRITE | ENTER
    accounts = [
        Account(name="member", uid=stranger, groups=frozenset({group})),
        Account(name="other", uid=stranger, groups=frozenset({group + 12_345})),
    ]
    assert [account.may(reachable, wanted) for account in accounts] == [member, other]
    if found.st_uid:
        assert Account(name="own", uid=found.st_uid, groups=frozenset({group})).may(reachable, wanted) == own


def test_who_runs_the_doctor_is_judged_by_the_kernel(reachable: Path) -> None:
    assert this_account().may(reachable, READ | WRITE | ENTER)
    file = reachable / "plain"
    file.touch(0o600)
    assert this_account().may(file, READ | WRITE)
    assert not this_account().may(file, ENTER), "not even root runs what nobody may"


def test_a_folder_above_that_is_closed_counts_where_root_can_try(reachable: Path) -> None:
    (reachable / "inner").mkdir()
    (reachable / "inner").chmod(0o777)
    stranger = Account(name="other", uid=reachable.stat().st_uid + 12_345, groups=frozenset())
    reachable.chmod(0o755)
    assert stranger.may(reachable / "inner", READ | WRITE | ENTER)
    reachable.chmod(0o700)
    by_mode = os.geteuid() != 0  # nobody else can try it in another's name
    assert stranger.may(reachable / "inner", READ | WRITE | ENTER) is by_mode


def test_a_disk_that_is_mounted_read_only_is_no_matter_of_rights(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Patient = patient()
    monkeypatch.setattr(machine, "is_read_only", lambda _path: True)
    monkeypatch.setattr(Account, "may", lambda _account, _path, wanted: not wanted & WRITE)
    assert {verdict.state for verdict in machine.rights(found)} == {"failed"}
    for verdict in (*machine.rights(found), *records.folders(found)):
        assert "is mounted read-only" in verdict.text and "chown" not in verdict.text


def test_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path


def test_a_folder_of_somebody_else_fails_and_one_open_to_all_warns(patient: Any, tmp_path: Path) -> None:
    found: Patient = patient()
    assert states(machine.rights(found)) == ["ok"]
    tmp_path.chmod(0o757)
    assert states(machine.rights(found)) == ["warning"]
    tmp_path.chmod(0o750)
    stranger = Account(name="nobody", uid=tmp_path.stat().st_uid + 12_345, groups=frozenset())
    (verdict,) = machine.rights(_with(found, account=stranger))
    assert verdict.state == "failed"
    assert f"nobody may not write into {tmp_path}; sudo chown" in verdict.text
    assert states(records.folders(_with(found, account=stranger))) == ["failed", "failed"]
    assert states(records.folders(found)) == ["ok"]


def test_a_folder_that_is_not_there_yet_is_said_to_be_made(tmp_path: Path) -> None:
    path, folder = tmp_path / "config.toml", tmp_path / "not" / "yet"
    path.write_text(CONFIG.format(folder=folder, delivers="false"))
    (verdict,) = machine.rights(look(path))
    assert verdict.state == "ok"
    assert f"{folder} (will be made)" in verdict.text
    folder.mkdir(parents=True)
    (verdict,) = machine.rights(look(path))
    assert "will be made" not in verdict.text


def _with(patient: Patient, **changes: Any) -> Patient:
    return replace(patient, **changes)


# -------------------------------------------------------------------------------------------- machine


@pytest.mark.parametrize(
    ("line", "kind", "states_"),
    [
        ("36 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", "ext4", []),
        ("36 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw", "ext4", ["failed"]),
        ("36 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 ro", "ext4", ["failed"]),
        ("36 1 0:50 / / rw - nfs4 nas:/a rw", "nfs4", ["failed"]),
        ("36 1 0:50 / / rw - tmpfs tmpfs rw", "tmpfs", ["warning"]),
        ("36 1 8:1 / / rw - vfat /dev/sda1 rw", "vfat", ["warning"]),
    ],
)
def test_file_systems(line: str, kind: str, states_: list[str], tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{line}\n40 1 8:2 / /elsewhere rw - xfs /dev/sdb rw\n")
    found, options = machine.mount_of(tmp_path, mounts)
    assert found == kind
    assert states(machine._file_system(tmp_path, found, options)) == states_


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    inner = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / {inner} rw - btrfs /dev/b rw\n")
    assert machine.mount_of(tmp_path, mounts)[0] == "btrfs"
    mounts.write_text("".join(reversed(mounts.read_text().splitlines(keepends=True))))
    assert machine.mount_of(tmp_path, mounts)[0] == "btrfs"


def test_a_full_disk_fails_and_a_budget_beyond_it_warns(patient: Any) -> None:
    found: Patient = patient()
    assert found.config is not None
    store = found.config.store.model_copy(update={"disk_free_min_mb": 10**12})
    full = _with(found, config=found.config.model_copy(update={"store": store}))
    assert "failed" in states(machine.disk(full))
    store = found.config.store.model_copy(update={"budget_mb": 10**12})
    greedy = _with(found, config=found.config.model_copy(update={"store": store}))
    assert any("lower budget_mb" in verdict.text for verdict in machine.disk(greedy))


@pytest.mark.parametrize(
    ("own", "advice"), [(9e9, "raise flush_interval_s"), (5e7, "other programs write most")]
)
def test_a_worn_card_warns_of_who_wears_it(patient: Any, own: float, advice: str) -> None:
    told = {"card_life_years": 0.4, "bytes_written_day": own, "disk_written_day_bytes": 1e10}
    (text,) = [
        verdict.text
        for verdict in machine.disk(_with(patient(), state={"store": told}))
        if "lasts" in verdict.text
    ]
    assert "the card lasts 0.4 years" in text
    assert advice in text


def test_buses_that_are_missing_are_named_with_who_needs_them(patient: Any, tmp_path: Path) -> None:
    sensors = """
[[devices]]
name = "room"
driver = "sht3x"
[[devices]]
name = "w"
driver = "ds18b20"
address = "28-0000057aa1b2"
"""
    found = patient(sensors)
    texts = [verdict.text for verdict in machine.buses(found, tmp_path)]
    assert any("i2c-1 for room; add dtparam=i2c_arm=on" in text for text in texts)
    assert any("no 1-Wire for w; add dtoverlay=w1-gpio" in text for text in texts)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/i2c-1").touch()
    (tmp_path / "sys/bus/w1/devices/w1_bus_master1").mkdir(parents=True)
    assert states(machine.buses(found, tmp_path)) == ["ok"]
    stranger = Account(name="nobody", uid=(tmp_path / "dev/i2c-1").stat().st_uid + 12_345, groups=frozenset())
    (tmp_path / "dev/i2c-1").chmod(0o660)
    (verdict,) = machine.buses(_with(found, account=stranger), tmp_path)
    assert "nobody may not open" in verdict.text
    assert "into the group" in verdict.text


def test_a_pin_needs_a_gpio_chip(patient: Any, tmp_path: Path) -> None:
    found = patient('[[devices]]\nname = "float"\ndriver = "digital"\npin = 17\nkind = "float"\n')
    (verdict,) = machine.buses(found, tmp_path)
    assert "gpiochip0 for float" in verdict.text
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/gpiochip4").touch()
    assert states(machine.buses(found, tmp_path)) == ["ok"]


def test_a_library_that_is_missing_is_named(patient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = patient('[[devices]]\nname = "room"\ndriver = "sht3x"\n')
    assert states(service.software(found)) == ["ok"]
    monkeypatch.setattr(service, "find_spec", lambda _name: None)
    (verdict,) = service.software(found)
    assert verdict.state == "failed"
    assert "smbus2 is missing for room" in verdict.text
    assert "pip install 'tidewatt[pi]'" in verdict.text


def test_a_clock_behind_the_records_fails(patient: Any, tmp_path: Path) -> None:
    database = tmp_path / "tidewatt.db"
    database.touch()
    assert "failed" not in states(machine.clock(patient()))
    os.utime(database, (4_000_000_000, 4_000_000_000))
    (verdict,) = machine.clock(patient())
    assert verdict.state == "failed"
    assert "behind what was recorded at 2096" in verdict.text


# -------------------------------------------------------------------------------------------- records


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and when it was changed."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def test_a_sound_database_is_left_as_it_is(patient: Any, tmp_path: Path) -> None:
    found: Patient = patient()
    assert states(records.database(found)) == ["warning"]  # none yet
    migrate_edge(tmp_path / "tidewatt.db", tmp_path / "control.db")
    before = tree(tmp_path)
    (verdict,) = records.database(found)
    assert verdict.state == "ok"
    assert verdict.text.endswith("control.db: this version's schema, no damage")
    assert tree(tmp_path) == before


def test_a_log_that_a_crash_left_is_read_and_not_tidied_up(patient: Any, tmp_path: Path) -> None:
    found: Patient = patient()
    database = tmp_path / "tidewatt.db"
    migrate_edge(database, tmp_path / "control.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("DELETE FROM alembic_version_core")
        connection.commit()
        kept = {path: path.read_bytes() for path in tmp_path.glob("tidewatt.db*")}
    for path, content in kept.items():
        path.write_bytes(content)
    assert (tmp_path / "tidewatt.db-wal").stat().st_size > 0
    before = tree(tmp_path)
    assert any("core stands at nothing" in verdict.text for verdict in records.database(found))
    assert tree(tmp_path) == before
    (tmp_path / "tidewatt.db-shm").unlink()
    assert any("no index of it; start the daemon" in verdict.text for verdict in records.database(found))
    assert not (tmp_path / "tidewatt.db-shm").exists()


def test_damage_is_found(patient: Any, tmp_path: Path) -> None:
    database = tmp_path / "tidewatt.db"
    migrate_edge(database, tmp_path / "control.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE filler (a TEXT)")
        connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 500,)] * 200)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(database.read_bytes())
    content[-40_000:-2_000] = b"\xa5" * 38_000
    database.write_bytes(content)
    found = [verdict for verdict in records.database(patient()) if verdict.state == "failed"]
    assert "is damaged" in found[0].text
    database.write_bytes(b"no database at all" * 100)
    assert "failed" in states(records.database(patient()))


def test_the_safe_file_has_to_be_of_this_config(patient: Any, tmp_path: Path) -> None:
    found: Patient = patient(RELAY)
    assert states(records.safe_file(patient())) == ["ok"]
    assert states(records.safe_file(found)) == ["warning"]  # the daemon has not run yet
    assert states(records.safe_file(_with(found, state={}))) == ["failed"]
    path = tmp_path / "safe.json"
    entry = safefile.Entry(name="pump", driver="sim", options={}, safe=0.0)
    safefile.write(path, [entry])
    assert states(records.safe_file(found)) == ["ok"]
    path.chmod(0o644)
    assert states(records.safe_file(found)) == ["warning"]
    safefile.write(path, [safefile.Entry(name="pump", driver="sim", options={}, safe=1.0)])
    (verdict,) = records.safe_file(found)
    assert "is not of this config (see pump)" in verdict.text
    path.write_text("{")
    assert states(records.safe_file(found)) == ["failed"]


# ----------------------------------------------------------------------------------- config and service


def test_secrets_that_all_may_read_warn(patient: Any, tmp_path: Path) -> None:
    patient('username = "reef"\npassword = "drowssap"\n')
    (tmp_path / "config.toml").chmod(0o644)
    (verdict,) = service.config(look(tmp_path / "config.toml"))
    assert (
        "config.toml:8: uplink.password: every user of this machine can read it; sudo chmod o-r"
        in verdict.text
    )
    assert verdict.state == "warning" and "drowssap" not in verdict.text
    (tmp_path / "config.toml").chmod(0o640)
    assert states(service.config(look(tmp_path / "config.toml"))) == ["ok"]


@pytest.mark.parametrize(
    ("change", "words", "state"),
    [
        ({}, "is enabled, active and watched", "ok"),
        ({"UnitFileState": "disabled"}, "systemctl enable", "warning"),
        ({"ActiveState": "failed"}, "is failed; sudo systemctl start", "failed"),
        ({"WatchdogUSec": "0"}, "is not watched", "failed"),
        ({"NeedDaemonReload": "yes"}, "daemon-reload", "warning"),
        ({"LoadState": "not-found"}, "is not installed", "warning"),
        ({"ExecStart": "{ path=/nosuch/tidewatt ; argv[]=x }"}, "does not run", "failed"),
        ({"ExecStart": "{ path=/bin/echo ; argv[]=x }"}, "this command is", "warning"),
    ],
)
def test_the_unit(change: dict[str, str], words: str, state: str) -> None:
    unit = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "WatchdogUSec": "30s"}
    (verdict,) = service.unit(Patient(config_path=Path("none"), unit={**unit, **change}))
    assert verdict.state == state
    assert words in verdict.text


def test_a_daemon_of_another_version_and_its_problems_are_told() -> None:
    state = {
        "version": "0.0.1", "started": "", "health": "degraded", "problems": ["device tank is failing"],
        "config": {"error": "line 3"},
    }  # fmt: skip
    found = list(service.daemon(Patient(config_path=Path("none"), state=state)))
    assert [verdict.state for verdict in found] == ["warning", "failed", "warning"]
    assert "runs version 0.0.1" in found[0].text


# ------------------------------------------------------------------------------------------- delivery


@pytest.mark.parametrize(
    ("delivery_", "state", "words"),
    [
        ({"bound": False, "advice": "bind it"}, "warning", "bind it"),
        ({"bound": True, "last_answer": None}, "warning", "has not answered"),
        ({"bound": True, "last_answer": "2026-01-01T00:00:00+00:00"}, "failed", "silent for"),
    ],
)
def test_the_sink(delivery_: dict[str, Any], state: str, words: str, patient: Any) -> None:
    told = {"last_answer": None, "ledger": "tw1-x", "advice": "", **delivery_}
    (verdict,) = delivery.sink(_with(patient(delivers="true"), state={"delivery": told}))
    assert verdict.state == state
    assert words in verdict.text


@pytest.mark.parametrize(
    ("rows", "eta_s", "in_flight", "state", "words"),
    [
        (0, None, 0, "ok", "nothing waits"),
        (9000, 60.0, 1, "ok", "9,000 rows wait, 1 min to drain"),
        (9000, 200_000.0, 1, "warning", "2 d 7 h to drain"),
        (9000, None, 0, "warning", "nothing moves"),
        (9, None, 1, "ok", "on their way"),
    ],
)
def test_the_backlog(
    rows: int, eta_s: float | None, in_flight: int, state: str, words: str, patient: Any
) -> None:
    told = {"streams": {"readings": {"backlog": rows}}, "eta_s": eta_s, "in_flight": in_flight}
    (verdict,) = delivery.drain(_with(patient(delivers="true"), state={"delivery": told}))
    assert verdict.state == state
    assert words in verdict.text


def test_what_this_user_may_not_look_at_is_no_bug(tmp_path: Path) -> None:
    def closed(_: Patient) -> list[Verdict]:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    (finding,) = examine(Patient(config_path=Path("none")), {"one": closed})
    assert finding.state == "warning"
    assert finding.text == f"{tmp_path} may not be looked at by this user; sudo tidewatt doctor"
