"""What meter files said, asked back: intervals, totals and pages against the file's own digits."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from edge.clock import SystemClock
from edge.demo import meterfile
from edge.meters import queries
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from tests import stores

pytestmark = pytest.mark.anyio

FIRST = date(2026, 1, 20)
DAYS = 50
NMI = "6102000001"
MARKET = timedelta(hours=10)


def utc_ms(day: date) -> int:
    """Midnight of a market day."""
    return round((datetime(day.year, day.month, day.day, tzinfo=UTC) - MARKET).timestamp() * 1000)


def written(path: Path, minutes: int = 30, suffixes: tuple[str, ...] = ("E1", "B1")) -> Path:
    meters = meterfile.meters(2, suffixes, minutes)
    with path.open("w", newline="") as out:
        out.writelines(meterfile.nem12(meters, FIRST, DAYS, created="202603200930"))
    return path


def truth(path: Path, nmi: str = NMI, suffix: str = "E1") -> dict[date, list[str]]:
    """The values of a channel's days as they stand in the file, read by nothing of ours."""
    found: dict[date, list[str]] = {}
    present, count = ("", ""), 0
    with path.open(newline="") as lines:
        for row in csv.reader(lines):
            if row[0] == "200":
                present, count = (row[1], row[4]), 1440 // int(row[8])
            elif row[0] == "300" and present == (nmi, suffix):
                found[date.fromisoformat(row[1])] = row[2 : 2 + count]
    return found


async def imported(folder: Path, files: Iterable[Path], config: MetersConfig | None = None) -> Path:
    clock = SystemClock()
    async with stores.opened(folder, clock) as store:
        importer = Importer(store, config or MetersConfig(), clock)
        for file in files:
            outcome = await importer.take(file, name=file.name, source="cli")
            assert outcome.file.state == "completed", outcome
    return folder / "tidewatt.db"


def exact(texts: Iterable[str]) -> Decimal:
    return sum(map(Decimal, texts), Decimal(0))


async def test_intervals_keep_the_digits_and_the_times_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    database = await imported(tmp_path, [path])
    with queries.opened(database) as history:
        found = history.intervals(
            NMI, "E1", from_ms=utc_ms(FIRST), to_ms=utc_ms(FIRST + timedelta(2)), limit=1000
        )
    values = truth(path)
    assert [row.value for row in found.rows] == values[FIRST] + values[FIRST + timedelta(1)]
    assert found.unit == "kWh"
    assert found.total == 96
    assert found.rows[0].start_ms == utc_ms(FIRST)
    assert {row.end_ms - row.start_ms for row in found.rows} == {1_800_000}
    assert found.rows[-1].end_ms == utc_ms(FIRST + timedelta(2))


@pytest.mark.parametrize("resolution", ["PT1H", "P1D", "P1M"])
async def test_totals_are_exact(tmp_path: Path, resolution: str) -> None:
    path = written(tmp_path / "a.csv", minutes=5)
    database = await imported(tmp_path, [path])
    with queries.opened(database) as history:
        found = history.intervals(
            NMI, "B1", from_ms=utc_ms(FIRST), to_ms=utc_ms(FIRST + timedelta(DAYS)), resolution=resolution,
            limit=10_000,
        )  # fmt: skip
    wanted: dict[int, list[str]] = defaultdict(list)
    for day, values in truth(path, suffix="B1").items():
        for at, value in enumerate(values):
            begin = utc_ms(day) + at * 300_000
            bucket = {
                "PT1H": begin - begin % 3_600_000, "P1D": utc_ms(day), "P1M": utc_ms(day.replace(day=1)),
            }[resolution]  # fmt: skip
            wanted[bucket].append(value)
    assert {row.start_ms: Decimal(row.value or "nan") for row in found.rows} == {
        begin: exact(values) for begin, values in wanted.items()
    }
    assert {row.start_ms: row.count for row in found.rows} == {at: len(v) for at, v in wanted.items()}
    assert found.total == len(found.rows)


async def test_a_month_that_is_not_all_there_says_so(tmp_path: Path) -> None:
    database = await imported(tmp_path, [written(tmp_path / "a.csv")])
    with queries.opened(database) as history:
        found = history.intervals(
            NMI, "E1", from_ms=utc_ms(FIRST), to_ms=utc_ms(FIRST + timedelta(DAYS)), resolution="P1M"
        )
    assert [(row.count, row.expected) for row in found.rows] == [
        (12 * 48, 31 * 48), (28 * 48, 28 * 48), (10 * 48, 31 * 48),
    ]  # fmt: skip


