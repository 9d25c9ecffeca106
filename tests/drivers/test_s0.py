"""S0 pulses: no pulse lost, no bounce counted, the power right or bounded, noise refused, the count carried on."""

from __future__ import annotations

import os
import queue
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drivers import boards, edges
from drivers.base import DeviceUnavailable, Quality, Sample
from drivers.edges import Edge, KernelListener
from drivers.gpio import Pull
from drivers.s0 import S0Input, S0Options
from edge.clock import FakeClock, SystemClock
from edge.image import Image, Reading
from edge.poll.config import DeviceCommon, PointConfig, PollConfig
from edge.poll.device import Counters, PolledDevice, Surroundings
from edge.poll.runner import BusRunner
from edge.poll.totals import Totals
from edge.store import totals as stored_totals
from edge.store.config import StoreConfig
from edge.store.recorder import Recorder
from tests.drivers.edge_lines import NS_PER_MS, EdgeLines, fake_edges
from tests.stores import opened

PIN = 24
PATIENCE_S = 60.0
FAST: dict[str, Any] = {"max_w": 400_000.0, "pulse_min_ms": 2.0, "debounce_ms": 1.0}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> EdgeLines:
    return fake_edges(monkeypatch)


def meter(pin: int = PIN, imp_per_kwh: float = 1000.0, **options: Any) -> S0Input:
    device = S0Input(S0Options(pin=pin, imp_per_kwh=imp_per_kwh, **options), SystemClock())
    device.open()
    return device


def look(device: S0Input) -> dict[str, Sample]:
    return {sample.point: sample for sample in device.read()}


def count(device: S0Input) -> float | None:
    return look(device)["count"].value


# ---------------------------------------------------------------------------------------------- count and power


def test_power_is_what_the_time_between_pulses_says_and_energy_their_number(lines: EdgeLines) -> None:
    device = meter(imp_per_kwh=800.0)
    lines.pulses(PIN, 5, gap_ms=4500.0)
    found = look(device)
    assert found["power"].value == pytest.approx(1000.0)
    assert found["energy"].value == pytest.approx(5 / 800)
    assert found["count"].value == 5.0
    assert {sample.quality for sample in found.values()} == {Quality.GOOD}


def test_the_power_is_the_mean_of_the_pulses_since_the_last_look(lines: EdgeLines) -> None:
    device = meter()
    lines.pulses(PIN, 2, gap_ms=3600.0)
    assert look(device)["power"].value == pytest.approx(1000.0)
    lines.pulses(PIN, 9, gap_ms=1000.0)
    lines.pulses(PIN, 1, gap_ms=800.0)
    ten_gaps_s = 3.6 + 9 * 1.0
    assert look(device)["power"].value == pytest.approx(3600.0 * 10 / ten_gaps_s)


def test_the_power_of_a_meter_that_stops_decays_by_what_the_silence_leaves(lines: EdgeLines) -> None:
    device = meter()
    lines.pulses(PIN, 3, gap_ms=3600.0)
    assert look(device)["power"].value == pytest.approx(1000.0)
    lines.pass_ms(1800.0)
    within = look(device)["power"]
    assert within.value == pytest.approx(1000.0 / 1.5)
    assert within.quality is Quality.GOOD
    lines.pass_ms(9 * 3600.0)
    bound = look(device)["power"]
    assert bound.value == pytest.approx(1000.0 / 10.5)
    assert (bound.quality, bound.reason) == (Quality.ESTIMATED, "silence")
    lines.pass_ms(3600.0 * 100_000)
    assert look(device)["power"].value == pytest.approx(0.0, abs=0.02)
    assert look(device)["energy"].quality is Quality.GOOD


def test_before_two_pulses_there_is_no_power_but_soon_a_bound(lines: EdgeLines) -> None:
    device = meter()
    assert "power" not in look(device)
    lines.pass_ms(3600.0)
    power = look(device)["power"]
    assert power.value == pytest.approx(1000.0)
    assert (power.quality, power.reason) == (Quality.ESTIMATED, "silence")


