"""Hourly blocks: what goes in comes out again, bit for bit, once, whatever happens in between."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Quality
from edge.clock import ClockState, FakeClock
from edge.store.blocks import BlockBuilder
from edge.store.codec import CLOCKS, HOUR_MS, BlockError, Sample, decode, encode, first_ms, stats
from edge.store.database import Store
from edge.store.gather import Block, Frames, read_frames
from edge.store.logtimes import LogTime, LogTimes
from tests.stores import a_reading, fetch, opened, record

on_loop = pytest.mark.anyio

VALUES = st.none() | st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(float),
    st.integers(-100, 100).map(float),
)
TIMES = st.integers(1_767_225_600_000, 1_767_225_600_000 + HOUR_MS) | st.integers(-(1 << 50), 1 << 50)
SAMPLES = st.lists(
    st.builds(
        Sample,
        ts_ms=TIMES,
        value=VALUES,
        quality=st.sampled_from((0, 0, 0, 1, 2)),
        reason=st.sampled_from(("", "", "crc", "sentinel")) | st.text("abc °µ", max_size=4),
        span_s=st.sampled_from((0, 0, 300)),
        calibration=st.integers(0, 3),
        clock=st.integers(0, len(CLOCKS) - 1),
    ),
    max_size=60,
)


def bits(samples: list[Sample]) -> list[tuple[object, ...]]:
    """Samples with their values as bytes, so that -0.0 is not 0.0."""
    return [(s.ts_ms, None if s.value is None else struct.pack("<d", s.value), *s[2:]) for s in samples]


@settings(deadline=None)
@given(SAMPLES)
def test_a_block_gives_back_every_bit(samples: list[Sample]) -> None:
    packed = encode(samples)
    assert bits(decode(packed)) == bits(samples)
    if samples:
        assert first_ms(packed) == samples[0].ts_ms


def test_an_hour_of_a_probe_is_small() -> None:
    samples = [
        Sample(1_767_225_600_000 + i * 1000 + i % 7, round(25 + math.sin(i / 600), 2)) for i in range(3600)
    ]
    assert len(encode(samples)) < 3000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(BlockError, match="finite"):
        encode([Sample(0, value)])


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_is_noticed_and_never_anything_else(noise: bytes, at: int) -> None:
    packed = encode([Sample(i * 1000, 20 + i / 10, 0, "", 0, 1) for i in range(50)])
    cut = packed[: at % len(packed)] + noise
    for data in (cut, noise, bytes([1]) + noise):
        try:
            decode(data)
        except BlockError:
            continue
        assert data.startswith(packed), "what follows a block is not looked at"


def test_stats_leave_bad_values_out() -> None:
    found = stats([Sample(0, 1.0), Sample(1, 99.0, 2, "sentinel"), Sample(2, 2.0, 1), Sample(3, None, 2)])
    assert (found.n, found.min, found.max, found.mean, found.last) == (2, 1.0, 2.0, 1.5, 2.0)
    assert stats([Sample(0, None, 2)]).n == 0


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_mean_lies_between_the_least_and_the_greatest(values: list[float]) -> None:
    found = stats([Sample(i, value) for i, value in enumerate(values)])
    assert found.min is not None
    assert found.max is not None
    assert found.mean is not None
    assert found.min <= found.mean <= found.max


def test_a_log_without_a_row_stops_nothing() -> None:
    unknown = CLOCKS.index("unknown")
    times = LogTimes(
        [
            LogTime(begin=1, offset_ms=None, clock=unknown),
            LogTime(begin=1, offset_ms=0, clock=0),
            LogTime(begin=11, offset_ms=None, clock=unknown),
        ]
    )
    assert times.first_unknown() == 11
    assert [(first, last) for first, last, _ in times.spans(0, 20)] == [(1, 10), (11, 20)]
    assert times.at(5).offset_ms == 0


# ------------------------------------------------------------------------------------------- building


def blocks_of(store: Store) -> dict[tuple[str, int], list[Sample]]:
    rows = fetch(store.path, "SELECT s.name, b.hour, b.data FROM block b JOIN series s ON s.id = b.series")
    return {(name, hour): decode(data) for name, hour, data in rows}


async def an_hour(store: Store, clock: FakeClock, every_s: int = 60) -> None:
    """Let an hour pass with a reading of two series every so often."""
    for i in range(3600 // every_s):
        await record(
            store,
            clock,
            [
                a_reading(clock, "a.x", i / 10),
                a_reading(clock, "b.y", None, quality=Quality.BAD, reason="crc"),
            ],
        )
        clock.pass_s(every_s)


@on_loop
async def test_the_rows_of_an_ended_hour_become_blocks_and_later_ones_wait(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        builder = BlockBuilder(store, clock)
        await an_hour(store, clock)
        await record(store, clock, [a_reading(clock, "a.x", 7.0)])
        assert await builder.build() == 2
        hour = clock.now_ms() // HOUR_MS - 1
        found = blocks_of(store)
        assert set(found) == {("a.x", hour), ("b.y", hour)}
        assert [s.value for s in found["a.x", hour]] == [i / 10 for i in range(60)]
        assert {s[1:4] for s in found["b.y", hour]} == {(None, 2, "crc")}
        assert await builder.blocked() == 120
        assert await builder.build() == 0
        numbers = fetch(store.path, "SELECT n, min, max, last FROM block ORDER BY series")
        assert numbers == [(60, 0.0, 5.9, 5.9), (0, None, None, None)]


@on_loop
async def test_late_rows_join_the_block_of_their_hour(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        builder = BlockBuilder(store, clock)
        await an_hour(store, clock)
        await builder.build()
        await record(store, clock, [a_reading(clock, "a.x", 99.0, before_s=1799.5)])
        clock.pass_s(3600)
        assert await builder.build() == 1
        (found,) = [samples for (name, _), samples in blocks_of(store).items() if name == "a.x"]
        assert len(found) == 61
        assert [s.ts_ms for s in found] == sorted(s.ts_ms for s in found)
        assert found[31].value == 99.0
        assert fetch(store.path, "SELECT max(max) FROM block") == [(99.0,)]


@on_loop
async def test_rows_from_the_future_do_not_stop_the_building(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        builder = BlockBuilder(store, clock)
        clock.step(400 * 24 * HOUR_MS)
        await record(store, clock, [a_reading(clock, "a.x", 1.0)])
        clock.step(-400 * 24 * HOUR_MS)
        assert await builder.build() == 0
        await an_hour(store, clock)
        assert await builder.build() == 3
        assert await builder.blocked() == 121


@on_loop
async def test_a_log_whose_time_is_not_known_waits(tmp_path: Path) -> None:
    clock = FakeClock(state=ClockState.UNKNOWN)
    async with opened(tmp_path, clock) as store:
        builder = BlockBuilder(store, clock)
        await an_hour(store, clock)
        clock.pass_s(3600)
        assert await builder.build() == 0
        log = store.log
        assert log is not None
        shift_ms = 500 * HOUR_MS
        clock.set_state(ClockState.SYNCED, true_ms=clock.now_ms() + shift_ms)
        clock.check()
        await store.set_offset(log.id, shift_ms, estimated=False)
        assert await builder.build() == 2
        (samples,) = [samples for (name, _), samples in blocks_of(store).items() if name == "a.x"]
        assert samples[0].ts_ms == log.opened_ms + shift_ms
        assert CLOCKS[samples[0].clock] == "corrected"


@on_loop
async def test_a_write_that_fails_is_done_again_whole(tmp_path: Path) -> None:
    """Neither a block nor the progress stands alone, so that nothing comes twice."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        builder = BlockBuilder(store, clock)
        await an_hour(store, clock)
        frames = await builder._gather(store.heads["readings"], clock.now_ms(), 0)
        whole, other = frames.blocks
        nothing: Any = None
        broken = Block(series=other.series, hour=nothing, stats=other.stats, data=b"", minutes=b"")
        with pytest.raises(Exception, match="NOT NULL"):
            await builder._write(0, Frames(last=frames.last, rolled=-1, blocks=[whole, broken], pages=[]))
        assert blocks_of(store) == {}
        assert await builder.blocked() == 0
        assert await builder.build() == 2
        with pytest.raises(BlockError, match="another builder"):
            await builder._write(0, frames)