async def test_half_a_day_is_shown_as_the_whole_day(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    database = await imported(tmp_path, [path])
    noon = utc_ms(FIRST) + 12 * 3_600_000
    with queries.opened(database) as history:
        found = history.intervals(NMI, "E1", from_ms=noon, to_ms=noon + 1, resolution="P1D")
    (row,) = found.rows
    assert Decimal(row.value or "nan") == exact(truth(path)[FIRST])


async def test_pages_make_the_whole(tmp_path: Path) -> None:
    database = await imported(tmp_path, [written(tmp_path / "a.csv")])
    span: dict[str, Any] = {"from_ms": utc_ms(FIRST) + 1, "to_ms": utc_ms(FIRST + timedelta(3)) - 7_200_000}
    with queries.opened(database) as history:
        whole = history.intervals(NMI, "E1", **span, limit=1000)
        pages = [history.intervals(NMI, "E1", **span, limit=50, offset=at) for at in range(0, 200, 50)]
    assert [row for page in pages for row in page.rows] == list(whole.rows)
    assert {page.total for page in pages} == {whole.total} == {len(whole.rows)}
    assert whole.rows[0].start_ms == utc_ms(FIRST) + 1_800_000


async def test_the_newest_version_of_a_day_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    values = truth(path)[FIRST]
    newer = tmp_path / "newer.csv"
    newer.write_text(
        "100,NEM12,202603210930,TIDEWATT,OWNER\r\n"
        f"200,{NMI},E1B1,1,E1,N1,TW000001,KWH,30,\r\n"
        f"300,{FIRST:%Y%m%d},{','.join(['1.250'] * 48)},F14,32,,20260321093000,20260321093030\r\n"
        "900\r\n",
        newline="",
    )
    for order in ([path, newer], [newer, path]):
        folder = tmp_path / f"{order[0].stem}-first"
        folder.mkdir()
        database = await imported(folder, order)
        with queries.opened(database) as history:
            found = history.intervals(
                NMI, "E1", from_ms=utc_ms(FIRST), to_ms=utc_ms(FIRST + timedelta(1)), quality="estimated"
            )
            (meter, _) = history.meters()
        assert {(row.value, row.flag, row.method, row.reason) for row in found.rows} == {
            ("1.250", "F", "14", "32")
        }
        assert len(found.rows) == 48 != len(set(values))
        assert {channel.suffix: channel.replaced for channel in meter.channels} == {"B1": 0, "E1": 1}


async def test_quality_comes_by_interval(tmp_path: Path) -> None:
    """A day whose 400 rows say that a third of it is substituted."""
    path = written(tmp_path / "a.csv")
    with path.open(newline="") as lines:
        days = [line.split(",")[1] for line in lines if ",V,," in line]
    day = date.fromisoformat(days[0])
    database = await imported(tmp_path, [path])
    span: dict[str, Any] = {"from_ms": utc_ms(day), "to_ms": utc_ms(day + timedelta(1))}
    with queries.opened(database) as history:
        every = history.intervals(NMI, "E1", **span)
        some = history.intervals(NMI, "E1", **span, quality="S14")
        total = history.intervals(NMI, "E1", **span, resolution="P1D")
    assert [row.quality for row in every.rows] == ["good"] * 16 + ["estimated"] * 16 + ["good"] * 16
    assert list(some.rows) == list(every.rows)[16:32]
    assert some.total == 16
    assert (total.rows[0].quality, total.rows[0].flag) == ("estimated", "")


async def test_a_meter_of_another_clock(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    config = MetersConfig.model_validate({"nmi": [{"nmi": NMI, "utc_offset_min": 480}]})
    database = await imported(tmp_path, [path], config)
    with queries.opened(database) as history:
        found = history.intervals(NMI, "E1", from_ms=0, to_ms=1 << 42, limit=1)
        assert history.offset_min(NMI) == 480
        assert history.offset_min("6102000002") == 600
    assert found.rows[0].start_ms == utc_ms(FIRST) + 2 * 3_600_000


async def test_meters_and_reads(tmp_path: Path) -> None:
    path = tmp_path / "reads.csv"
    with path.open("w", newline="") as out:
        out.writelines(
            meterfile.nem13(meterfile.meters(1, ("11",)), date(2025, 1, 1), 4, created="202602010930")
        )
    database = await imported(tmp_path, [written(tmp_path / "a.csv"), path])
    with queries.opened(database) as history:
        meters = history.meters()
    assert [meter.nmi for meter in meters] == ["6102000001", "6102000002"]
    (e1,) = [channel for channel in meters[0].channels if channel.suffix == "E1"]
    assert (e1.first, e1.last, e1.days, e1.missing) == (FIRST, FIRST + timedelta(DAYS - 1), DAYS, 0)
    assert (e1.unit, e1.interval_min, e1.serial) == ("kWh", 30, "TW000001")
    reads = [read for read in meters[0].reads if read.suffix == "11"]
    assert len(reads) == 4
    assert reads[0].current_read == reads[1].previous_read
    assert all(int(read.current_read) - int(read.previous_read) == int(read.quantity) for read in reads)


async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    database = await imported(tmp_path, [written(tmp_path / "a.csv")])
    with queries.opened(database) as history:
        with pytest.raises(queries.NoSuchChannel, match="no intervals of 'E9'; it has: B1, E1"):
            history.intervals(NMI, "E9", from_ms=0, to_ms=1)
        with pytest.raises(queries.NoSuchChannel, match=f"no meter 'X' with intervals; there are: {NMI}"):
            history.intervals("X", "E1", from_ms=0, to_ms=1)
        with pytest.raises(
            queries.BadResolution, match="intervals are of 30 minutes, which PT5M cannot show"
        ):
            history.intervals(NMI, "E1", from_ms=utc_ms(FIRST), to_ms=1 << 42, resolution="PT5M")