def test_a_hundred_a_second_for_a_minute_and_none_is_lost(lines: EdgeLines) -> None:
    device = meter(**FAST)
    lines.late = True  # as those are that came since the thread's last look
    for second in range(60):
        lines.pulses(PIN, 100, width_ms=4.0, gap_ms=10.0)
        found = look(device)
        assert found["count"].value == 100.0 * (second + 1)
        assert found["power"].value == pytest.approx(360_000.0)
    assert look(device)["count"].quality is Quality.GOOD


def test_several_inputs_count_for_themselves(lines: EdgeLines) -> None:
    house, heat = meter(), meter(pin=25, imp_per_kwh=2000.0, pull="external")
    lines.pulses(PIN, 3)
    lines.pulses(25, 4)
    assert (count(house), count(heat)) == (3.0, 4.0)
    assert look(heat)["energy"].value == pytest.approx(0.002)
    assert lines.pulls == {PIN: Pull.UP, 25: Pull.EXTERNAL}


def test_a_line_that_is_high_during_the_pulse(lines: EdgeLines) -> None:
    lines.high[PIN] = False
    device = meter(active_low=False, pull="down")
    lines.pulses(PIN, 3)
    assert count(device) == 3.0


# ---------------------------------------------------------------------------------------------- bad contacts


def test_a_contact_that_bounces_at_both_ends_gives_one_pulse(lines: EdgeLines) -> None:
    device, chance = meter(), random.Random(1)
    for _ in range(100):
        bounces = [chance.uniform(0.01, 4.9) for _ in range(6)]
        lines.toggle(PIN, *bounces, 30.0, *bounces[:4], 1000.0)
    assert count(device) == 100.0


def test_spikes_are_no_pulses_and_do_not_add_up_to_one(lines: EdgeLines) -> None:
    device = meter()
    lines.toggle(PIN, *(0.2, 3.0) * 50, 0.2, 1000.0)  # 51 x 0.2 ms in rests that are bounces
    lines.toggle(PIN, *(19.0, 100.0) * 50)
    assert count(device) == 0.0
    lines.pulses(PIN, 1, width_ms=20.0)
    assert count(device) == 1.0


def test_a_rest_as_long_as_the_debounce_parts_two_pulses(lines: EdgeLines) -> None:
    device = meter()
    lines.toggle(PIN, 30.0, 4.9, 30.0, 5.0, 30.0, 1000.0)
    assert count(device) == 2.0


def test_noise_beyond_what_the_meter_can_give_is_not_counted_and_said(lines: EdgeLines) -> None:
    device = meter(max_w=10_000.0)
    lines.pulses(PIN, 20, gap_ms=400.0)
    assert count(device) == 20.0
    lines.pulses(PIN, 500, gap_ms=50.0)
    found = look(device)
    assert {(sample.quality, sample.reason) for sample in found.values()} == {(Quality.BAD, "burst")}
    noise = (found["count"].value or 0.0) - 20.0
    assert noise <= 10
    lines.pulses(PIN, 20, gap_ms=400.0)
    assert look(device)["count"].quality is Quality.BAD
    lines.pulses(PIN, 1, gap_ms=400.0)
    after = look(device)
    assert (after["count"].quality, after["count"].reason) == (Quality.ESTIMATED, "burst")
    assert after["power"].value == pytest.approx(9000.0)  # the time of the noise is not in it
    lines.pulses(PIN, 10, gap_ms=400.0)
    calm = look(device)
    assert calm["count"].quality is Quality.GOOD
    assert calm["power"].value == pytest.approx(9000.0)


def test_the_power_after_noise_is_not_measured_across_it(lines: EdgeLines) -> None:
    device = meter(max_w=10_000.0)
    lines.pulses(PIN, 500, gap_ms=50.0)
    look(device)
    lines.pass_ms(60_000.0)
    lines.pulses(PIN, 1)
    power = look(device)["power"]
    assert (power.quality, power.reason) == (Quality.ESTIMATED, "silence")


