"""Questions about what was recorded: blocks and the log's end answer as one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anyio
import pytest

from drivers.base import Quality
from edge.clock import ClockState, FakeClock, iso_utc
from edge.image import Reading
from edge.store import late, questions, shapes
from edge.store.blocks import BlockBuilder
from edge.store.database import Store
from edge.store.history import opened as history_opened
from edge.store.thin import thin
from tests.stores import a_reading, fetch, opened, record

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000
HOUR_MS = 3_600_000


async def recorded(folder: Path, clock: FakeClock, *, blocked: bool, minutes: int = 150) -> int:
    """A reading a minute of two series; returns when the first was."""
    began = clock.now_ms()
    taken: list[Reading] = []
    async with opened(folder, clock) as store:
        for i in range(minutes):
            bad = i % 10 == 9
            taken.extend(
                [
                    a_reading(
                        clock, "a.x", None if bad else i / 4, quality=Quality.BAD if bad else Quality.GOOD,
                        reason="crc" if bad else "",
                    ),
                    a_reading(clock, "b.y", float(i), unit="%", decimals=0),
                ],
            )  # fmt: skip
            clock.pass_s(60)
        await record(store, clock, taken)
        if blocked:
            assert await BlockBuilder(store, clock).build() > 0
    return began


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Equal; means but for their last bit, for a rollup adds them up in another order."""
    for piece, twin in zip(one, other, strict=True):
        for reading, like in zip(piece["readings"], twin["readings"], strict=True):
            if reading.get("n"):
                assert math.isclose(reading["value"], like["value"], rel_tol=1e-15, abs_tol=1e-15)
                reading["value"] = like["value"]
    assert one == other


@pytest.mark.parametrize("resolution_s", [0, 60, 420, 3600, 7200, 86_400])
@pytest.mark.parametrize(
    ("first", "last", "limit"), [(0, 150, 1000), (7, 133, 1000), (0, 150, 5), (59, 61, 3), (70, 70, 9)]
)
async def test_blocks_and_the_log_give_the_same_answer(
    tmp_path: Path, resolution_s: int, first: int, last: int, limit: int
) -> None:
    answers = []
    for blocked in (False, True):
        folder = tmp_path / str(blocked)
        folder.mkdir()
        began = await recorded(folder, FakeClock(), blocked=blocked)
        with history_opened(folder / "tidewatt.db") as asked:
            pieces = asked.readings(
                ["a.x", "b.y"], began + first * MINUTE_MS, began + last * MINUTE_MS, limit, resolution_s
            )
        answers.append(shapes.readings_json(pieces))
    same(*answers)
    assert [piece["series"] for piece in answers[0]] == ["a.x", "b.y"]
    if not resolution_s:
        wanted = [float(i) for i in range(first, last)][-limit:]
        assert [r["value"] for r in answers[0][1]["readings"]] == wanted


async def test_buckets_are_means_of_what_is_not_bad(tmp_path: Path) -> None:
    began = await recorded(tmp_path, FakeClock(), blocked=True)
    with history_opened(tmp_path / "tidewatt.db") as asked:
        (piece,) = asked.readings(["a.x"], began, began + 2 * HOUR_MS, 10, 3600)
    values = [i / 4 for i in range(60) if i % 10 != 9]
    bucket = piece.buckets[0]
    assert (bucket.ts_ms, bucket.n, bucket.min, bucket.max) == (began, 54, 0.0, 14.5)
    assert bucket.mean == pytest.approx(sum(values) / 54)
    assert bucket.last == 14.5
    shown = shapes.readings_json([piece])[0]["readings"][0]
    assert shown == {"ts": iso_utc(began), "value": bucket.mean, "min": 0.0, "max": 14.5, "n": 54}


