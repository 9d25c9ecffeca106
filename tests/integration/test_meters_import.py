"""One meter file into the real database by the real process that reads it."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge.clock import Clock, SystemClock
from edge.demo import meterfile
from edge.meters import importer as importing
from edge.meters import parsing, staging
from edge.meters.config import MetersConfig, NmiConfig
from edge.meters.folders import NotAFile
from edge.meters.importer import Importer
from edge.meters.inserts import DAY_COLUMNS, DAYS_PER_INSERT, insert_days
from edge.meters.meta import put_all_meters
from edge.meters.parsing import ChildDied
from edge.meters.room import Postponed, Room
from edge.meters.staging import sweep
from edge.store.database import Store, Tx
from tests.meterstore import ledger, nem12, staged, state, write
from tests.stores import fetch, opened

pytestmark = pytest.mark.anyio

DAYS = [("20260101", "0.5"), ("20260102", "1.25")]
MONTHS, MONTH = range(1, 13), range(1, 29)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, SystemClock()) as store:
        yield store


def an_importer(
    store: Store, *, clock: Clock | None = None, room: Room | None = None, **options: Any
) -> Importer:
    return Importer(store, MetersConfig(**options), clock or store.clock, room=room)


def events(store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    rows = fetch(store.path, "SELECT kind, severity, body FROM event ORDER BY seq")
    return [(kind, severity, json.loads(body)) for kind, severity, body in rows]


def with_bad_row(content: bytes) -> bytes:
    """A row before the last one that no standard knows."""
    return content.replace(b"900\r\n", b"300,20260106,nonsense\r\n900\r\n")


# ---------------------------------------------------------------------------------------------- a file


async def test_a_file_becomes_visible_with_its_events_its_meters_and_its_archive(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path, "a.csv", nem12(DAYS))
    outcome = await an_importer(store).take(path, name="a.csv", source="inbox")
    file = outcome.file
    assert (file.state, file.version, file.created, file.mode) == (
        "completed",
        "NEM12",
        "202602010000",
        "lenient",
    )
    assert (file.channels, file.days, file.reads, file.value_count, file.problem_count) == (1, 2, 0, 96, 0)
    assert [row[:5] for row in state(store.path)["days"]] == [
        ("6102000001", "E1", 20260101, "kWh", 30),
        ("6102000001", "E1", 20260102, "kWh", 30),
    ]
    assert json.loads(state(store.path)["days"][1][5]) == [1.25] * 48
    quality, method, reason, updated, loaded, header, line, _ = state(store.path)["days"][1][6:]
    assert (quality, method, reason) == ("A", None, None)
    assert (updated, loaded, header, line) == ("20260201000000", "", "202602010000", 4)
    (kind, severity, body) = events(store)[-1]
    assert (kind, severity, body["state"], body["values"]) == ("file-completed", "info", "completed", 96)
    ((nmi, meter),) = state(store.path)["meters"]
    assert nmi == "6102000001"
    assert json.loads(meter) == {
        "channels": {"E1": {"unit": "kWh", "interval_min": 30, "serial": "TW1", "register": "1"}},
        "utc_offset_min": 600,
    }
    archive = tmp_path / "archive" / f"{file.hash}.gz"
    assert file.archive == archive.name
    import gzip

    assert gzip.decompress(archive.read_bytes()) == path.read_bytes()


async def test_the_same_content_under_another_name_is_no_op_that_says_so(
    store: Store, tmp_path: Path
) -> None:
    first, second = write(tmp_path, "a.csv", nem12(DAYS)), write(tmp_path, "b.csv", nem12(DAYS))
    taking = an_importer(store)
    await taking.take(first, name="a.csv", source="inbox")
    before, told = state(store.path), len(events(store))
    outcome = await taking.take(second, name="b.csv", source="inbox", mode="strict")
    assert outcome.known
    assert (outcome.file.name, outcome.file.mode) == ("a.csv", "lenient")
    assert (state(store.path), len(events(store))) == (before, told)


async def test_a_day_that_is_visible_is_not_stored_again(store: Store, tmp_path: Path) -> None:
    """The same rows come again in a file that says more after them."""
    taking = an_importer(store)
    await taking.take(write(tmp_path, "a.csv", nem12(DAYS)), name="a", source="inbox")
    longer = nem12([*DAYS, ("20260103", "2")])
    outcome = await taking.take(write(tmp_path, "b.csv", longer), name="b", source="inbox")
    assert outcome.file.days == 3
    assert fetch(store.path, "SELECT count(*) FROM day") == [(3,)]
    assert len(state(store.path)["days"]) == 3


async def test_another_version_of_a_day_stands_beside_the_first(store: Store, tmp_path: Path) -> None:
    taking = an_importer(store)
    await taking.take(write(tmp_path, "a.csv", nem12(DAYS)), name="a", source="inbox")
    newer = nem12([("20260101", "9")], updated="20260301000000", serial="TW2")
    await taking.take(write(tmp_path, "b.csv", newer), name="b", source="inbox")
    assert [row[2] for row in state(store.path)["days"]] == [20260101, 20260101, 20260102]
    assert state(store.path)["channels"][0][-1] == "TW1", "the serial is that of the newest day"


async def test_reads_are_stored_with_their_digits(store: Store, tmp_path: Path) -> None:
    content = meterfile.nem13(meterfile.meters(2), date(2026, 1, 1), 3, created="202607010930")
    path = write(tmp_path, "r.csv", content)
    outcome = await an_importer(store).take(path, name="r.csv", source="inbox")
    assert (outcome.file.version, outcome.file.days, outcome.file.reads) == ("NEM13", 0, 12)
    reads = state(store.path)["reads"]
    assert len(reads) == 12
    assert all(len(row[6]) == len(row[7]) == 6 for row in reads), "leading zeros stay"
    assert [row[4] for row in state(store.path)["channels"]] == [0] * 4


@pytest.mark.parametrize("order", ["rdD", "drD", "dDr"])
async def test_reads_and_days_in_one_zip(store: Store, tmp_path: Path, order: str) -> None:
    """`r` are reads of the channel of `d`, too."""
    reads = meterfile.nem13(meterfile.meters(1, ("E1",)), date(2026, 1, 1), 1, created="202607010930")
    parts = {
        "r": "".join(reads).encode(), "d": nem12(DAYS), "D": nem12([("20260105", "1")], nmi="6102000002")
    }  # fmt: skip
    path = tmp_path / "both.zip"
    with zipfile.ZipFile(path, "w") as box:
        for name in order:
            box.writestr(f"{name}.csv", parts[name])
    outcome = await an_importer(store).take(path, name="both.zip", source="inbox")
    found = state(store.path)
    assert (outcome.file.state, outcome.file.days, outcome.file.channels) == ("completed", 3, 2)
    assert outcome.file.reads == len(found["reads"]) > 0
    assert sorted((row[0], row[2]) for row in found["days"]) == [
        ("6102000001", 20260101), ("6102000001", 20260102), ("6102000002", 20260105)
    ]  # fmt: skip


async def test_a_zip_of_two_is_one_file_and_its_problems_name_the_member(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "both.zip"
    with zipfile.ZipFile(path, "w") as box:
        box.writestr("one.csv", nem12(DAYS))
        box.writestr("two.csv", with_bad_row(nem12([("20260105", "1")], nmi="6102000002")))
    outcome = await an_importer(store).take(path, name="both.zip", source="inbox")
    assert (outcome.file.state, outcome.file.days, outcome.file.channels) == ("completed", 3, 2)
    assert outcome.file.problem_count == len(outcome.problems) > 0
    assert {problem[0] for problem in outcome.problems} == {"two.csv"}
    told = [body for kind, _, body in events(store) if kind == "file-problems"]
    assert told[0]["problems"][0]["member"] == "two.csv"
    assert events(store)[-1][1] == "warning"


async def test_the_clock_of_a_meter_is_a_setting_and_a_changed_one_is_recorded(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path, "a.csv", nem12(DAYS))
    await an_importer(store).take(path, name="a", source="inbox")
    other = MetersConfig(nmi=(NmiConfig(nmi="6102000001", utc_offset_min=570),))
    for _ in range(2):
        await put_all_meters(store, other)
    bodies = fetch(store.path, "SELECT body FROM meta WHERE kind = 'meter' ORDER BY seq")
    assert [json.loads(body)["utc_offset_min"] for (body,) in bodies] == [600, 570]


async def test_without_originals_nothing_is_archived(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", nem12(DAYS))
    outcome = await an_importer(store, keep_originals=False).take(path, name="a", source="inbox")
    assert outcome.file.archive is None
    assert not (tmp_path / "archive").exists()


# --------------------------------------------------------------------------------- what is not taken


async def test_a_strict_refusal_leaves_nothing_but_the_ledger_and_a_lenient_try_takes_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "STAGE_BYTES_FIRST", 1)  # so that rows are staged before the bad line comes
    bad = with_bad_row(nem12([(f"202601{day:02}", "1") for day in range(1, 29)]))
    path = write(tmp_path, "bad.csv", bad)
    taking = an_importer(store)
    outcome = await taking.take(path, name="bad.csv", source="inbox", mode="strict")
    assert (outcome.file.state, outcome.file.days, outcome.file.archive) == ("failed", 0, None)
    assert "line 31" in (outcome.file.error or "")
    assert outcome.problems[-1][1] == 31
    assert fetch(store.path, "SELECT count(*) FROM day") == [(0,)]
    assert fetch(store.path, "SELECT count(*) FROM file_problem") == [(len(outcome.problems),)]
    assert list((tmp_path / "archive").iterdir()) == []
    (kind, severity, body) = events(store)[-1]
    assert (kind, severity, body["error"]) == ("file-failed", "alarm", outcome.file.error)
    again = await taking.take(path, name="bad.csv", source="inbox", mode="lenient")
    assert (again.file.state, again.known, again.file.id) == ("completed", False, outcome.file.id)
    assert again.file.error is None


async def test_what_is_no_meter_file_fails_with_words(store: Store, tmp_path: Path) -> None:
    outcome = await an_importer(store).take(write(tmp_path, "x", b"hello\n"), name="x", source="inbox")
    assert outcome.file.state == "failed"
    assert outcome.file.error


@pytest.mark.parametrize("make", ["link", "folder", "socket"])
async def test_only_a_plain_file_is_opened(store: Store, tmp_path: Path, make: str) -> None:
    path = tmp_path / "odd"
    if make == "link":
        path.symlink_to(write(tmp_path, "a.csv", nem12(DAYS)))
    elif make == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(NotAFile):
        await an_importer(store).take(path, name="odd", source="inbox")
    assert fetch(store.path, "SELECT count(*) FROM meter_file") == [(0,)]


async def test_a_file_that_is_written_to_meanwhile_is_as_if_it_had_not_come(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.csv", nem12(DAYS))
    taking = an_importer(store)
    flush = staging.Staging.flush

    async def grow(self: staging.Staging) -> None:
        await flush(self)
        with path.open("ab") as file:
            file.write(b"\r\n")

    monkeypatch.setattr(staging.Staging, "flush", grow)
    with pytest.raises(Postponed, match="written to"):
        await taking.take(path, name="a", source="inbox")
    assert fetch(store.path, "SELECT (SELECT count(*) FROM day), (SELECT count(*) FROM meter_file)") == [
        (0, 0)
    ]
    monkeypatch.setattr(staging.Staging, "flush", flush)
    assert (await taking.take(path, name="a", source="inbox")).file.state == "completed"


# ------------------------------------------------------------------------------------- who reads it


async def test_the_reader_is_niced_bounded_and_imports_the_parser_only(tmp_path: Path) -> None:
    code = (
        "import json, sys; from edge.meters import child, reading; child._limit();"
        "import os, resource; print(json.dumps([sorted(sys.modules), os.nice(0),"
        " resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0],"
        " int(open('/proc/self/oom_score_adj').read())]))"
    )
    import subprocess
    import sys

    done = await anyio.run_process([sys.executable, "-c", code], stdin=subprocess.PIPE, input=None)
    modules, nice, memory, core, oom = json.loads(done.stdout)
    ours = {name for name in modules if name.split(".")[0] in ("drivers", "edge", "sync", "migrations")}
    parser = {name for name in ours if name.startswith("drivers.nem12")}
    own = {f"edge.meters.{name}" for name in ("child", "messages", "original", "reading")}
    assert ours - parser == {"drivers", "edge", "edge.meters", *own}
    foreign = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"drivers", "edge"}
    assert {name for name in foreign if not name.startswith(("_", "sitecustomize"))} == set()
    assert (nice, core, oom) == (19, 0, 800)
    assert 0 < memory <= 500_000_000


async def test_the_reader_ends_when_the_daemon_does(tmp_path: Path) -> None:
    """Its standard input is the daemon's end of a pipe; it is blocked writing meanwhile."""
    path = write(
        tmp_path,
        "big.csv",
        nem12([(f"2026{m:02}{d:02}", "1.2345") for m in MONTHS for d in MONTH] * 20),
    )
    source = os.open(path, os.O_RDONLY)
    process = await anyio.open_process(
        [*parsing.COMMAND, str(source), "-1", "lenient"], pass_fds=[source], stderr=None
    )
    os.close(source)
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.receive(4)
    await process.stdin.aclose()
    with anyio.fail_after(60):
        assert await process.wait() != 0
    await process.aclose()