def test_two_pulses_at_once_as_meters_send_them_are_no_noise(lines: EdgeLines) -> None:
    device = meter(max_w=10_000.0)
    for _ in range(50):
        lines.toggle(PIN, 30.0, 30.0, 30.0, 830.0)
    assert look(device)["count"] == Sample(point="count", value=100.0)


def test_edges_that_the_kernel_lost_make_the_count_estimated_once(lines: EdgeLines) -> None:
    device = meter()
    lines.pulses(PIN, 3)
    lines.deliver(PIN, [], lost=4)
    assert look(device)["energy"].reason == "edges-lost"
    assert look(device)["energy"].quality is Quality.GOOD


def test_an_edge_without_its_other_half_neither_counts_nor_confuses(lines: EdgeLines) -> None:
    device = meter()
    now_ns = lines.now_ns
    found = [Edge(now_ns + at_ms * NS_PER_MS, high) for at_ms, high in
             ((0, False), (10, False), (30, True), (40, True), (1000, False), (1030, True))]  # fmt: skip
    lines.deliver(PIN, found)
    assert count(device) == 2.0


def test_a_pulse_that_runs_while_the_line_is_opened_counts_at_its_end(lines: EdgeLines) -> None:
    lines.high[PIN] = False
    device = meter()
    lines.pass_ms(25.0)
    lines.toggle(PIN, 1000.0)
    assert count(device) == 1.0


def test_opened_again_it_counts_on_and_says_that_it_did_not_listen(lines: EdgeLines) -> None:
    device = meter()
    lines.pulses(PIN, 3)
    device.close()
    lines.pulses(PIN, 2)
    device.open()
    found = look(device)
    assert (found["count"].value, found["count"].reason) == (3.0, "reopened")
    assert "power" not in found
    lines.pulses(PIN, 1)
    assert look(device)["count"] == Sample(point="count", value=4.0)


def test_what_leaves_no_room_for_its_pulses_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValidationError, match="lower max_w"):
        S0Options(pin=PIN, imp_per_kwh=10_000, max_w=25_000)


# ------------------------------------------------------------------------------------------ restart and crash


class Daemon:
    """One run of a daemon with one meter: polls, and flushes when told."""

    def __init__(self, clock: FakeClock, totals: Totals, **point: Any) -> None:
        self.readings: list[Reading] = []
        points = {"energy": PointConfig(**point)} if point else {}
        self.polled = PolledDevice(
            config=DeviceCommon(name="house", driver="s0", points=points),
            device=S0Input(S0Options(pin=PIN, imp_per_kwh=1000), clock),
            around=Surroundings(
                clock=clock, image=Image(), record=self.readings.append, on_event=lambda *_: None,
                poll=PollConfig(), total=Counters(), totals=totals,
            ),
        )  # fmt: skip
        self.runner = BusRunner("gpio", clock)

    async def poll(self, clock: FakeClock) -> dict[str, Reading]:
        clock.pass_s(10.0)
        self.readings.clear()
        await self.polled.poll(self.runner.bus, clock.now_ms(), 0.0)
        return {reading.series.partition(".")[2]: reading for reading in self.readings}

    async def die(self) -> None:
        """kill -9, as far as the kernel sees it: the line is let go."""
        await self.polled.close(self.runner.bus)
        self.runner.bus.close()