async def test_series_are_listed_with_their_newest_reading(tmp_path: Path) -> None:
    clock = FakeClock()
    began = await recorded(tmp_path, clock, blocked=True)
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock, "a.x", 99.0, unit="K")])
        found = await questions.series(store.path)
    assert [s["name"] for s in found] == ["a.x", "b.y"]
    assert found[0] == {
        "name": "a.x", "unit": "K", "decimals": 2, "first": iso_utc(began), "last": iso_utc(clock.now_ms()),
        "value": 99.0, "quality": "good", "ts": iso_utc(clock.now_ms()),
    }  # fmt: skip
    assert found[1]["value"] == 149.0


async def test_a_series_that_stands_only_in_blocks_is_listed_too(tmp_path: Path) -> None:
    clock = FakeClock()
    await recorded(tmp_path, clock, blocked=False, minutes=90)
    clock.pass_s(7200)
    async with opened(tmp_path, clock) as store:
        await BlockBuilder(store, clock).build()
        async with store.write() as tx:
            await tx.execute("DELETE FROM reading")
        found = await questions.series(store.path)
    assert [(s["name"], s["value"], s["quality"]) for s in found] == [
        ("a.x", None, "bad"),
        ("b.y", 89.0, "good"),
    ]


async def test_a_changed_unit_comes_in_a_piece_of_its_own(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        for unit, decimals in (("°C", 2), ("K", 2), ("K", 1)):
            await record(store, clock, [a_reading(clock, unit=unit, decimals=decimals, value=decimals)])
            clock.pass_s(1)
        found = await questions.readings(store.path, ["tank.temperature"], 0, clock.now_ms(), 10)
        later = await questions.readings(
            store.path, ["tank.temperature"], clock.now_ms(), clock.now_ms() + 1, 10
        )
    shown = [(piece["unit"], [r["value"] for r in piece["readings"]]) for piece in found]
    assert shown == [("°C", [2.0]), ("K", [2.0, 1.0])]
    assert [(piece["unit"], piece["readings"]) for piece in later] == [("K", [])]


async def test_times_are_corrected_and_say_what_they_are_worth(tmp_path: Path) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock)])
        async with store.write() as tx:
            await tx.emit(kind="started", subject="reef")
        (piece,) = await questions.readings(store.path, ["tank.temperature"], 0, clock.now_ms() + 1, 10)
        assert piece["readings"][0]["clock"] == "unknown"
        assert store.log is not None
        written_ms = clock.now_ms()
        await store.set_offset(store.log.id, 12_345, estimated=False)
        (piece,) = await questions.readings(store.path, ["tank.temperature"], 0, clock.now_ms() * 2, 10)
        (event,) = await questions.events(store.path, limit=9)
    assert piece["readings"][0]["ts"] == iso_utc(written_ms + 12_345)
    assert piece["readings"][0]["clock"] == "holdover"
    assert event["ts"] == iso_utc(written_ms + 12_345)