@pytest.mark.parametrize("deaths", [1, 2])
async def test_a_reader_that_is_killed_is_started_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    left = _kill_first(monkeypatch, deaths)
    path = write(tmp_path, "a.csv", nem12(DAYS))
    outcome = await an_importer(store).take(path, name="a", source="inbox")
    assert (outcome.file.state, left) == ("completed", [])
    assert (len(state(store.path)["days"]), staged(store.path)) == (2, 0)


async def test_a_file_whose_reader_dies_each_time_fails_and_the_next_one_is_taken(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in the middle of what it has to say, for that is more than the pipe takes."""
    left = _kill_first(monkeypatch, importing.TRIES_MAX)
    taking = an_importer(store)
    long = nem12(
        [(f"{year}{m:02}{d:02}", "1.2345678") for year in range(2010, 2022) for m in MONTHS for d in MONTH]
    )
    outcome = await taking.take(write(tmp_path, "a.csv", long), name="a", source="inbox")
    assert outcome.file.state == "failed"
    assert "signal 9" in (outcome.file.error or "")
    assert (left, staged(store.path), state(store.path)["days"]) == ([], 0, [])
    again = await taking.take(tmp_path / "a.csv", name="a", source="inbox")
    assert again.file.state == "completed"


def _kill_first(monkeypatch: pytest.MonkeyPatch, deaths: int) -> list[int]:
    """The reader is killed after its first rows, so many times; gives the deaths that are still to come."""
    left = list(range(deaths))
    monkeypatch.setattr(importing, "RETRY_S", 0.0)
    listening = parsing.Parsing.__aiter__

    async def listen(self: parsing.Parsing) -> AsyncIterator[Any]:
        async for message in listening(self):
            yield message
            if left:
                left.pop()
                if self._process.returncode is None:
                    os.kill(self._process.pid, signal.SIGKILL)
                while await self._stdout.read(1 << 20):  # until its pipes are empty it has not ended
                    pass
                await self._process.wait()
                raise ChildDied(await self._how_it_ended())

    monkeypatch.setattr(parsing.Parsing, "__aiter__", listen)
    return left


async def test_a_reader_that_hangs_is_ended(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "COMMAND", ("/bin/sh", "-c", "exec sleep 1000"))
    monkeypatch.setattr(parsing, "SILENT_S", 0.1)
    monkeypatch.setattr(importing, "RETRY_S", 0.0)
    path = write(tmp_path, "a.csv", nem12(DAYS))
    with pytest.raises(Postponed, match="said nothing"):
        await an_importer(store).take(path, name="a", source="inbox")
    assert fetch(store.path, "SELECT count(*) FROM meter_file") == [(0,)]


async def test_no_more_is_listened_to_than_a_message_may_have(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "COMMAND", ("/bin/sh", "-c", "exec yes"))
    monkeypatch.setattr(importing, "RETRY_S", 0.0)
    path = write(tmp_path, "a.csv", nem12(DAYS))
    with pytest.raises(Postponed, match="a message of"):
        await an_importer(store).take(path, name="a", source="inbox")


# ----------------------------------------------------------------------------------------- others write


async def test_whoever_waits_writes_between_two_transactions(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write lock is a queue: an import of many transactions gives everybody a turn between them."""
    monkeypatch.setattr(staging, "STAGE_BYTES_FIRST", 1)
    monkeypatch.setattr(staging, "STAGE_BYTES_MAX", 1)
    monkeypatch.setattr(staging, "STAGE_BYTES_MIN", 1)
    content = meterfile.nem12(meterfile.meters(3), date(2026, 1, 1), 365, created="202701010000")
    path = write(tmp_path, "big.csv", content)
    turns: list[int] = []

    async def others() -> None:
        while True:
            async with store.write() as tx:
                turns.append((await tx.execute("SELECT count(*) FROM day")).scalar_one())

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        outcome = await an_importer(store).take(path, name="big", source="inbox")
        group.cancel_scope.cancel()
    assert outcome.file.state == "completed"
    seen = sorted(set(turns))
    assert len(seen) > 5, "the others saw the rows come in pieces"


async def test_what_holds_the_lock_is_small_and_all_is_as_before_afterwards(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pragma = "PRAGMA wal_autocheckpoint"
    async with store.write() as tx:
        before = (await tx.execute(pragma)).scalar_one()
    seen = []
    publish = staging.Staging.publish

    async def look(self: staging.Staging, tx: Tx, newest: Any) -> None:
        seen.append((await tx.execute(pragma)).scalar_one())
        await publish(self, tx, newest)

    monkeypatch.setattr(staging.Staging, "publish", look)
    await an_importer(store).take(write(tmp_path, "a.csv", nem12(DAYS)), name="a", source="inbox")
    async with store.write() as tx:
        assert (await tx.execute(pragma)).scalar_one() == before
    assert seen == [staging.CHECKPOINT_PAGES]
    assert before > staging.CHECKPOINT_PAGES


@pytest.mark.parametrize("count", [1, DAYS_PER_INSERT - 1, DAYS_PER_INSERT, 2 * DAYS_PER_INSERT + 1])
async def test_of_days_written_together_each_stands_there_once(store: Store, count: int) -> None:
    rest = "kWh|30|[1.50]|S|14||20260201|20260202|20260203|5|0a"
    days: list[list[Any]] = [[7, str(20260101 + at), *rest.split("|")] for at in range(count)]
    fields = [field for day in days for field in day]
    async with store.write() as tx:
        assert await insert_days(tx, 1, fields) == count
        assert await insert_days(tx, 2, fields) == 0
    written = ("kWh", 30, "[1.50]", "S", "14", None, "20260201", "20260202", "20260203", 5, "0a")
    assert fetch(store.path, f"SELECT file, {', '.join(DAY_COLUMNS)} FROM day ORDER BY id") == [
        (1, 7, 20260101 + at, *written) for at in range(count)
    ]


async def test_a_transaction_is_made_as_large_as_the_hold_allows() -> None:
    first = staging.STAGE_BYTES_FIRST
    assert staging._next_aim(first, 4 * staging.HOLD_AIM_MS) == first // 4
    assert staging._next_aim(first, staging.HOLD_AIM_MS / 10) == 2 * first
    assert staging._next_aim(first, 1e9) == staging.STAGE_BYTES_MIN
    assert staging._next_aim(staging.STAGE_BYTES_MAX, 0.0) == staging.STAGE_BYTES_MAX
    assert 2 * staging.HOLD_AIM_MS <= staging.WRITE_HOLD_MAX_MS


# ------------------------------------------------------------------------------------------------ room


class StubBudget:
    def __init__(self, *, fits: bool = True, stuck: bool = False) -> None:
        self._fits, self.stuck, self.asked = fits, stuck, 0

    def fits(self, size: int) -> bool:
        return self._fits

    async def make_room(self, tx: Tx, size: int) -> None:
        self.asked += size


@pytest.mark.parametrize(
    ("room", "words"),
    [
        ({"budget": StubBudget(fits=False)}, "do not fit"),
        ({"budget": StubBudget(stuck=True)}, "used up"),
        ({"disk_min_bytes": 1 << 60}, "MB are free"),
    ],
)
async def test_without_room_the_file_waits_and_nothing_is_half_done(
    store: Store, tmp_path: Path, room: dict[str, Any], words: str
) -> None:
    path = write(tmp_path, "a.csv", nem12(DAYS))
    with pytest.raises(Postponed, match=words):
        await an_importer(store, room=Room(store.path, **room)).take(path, name="a", source="inbox")
    await sweep(store)
    assert (state(store.path)["days"], staged(store.path)) == ([], 0)
    assert "completed" not in [row[0] for row in ledger(store.path).values()]
    budget = StubBudget()
    outcome = await an_importer(store, room=Room(store.path, budget)).take(path, name="a", source="inbox")
    assert outcome.file.state == "completed"
    assert budget.asked > 0


async def test_a_full_disk_is_told_and_the_file_is_taken_later(store: Store, tmp_path: Path) -> None:
    content = meterfile.nem12(meterfile.meters(2), date(2026, 1, 1), 365, created="202701010000")
    path = write(tmp_path, "big.csv", content)
    taking = an_importer(store)
    async with store.write() as tx:
        (pages,) = (await tx.execute("PRAGMA page_count")).one()
        await tx.execute(f"PRAGMA max_page_count = {pages + 100}")
    with pytest.raises(Postponed, match="free some disk space"):
        await taking.take(path, name="big", source="inbox")
    assert state(store.path)["days"] == []
    async with store.write() as tx:
        await tx.execute("PRAGMA max_page_count = 1000000")
    outcome = await taking.take(path, name="big", source="inbox")
    assert (outcome.file.state, outcome.file.days, staged(store.path)) == ("completed", 1460, 0)


async def test_an_archive_that_does_not_fit_is_not_the_files_fault(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.csv", nem12(DAYS))
    taking = an_importer(store)

    @asynccontextmanager
    async def full(source: int, target: int, mode: Any) -> AsyncIterator[Any]:
        device = os.open("/dev/full", os.O_WRONLY)
        try:
            async with parsing.parsing(source, device, mode) as child:
                yield child
        finally:
            os.close(device)

    monkeypatch.setattr(importing, "parsing", full)
    with pytest.raises(Postponed, match="No space left"):
        await taking.take(path, name="a", source="inbox")
    monkeypatch.undo()
    assert list((tmp_path / "archive").iterdir()) == []
    assert (await taking.take(path, name="a", source="inbox")).file.state == "completed"