@pytest.mark.anyio
async def test_killed_it_goes_on_with_what_the_last_flush_had(tmp_path: Path, lines: EdgeLines) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock) as store:
        config = StoreConfig.model_validate({"path": str(store.path)})
        kept = Totals()
        kept.load(await stored_totals.load(store))
        recorder = Recorder(store, config, clock)
        recorder.on_flush.append(lambda tx: stored_totals.save(tx, kept.all()))
        daemon = Daemon(clock, kept)
        await daemon.poll(clock)
        for pulses in (4, 3):
            lines.pulses(PIN, pulses)
            for reading in (await daemon.poll(clock)).values():
                recorder.put(reading)
            await recorder.flush()
        lines.pulses(PIN, 2)
        await daemon.poll(clock)  # never flushed
        await daemon.die()

        anew = Totals()
        anew.load(await stored_totals.load(store))
        second = Daemon(clock, anew)
        found = await second.poll(clock)
        assert (found["count"].value, found["energy"].value) == (7.0, 0.007)
        assert (found["count"].quality, found["count"].reason) == (Quality.ESTIMATED, "restarted")
        lines.pulses(PIN, 3)
        found = await second.poll(clock)
        assert (found["count"].value, found["energy"].value) == (10.0, 0.01)
        assert found["count"].quality is Quality.GOOD
        await second.die()


@pytest.mark.anyio
async def test_a_changed_config_makes_a_new_device_and_the_total_goes_on(lines: EdgeLines) -> None:
    clock, totals = FakeClock(), Totals()
    totals.load({})
    for run in range(1, 4):
        daemon = Daemon(clock, totals, offset=12_345.0)
        await daemon.poll(clock)
        lines.pulses(PIN, 5)
        found = await daemon.poll(clock)
        assert (found["count"].value, found["energy"].value) == (5.0 * run, 12_345.0 + 0.005 * run)
        await daemon.die()


@pytest.mark.anyio
async def test_while_it_is_not_known_what_was_there_the_total_is_bad_and_nothing_is_lost(
    lines: EdgeLines,
) -> None:
    clock, totals = FakeClock(), Totals()
    daemon = Daemon(clock, totals)
    found = (await daemon.poll(clock))["count"]
    lines.pulses(PIN, 5)
    await daemon.poll(clock)
    assert (found.value, found.quality, found.reason) == (None, Quality.BAD, "total-unknown")
    totals.load({"house.count": 100.0})
    assert (await daemon.poll(clock))["count"].value == 105.0
    await daemon.die()


# ------------------------------------------------------------------------------------------- the kernel's bytes


def event(at_ns: int, *, rising: bool, number: int) -> bytes:
    return struct.pack("=QIIII24x", at_ns, 1 if rising else 2, PIN, number, number)


def test_the_kernels_events_become_edges_and_their_numbers_tell_what_was_lost() -> None:
    told: queue.Queue[tuple[list[Edge], int]] = queue.Queue()
    reading, writing = os.pipe()
    listener = KernelListener(reading, PIN, lambda found, lost: told.put((list(found), lost)), SystemClock())
    os.write(writing, event(1_000, rising=False, number=1) + event(2_000, rising=True, number=2))
    assert told.get(timeout=PATIENCE_S) == ([Edge(1_000, False), Edge(2_000, True)], 0)
    os.write(writing, event(9_000, rising=False, number=7))
    assert told.get(timeout=PATIENCE_S) == ([Edge(9_000, False)], 4)
    os.write(writing, event(9_500, rising=True, number=8))
    listener.tell_waiting()
    assert told.get_nowait() == ([Edge(9_500, True)], 0)
    listener.close()
    listener.close()
    os.close(writing)
    with pytest.raises(DeviceUnavailable, match="check"):
        listener.level()


def test_the_requests_are_as_long_as_the_kernel_s() -> None:
    """linux/gpio.h: 592, 16 and 48 bytes, which the calls' own numbers repeat."""
    assert (edges.REQUEST.size, edges.VALUES.size, edges.EVENT.size) == (592, 16, 48)
    assert edges.REQUEST.size == (edges.GET_LINE_IOCTL >> 16) & 0x3FFF
    assert edges.VALUES.size == (edges.GET_VALUES_IOCTL >> 16) & 0x3FFF


def test_without_a_chip_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "find_chip", lambda: None)
    with pytest.raises(DeviceUnavailable, match="group gpio"):
        meter()