async def test_an_unknown_series_is_named(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        with pytest.raises(KeyError, match=r"no\.such"):
            await questions.readings(store.path, ["no.such"], 0, 1, 10)


async def test_events_are_the_newest_first_and_filtered(tmp_path: Path) -> None:
    clock = FakeClock()
    began = clock.now_ms()
    async with opened(tmp_path, clock) as store:
        for i in range(10):
            async with store.write() as tx:
                kind, severity = ("device-failed", "warning") if i % 2 else ("started", "info")
                await tx.emit(kind=kind, subject=f"d{i % 3}", severity=severity, body={"i": i})
            clock.pass_s(60)
        found = await questions.events(store.path, limit=2, before=5, kinds=("started",))
        assert [e["seq"] for e in found] == [3, 1]
        with history_opened(store.path) as asked:
            assert [e.body["i"] for e in asked.events(limit=3)] == [9, 8, 7]
            assert [e.seq for e in asked.events(limit=2, before=5)] == [4, 3]
            assert {e.kind for e in asked.events(limit=99, kinds=("started",))} == {"started"}
            assert [e.body["i"] for e in asked.events(limit=99, subject="d0")] == [9, 6, 3, 0]
            assert len(asked.events(limit=99, severities=("warning", "alarm"))) == 5
            within = asked.events(limit=99, from_ms=began + 2 * MINUTE_MS, to_ms=began + 5 * MINUTE_MS)
            assert [e.body["i"] for e in within] == [4, 3, 2]


async def test_history_is_readable_without_a_daemon(tmp_path: Path) -> None:
    clock = FakeClock()
    await recorded(tmp_path, clock, blocked=False, minutes=2)
    path = tmp_path / "tidewatt.db"
    with history_opened(path) as asked:
        assert len(asked.series()) == 2


async def test_a_cancelled_question_leaves_nothing_running(tmp_path: Path) -> None:
    clock = FakeClock()
    await recorded(tmp_path, clock, blocked=True)
    async with opened(tmp_path, clock) as store:
        for i in range(20):
            with anyio.move_on_after(0.0003 * i):
                await questions.readings(store.path, ["a.x"], 0, clock.now_ms(), 1000)
        found = await questions.readings(store.path, ["a.x"], 0, clock.now_ms(), 1000)
    assert len(found[0]["readings"]) == 150


async def test_a_series_that_has_been_silent_for_long_is_found_in_the_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "NEAR_ROWS", 5)
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await record(store, clock, [a_reading(clock, "old.one", i) for i in range(3)])
        await record(store, clock, [a_reading(clock, "new.one", i) for i in range(10)])
        found = await questions.series(store.path)
    assert [(s["name"], s["value"]) for s in found] == [("new.one", 9.0), ("old.one", 2.0)]


# ------------------------------------------------------------------- thinned before they stood in a block

WIDTHS_S = (60, 300, 420, 900, 3600, 86_400)


async def thin_readings(store: Store, first: int, last: int) -> None:
    """As the budget does it: summaries of a minute, and a hole."""
    assert store.log is not None
    async with store.write() as tx:
        made = await thin(tx, stream="readings", first=first, last=last, span_s=60, log=store.log.id)
        await tx.execute(
            "INSERT INTO hole VALUES ('readings', :first, :last, 'downsampled', :n, NULL, NULL)",
            {"first": first, "last": last, "n": made.rows},
        )


async def ten_seconds_apart(store: Store, clock: FakeClock, minutes: int) -> list[Reading]:
    """Readings of a.x that are recorded, six a minute, some of them bad."""
    taken = []
    for i in range(minutes * 6):
        quality = Quality.BAD if i % 7 == 3 else Quality.GOOD
        taken.append(a_reading(clock, "a.x", i / 4, quality=quality))
        clock.pass_s(10)
    await record(store, clock, taken)
    return taken


def shown(store: Store, from_ms: int, to_ms: int) -> list[list[dict[str, Any]]]:
    """Buckets of all widths."""
    with history_opened(store.path) as asked:
        return [shapes.readings_json(asked.readings(["a.x"], from_ms, to_ms, 9999, s)) for s in WIDTHS_S]


def all_the_same(found: list[list[dict[str, Any]]], wanted: list[list[dict[str, Any]]]) -> None:
    for one, other in zip(found, wanted, strict=True):
        same(one, other)


async def test_what_was_thinned_before_it_stood_in_a_block_is_shown(tmp_path: Path) -> None:
    """From the summaries at first, from blocks as soon as these are made, whoever deletes the summaries then."""
    clock = FakeClock()
    began = clock.now_ms()
    async with opened(tmp_path, clock) as store:
        await ten_seconds_apart(store, clock, 150)
        whole = (began, began + 3 * HOUR_MS)
        wanted = shown(store, *whole)
        await thin_readings(store, 1, 240)
        await thin_readings(store, 421, 780)
        all_the_same(shown(store, *whole), wanted)
        with history_opened(store.path) as asked:
            (piece,) = asked.readings(["a.x"], *whole, 9999)
            assert [sample.span_s for sample in piece.samples].count(60) == 100
            assert len(piece.samples) == 100 + 300
        clock.pass_s(3600)
        assert await BlockBuilder(store, clock).build() == 3
        all_the_same(shown(store, *whole), wanted)
        async with store.write() as tx:
            await tx.execute("DELETE FROM summary")
        all_the_same(shown(store, *whole), wanted)
        with history_opened(store.path) as asked:
            assert asked.readings(["a.x"], *whole, 9999)[0].samples == piece.samples


