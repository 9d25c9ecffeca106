"""The poll loop on a fake clock: ticks, times of readings, failure, retry, recovery."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any, cast

import anyio.to_thread
import pytest

from drivers.base import DeviceMisconfigured, DeviceTimeout, DeviceUnavailable, Point, Quality, Sample
from edge.clock import FakeClock, SystemClock
from edge.poll.config import PollConfig
from edge.poll.device import aligned_ms, retry_pause_s
from tests.unit.poll_parts import Rig, Scripted, config, is_bad, until, value

pytestmark = pytest.mark.anyio
START_MS = 1_767_225_600_000


def rig(*names: str, **fields: Any) -> Rig:
    return Rig(clock=FakeClock(now_ms=START_MS), configs=[config(name, bus="b", **fields) for name in names])


def clock_of(one: Rig) -> FakeClock:
    assert isinstance(one.clock, FakeClock)
    return one.clock


async def test_reads_each_tick_on_the_wall_s_grid() -> None:
    one = rig("a")
    async with one.running():
        await clock_of(one).advance(4.5)
        assert one.devices["a"].read_at_ms == [START_MS + 1000 * i for i in range(5)]
        assert [reading.ts_ms for reading in one.stored_of("a.v")] == one.devices["a"].read_at_ms
        assert one.state("a") == "up"


async def test_each_device_has_its_interval_and_its_place_on_the_bus() -> None:
    one = Rig(
        clock=FakeClock(now_ms=START_MS),
        configs=[config("fast", bus="b"), config("slow", bus="b", interval_s=5.0), config("third", bus="b")],
    )
    async with one.running():
        await clock_of(one).advance(20.0)
        assert len(one.devices["fast"].read_at_ms) == 21
        assert [ms % 5000 for ms in one.devices["slow"].read_at_ms[1:]] == [3000] * 4
        assert {ms % 1000 for ms in one.devices["third"].read_at_ms} == {200}
        assert one.poller.late == 0


async def test_devices_of_one_bus_share_its_thread_and_others_do_not() -> None:
    configs = [config("a", bus="one"), config("b", bus="one"), config("c", bus="two")]
    one = Rig(clock=FakeClock(now_ms=START_MS), configs=configs)
    async with one.running():
        await clock_of(one).advance(2.0, loops=2)
        assert one.devices["a"].threads == one.devices["b"].threads == {"bus-one"}
        assert one.devices["c"].threads == {"bus-two"}


async def test_opens_once_and_closes_at_the_end() -> None:
    one = rig("a")
    async with one.running():
        await clock_of(one).advance(3.5)
    assert one.devices["a"].calls == ["open", "read", "read", "read", "read", "close"]


async def test_a_read_that_takes_too_long_skips_ticks_and_counts_them() -> None:
    one = rig("a")

    def slow() -> list[Sample]:
        clock_of(one).pass_s(2.5)
        return value(25.0)

    async with one.running():
        one.devices["a"].act = slow
        await clock_of(one).until_sleeping()
        one.devices["a"].act = lambda: value(26.0)
        await clock_of(one).advance(1.0)
        assert one.devices["a"].read_at_ms == [START_MS, START_MS + 3000]
        assert (one.poller.late, one.status("a")["late"]) == (2, 2)


async def test_a_slow_neighbour_makes_a_reading_carry_its_own_time() -> None:
    one = rig("a", "b")

    def slow() -> list[Sample]:
        clock_of(one).pass_s(0.75)
        return value(25.0)

    one.devices["a"].act = slow
    async with one.running():
        await clock_of(one).until_sleeping()
        assert one.newest("a.v").ts_ms == START_MS
        assert one.newest("b.v").ts_ms == START_MS + 750, "150 ms after its tick is not on time"
        assert one.poller.lateness_s == pytest.approx(0.15)
        assert one.poller.lateness_max_s == pytest.approx(0.15)


@pytest.mark.parametrize(("after_ms", "ts_ms"), [(-2, 0), (0, 0), (100, 0), (101, 101), (-3, -3), (900, 900)])
def test_a_reading_s_time(after_ms: int, ts_ms: int) -> None:
    assert aligned_ms(5000, 5000 + after_ms) == 5000 + ts_ms


async def test_a_clock_step_makes_no_burst_and_no_gap() -> None:
    one = rig("a")
    async with one.running():
        await clock_of(one).advance(3.2)
        clock_of(one).step(7_200_000)
        await clock_of(one).advance(3.0)
        clock_of(one).step(-7_200_000)
        await clock_of(one).advance(3.0)
        assert len(one.devices["a"].read_at_ms) == 10
        assert one.poller.late == 0


async def test_a_device_that_vanishes_is_bad_once_told_once_and_retried_ever_more_rarely() -> None:
    one = rig("a")
    async with one.running():
        await clock_of(one).advance(2.5)
        one.devices["a"].act = one.devices["a"].gone
        await clock_of(one).advance(100.0)
        assert is_bad(one.newest("a.v"), "unavailable")
        assert one.events == [("device-failed", "a")]
        assert [reading.reason for reading in one.stored_of("a.v")] == ["", "", "", "unavailable"]
        status = one.status("a")
        assert status["state"] == "failing"
        assert status["last_error"] == "it is gone; plug it in"
        assert 0 < status["next_retry_s"] <= 8.0 * 1.2
        tries = len(one.devices["a"].read_at_ms) - 3
        assert 100 / (8 * 1.2) < tries < 30, "0.1 s, doubling, up to 8 s"


async def test_it_recovers_without_a_restart_with_a_new_open() -> None:
    one = rig("a")
    async with one.running():
        await clock_of(one).advance(1.5)
        one.devices["a"].act = one.devices["a"].gone
        await clock_of(one).advance(5.0)
        one.devices["a"].act = lambda: value(25.5)
        await clock_of(one).advance(10.0)
        assert one.state("a") == "up"
        assert one.events == [("device-failed", "a"), ("device-recovered", "a")]
        assert one.newest("a.v").value == 25.5
        opened, closed = (one.devices["a"].calls.count(call) for call in ("open", "close"))
        assert opened > 1
        assert closed == opened - 1
        assert one.newest("a.v").ts_ms % 1000 == 0, "back on the grid"
        assert one.status("a")["last_error"] == "it is gone; plug it in", "the last error stays to be seen"


async def test_a_device_that_stays_dead_is_stored_at_its_silence_maximum() -> None:
    one = rig("a", points={"v": {"silence_max_s": 60.0}})
    one.devices["a"].act = one.devices["a"].gone
    async with one.running():
        await clock_of(one).advance(200.0)
        at_s = [(reading.ts_ms - START_MS) / 1000 for reading in one.stored_of("a.v")]
        assert len(at_s) == 4
        assert all(60 <= b - a < 75 for a, b in pairwise(at_s))


async def test_misconfigured_parks_it_until_someone_enables_it() -> None:
    one = rig("a")
    one.devices["a"].act = one.devices["a"].raising(DeviceMisconfigured("no channel 3; use 0 or 1"))
    async with one.running():
        await clock_of(one).advance(50.0)
        assert one.state("a") == "parked"
        assert one.devices["a"].calls.count("read") == 1
        assert one.events == [("device-parked", "a")]
        assert is_bad(one.newest("a.v"), "parked")
        assert one.status("a")["next_retry_s"] is None
        one.devices["a"].act = lambda: value(25.0)
        await one.poller.enable("a")
        await clock_of(one).advance(80.0)
        assert one.state("a") == "up"


@pytest.mark.parametrize(
    ("error", "told", "reason"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero (poll_parts.py, line …)", "unavailable"),
        (OSError(5, "No I/O"), "OSError: [Errno 5] No I/O (poll_parts.py, line …)", "unavailable"),
        (SystemExit(3), "RuntimeError: raised SystemExit (bus.py, line …)", "unavailable"),
        (DeviceTimeout("no reply in 2 s; check A and B"), "no reply in 2 s; check A and B", "timeout"),
        (DeviceUnavailable(), "DeviceUnavailable", "unavailable"),
    ],
)
async def test_whatever_it_raises_the_loop_lives_and_the_neighbour_is_read(
    error: BaseException, told: str, reason: str
) -> None:
    one = rig("a", "b")
    one.devices["a"].act = one.devices["a"].raising(error)
    async with one.running():
        await clock_of(one).advance(10.0)
        assert one.state("a") == "failing"
        assert re.sub(r"line \d+\)$", "line …)", one.status("a")["last_error"]) == told
        assert is_bad(one.newest("a.v"), reason)
        assert len(one.devices["b"].read_at_ms) == 10
        assert one.poller.errors == one.status("a")["errors"] > 3


@pytest.mark.parametrize(
    ("answer", "reason"), [("25.1 C", "text"), (math.nan, "not-finite"), (math.inf, "not-finite")]
)
async def test_an_unusual_value_is_bad_and_the_device_stays_up(answer: object, reason: str) -> None:
    one = rig("a")
    one.devices["a"].act = lambda: value(answer)
    async with one.running():
        await clock_of(one).advance(3.0)
        assert is_bad(one.newest("a.v"), reason)
        assert one.state("a") == "up"
        assert one.events == []


@pytest.mark.parametrize(
    "answer", [None, 7, "25.1", [25.1], [None], {"v": 25.1}, [Sample(point=cast(Any, []), value=1)]]
)
async def test_an_answer_that_is_no_samples_is_a_failure(answer: object) -> None:
    one = rig("a", "b")
    one.devices["a"].act = lambda: cast(list[Sample], answer)
    async with one.running():
        await clock_of(one).advance(3.0)
        assert one.state("a") == "failing"
        assert one.status("a")["last_error"].startswith("read() must return a list of Sample, ")
        assert one.state("b") == "up"


async def test_a_point_that_nobody_described_is_bad_and_they_are_few() -> None:
    one = rig("a")
    one.devices["a"].act = lambda: [*value(25.0), *(Sample(point=f"x{i}", value=1.0) for i in range(100))]
    async with one.running():
        await clock_of(one).advance(2.0)
        assert one.newest("a.v").quality is Quality.GOOD
        assert is_bad(one.newest("a.x0"), "unknown-point")
        assert len(one.image.snapshot()) == 9


async def test_points_that_are_learnt_by_opening_are_taken_over() -> None:
    one = rig("a", points={"w": {"offset": 1.0}, "nonsense": {}})
    device = one.devices["a"]
    device.described = {}

    def learn() -> None:
        device.described = {"w": Point(unit="V", decimals=1)}

    device.on_open = learn
    device.act = lambda: value(4.0, "w")
    async with one.running():
        await clock_of(one).advance(1.0)
        reading = one.newest("a.w")
        assert (reading.value, reading.unit, reading.calibration != "") == (5.0, "V", True)
        assert is_bad(one.newest("a.nonsense"), "no-such-point")
        assert list(one.poller.calibrations().values()) == ['{"kind":"offset","offset":1.0}']


async def test_calibration_plausibility_and_dead_band_stand_in_the_way_to_the_store() -> None:
    one = rig("a", points={"v": {"offset": 0.5, "high": 40.0, "dead_band": 0.2, "silence_max_s": 3600.0}})
    answers = iter([25.0, 25.1, 25.3, 60.0, 25.3, 25.3, 25.3, 25.3])
    one.devices["a"].act = lambda: value(next(answers, 25.3))
    async with one.running():
        await clock_of(one).advance(7.5)
        assert [(reading.value, reading.reason) for reading in one.stored_of("a.v")] == [
            (25.5, ""),
            (25.8, ""),
            (60.5, "range"),
            (25.8, "unconfirmed"),
            (25.8, ""),
        ]
        assert one.newest("a.v").value == 25.8


async def test_a_driver_that_cannot_make_its_device_parks_it() -> None:
    one = rig("a")

    def refuse(*_: object) -> Scripted:
        raise DeviceMisconfigured("pwmchip0 has no channel 3; use channel = 0 or 1")

    one.poller._make = refuse
    async with one.running():
        await clock_of(one).advance(1.0)
        assert one.state("a") == "parked"
        assert one.status("a")["last_error"] == "pwmchip0 has no channel 3; use channel = 0 or 1"


async def test_a_device_whose_points_cannot_be_asked_is_parked() -> None:
    one = rig("a", "b")
    one.devices["a"].described = cast(dict[str, Point], None)
    async with one.running():
        await clock_of(one).advance(1.0)
        assert one.state("a") == "parked"
        assert one.state("b") == "up"


async def test_what_a_failed_open_had_acquired_is_released() -> None:
    one = rig("a")

    def refuse() -> None:
        raise DeviceUnavailable("the port is busy; stop who has it")

    one.devices["a"].on_open = refuse
    async with one.running():
        await clock_of(one).advance(3.0)
        one.devices["a"].on_open = lambda: None
        await clock_of(one).advance(10.0)
        assert one.state("a") == "up"
        calls = one.devices["a"].calls
        assert calls[:4] == ["open", "close", "open", "close"]
        assert calls.count("open") == calls.count("close") + 1


async def test_a_point_s_name_from_a_driver_cannot_carry_anything_odd() -> None:
    one = rig("a")
    one.devices["a"].act = lambda: [Sample(point="X/../<b>\n" + "y" * 500, value=1.0)]
    async with one.running():
        await clock_of(one).advance(1.0)
        assert set(one.image.snapshot()) == {"a.x_____b__" + "y" * 54}


async def test_status_is_plain_json_of_the_contract() -> None:
    one = rig("a")
    async with one.running():
        await clock_of(one).advance(2.5)
        status = one.status("a")
        assert (status["bus"], status["driver"], status["interval_s"]) == ("b", "sim", 1.0)
        assert (status["polls"], status["errors"], status["late"]) == (3, 0, 0)
        assert (status["last_error"], status["last_error_at"], status["next_retry_s"]) == ("", None, None)
        assert status["points"] == [
            {
                "series": "a.v",
                "unit": "°C",
                "decimals": 2,
                "value": 25.0,
                "quality": "good",
                "reason": "",
                "ts": "2026-01-01T00:00:02.000Z",
                "age_s": 0.5,
            }
        ]


def test_pauses_double_up_to_the_longest_and_differ() -> None:
    poll = PollConfig(retry_first_s=2.0, retry_max_s=60.0)
    for failures, middle_s in [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (500, 60.0)]:
        pauses = {retry_pause_s(failures, 10.0, poll) for _ in range(50)}
        assert len(pauses) > 10
        assert all(0.8 * middle_s <= pause <= 1.2 * middle_s for pause in pauses)
    assert retry_pause_s(1, 0.5, poll) <= 0.6, "no longer than the interval at first"


async def test_a_device_that_notices_a_change_is_read_at_once_and_its_ticks_stay() -> None:
    one = Rig(clock=SystemClock(), configs=[config("door", bus="b", interval_s=3600.0)])
    async with one.running():
        await until(lambda: len(one.devices["door"].read_at_ms) == 1)
        changed = one.devices["door"].on_change
        assert changed is not None
        await anyio.to_thread.run_sync(changed)  # as from the thread that watches the line
        await until(lambda: len(one.devices["door"].read_at_ms) == 2)
        next_s = one.status("door")["next_retry_s"]
        assert next_s is None or next_s > 1