@on_loop
async def test_passes_are_bounded_and_meet_where_they_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small child limit: the same blocks come out of many passes as of one."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        await an_hour(store, clock)
        whole, parts = BlockBuilder(store, clock), BlockBuilder(store, clock)
        frames = await whole._gather(store.heads["readings"], clock.now_ms(), 0)
        assert frames.last == 120
        real = parts._gather

        async def little(head: int, hour_ms: int, day: int) -> Frames:
            return await real(min(head, await parts.blocked() + 7), hour_ms, day)

        monkeypatch.setattr(parts, "_gather", little)
        assert await parts.build() > 2
        wanted = {(b.series, b.hour): decode(b.data) for b in frames.blocks}
        rows = fetch(store.path, "SELECT series, hour, data FROM block")
        assert {(series, hour): decode(data) for series, hour, data in rows} == wanted


@on_loop
async def test_the_loop_builds_after_the_start_and_after_each_hour(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store, anyio.create_task_group() as group:
        group.start_soon(BlockBuilder(store, clock).run)
        await clock.until_sleeping()
        await record(store, clock, [a_reading(clock, "a.x", 1.0)])
        await clock.advance(60)
        assert blocks_of(store) == {}
        await clock.advance(3600)
        assert len(blocks_of(store)) == 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 7, b"\0" * 20, b"\0" * 16 + b"b" + b"\0" * 40, b"\0" * 16 + b"x"]
)
def test_frames_that_were_cut_off_are_refused(raw: bytes) -> None:
    with pytest.raises(BlockError):
        read_frames(raw)