async def test_readings_that_come_late_join_an_hour_that_was_thinned(tmp_path: Path) -> None:
    clock = FakeClock()
    began = clock.now_ms()
    late = [(5, 70.0), (65, -70.0), (119, 3.0)]  # minute of the first hour, and value
    answers = []
    for is_thinned in (False, True):
        clock = FakeClock()
        folder = tmp_path / str(is_thinned)
        folder.mkdir()
        async with opened(folder, clock) as store:
            await ten_seconds_apart(store, clock, 120)
            if is_thinned:
                await thin_readings(store, 1, 480)
            clock.pass_s(3600)
            await BlockBuilder(store, clock).build()
            before_s = (clock.now_ms() - began) / 1000
            rows = [a_reading(clock, "a.x", value, before_s=before_s - at * 60 - 59) for at, value in late]
            await record(store, clock, rows)
            answers.append(shown(store, began, began + 3 * HOUR_MS))
            clock.pass_s(3600)
            await BlockBuilder(store, clock).build()
            answers.append(shown(store, began, began + 3 * HOUR_MS))
    for found in answers[1:]:
        all_the_same(found, answers[0])


async def test_what_was_thinned_while_the_clock_was_unknown_is_shown_where_it_was(tmp_path: Path) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with opened(tmp_path, clock) as store:
        began = clock.now_ms()
        await ten_seconds_apart(store, clock, 150)
        assert store.log is not None
        wanted = shown(store, began, began + 3 * HOUR_MS)
        await thin_readings(store, 1, 600)
        all_the_same(shown(store, began, began + 3 * HOUR_MS), wanted)
        await store.set_offset(store.log.id, 5 * HOUR_MS, estimated=False)
        clock.pass_s(6 * 3600)
        assert await BlockBuilder(store, clock).build() == 3
        found = shown(store, began + 5 * HOUR_MS, began + 8 * HOUR_MS)
        counts = [[sum(bucket["n"] for bucket in piece["readings"]) for piece in one] for one in found]
        assert counts == [[sum(1 for i in range(900) if i % 7 != 3)]] * len(WIDTHS_S)


async def test_a_series_of_which_only_summaries_are_left_is_listed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        taken = await ten_seconds_apart(store, clock, 2)
        await thin_readings(store, 1, 12)
        for _ in range(2):  # from the summaries, then from the block that is made of them
            (found,) = await questions.series(store.path)
            assert found["first"] == iso_utc(taken[0].ts_ms)
            assert found["quality"] == "good"
            clock.pass_s(3600)
            await BlockBuilder(store, clock).build()
            assert fetch(store.path, "SELECT n, last FROM block") == [(10, 11 / 4)]


async def test_no_summary_stands_for_what_is_in_blocks_and_what_is_not(tmp_path: Path) -> None:
    clock = FakeClock()
    began = clock.now_ms()
    async with opened(tmp_path, clock) as store:
        await ten_seconds_apart(store, clock, 60)
        clock.pass_s(60)
        await BlockBuilder(store, clock).build()
        assert fetch(store.path, "SELECT value FROM progress WHERE name = 'blocked'") == [(360,)]
        await record(store, clock, [a_reading(clock, "a.x", 9.0, before_s=90 + at) for at in range(20)])
        wanted = shown(store, began, began + HOUR_MS)
        await thin_readings(store, 300, 360)
        await thin_readings(store, 361, 380)
        async with store.write() as tx:
            await thin(tx, stream="summaries", first=1, last=999, span_s=3600, log=0)
        found = shown(store, began, began + HOUR_MS)
        same(found[-2], wanted[-2])  # of an hour
        same(found[-1], wanted[-1])
