"""PCA9685 on a model of the chip: the right bits, no blink at a restart, and OE low only while all is well."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers import pca9685, smbus
from drivers.base import DeviceMisconfigured, DeviceUnavailable, HoldBy, Terms
from drivers.pca9685 import DRIVER, Pca9685, Pca9685Options, counts_in, counts_of, prescale_for
from edge.clock import FakeClock
from tests.drivers.fakes import FakeLines, Pca9685Bus
from tests.drivers.worlds import fake_i2c, fake_lines

OE = 5
MODE2 = 0x01


class Bench:
    """A chip on a bus, and a board beside it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.chip = Pca9685Bus()
        self.lines: FakeLines = fake_lines(monkeypatch)
        self.lines.pin(OE).move(True)
        fake_i2c(monkeypatch, self.chip)

    def channel(self, number: int = 0, safe: float = 0.0, **options: Any) -> Pca9685:
        return Pca9685(
            Pca9685Options.model_validate({"channel": number, "frequency_hz": 500, **options}),
            Terms(name=f"channel-{number}", safe=safe),
        )

    def opened(self, number: int = 0, safe: float = 0.0, **options: Any) -> Pca9685:
        output = self.channel(number, safe, **options)
        output.open()
        return output

    def new_process(self) -> None:
        self.lines.die()
        fake_i2c(self.monkeypatch, self.chip)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


@pytest.mark.parametrize(("frequency_hz", "prescale"), [(24, 253), (200, 30), (1000, 5), (1526, 3)])
def test_prescale_is_the_datasheet_s(frequency_hz: float, prescale: int) -> None:
    assert prescale_for(frequency_hz) == prescale


@given(st.floats(0, 1))
def test_counts_and_level_agree(level: float) -> None:
    counts = counts_of(level)
    assert 0 <= counts <= 4096
    assert abs(counts / 4096 - level) <= 0.5 / 4096


@pytest.mark.parametrize(
    ("on", "off", "counts"),
    [(0, 0x1000, 0), (0x1000, 0, 4096), (0x1000, 0x1000, 0), (0, 2048, 2048), (4000, 1000, 1096), (0, 0, 0)],
)
def test_registers_mean_what_the_datasheet_says(on: int, off: int, counts: int) -> None:
    assert counts_in(on, off) == counts


@pytest.mark.parametrize(
    ("level", "registers"),
    [(1.0, (0x1000, 0)), (0.0, (0, 0x1000)), (0.5, (0, 2048)), (1 / 4096, (0, 1)), (4095 / 4096, (0, 4095))],
)
def test_the_right_bits_are_written(bench: Bench, level: float, registers: tuple[int, int]) -> None:
    bench.opened(7).write(level)
    assert bench.chip.counts(7) == registers


def test_a_chip_after_power_up_is_set_up(bench: Bench) -> None:
    bench.opened()
    assert bench.chip.registers[0x00] == 0x20  # awake, auto-increment, deaf to 0x70
    assert bench.chip.registers[0x01] == 0x04
    assert bench.chip.registers[0xFE] == prescale_for(500)
    assert bench.chip.oscillator_stops == 0  # it slept anyway


def test_a_chip_that_runs_right_is_left_alone_by_the_next_process(bench: Bench) -> None:
    bench.opened(3).write(0.4)
    bench.new_process()
    bench.chip.writes.clear()
    output = bench.opened(3)
    assert bench.chip.writes == []
    assert output.read_back() == pytest.approx(0.4, abs=1 / 4096)
    output.write(0.4)
    assert bench.chip.writes == []
    output.write(0.5)
    assert len(bench.chip.writes) == 1


def test_the_next_process_may_write_at_once_what_stands_there_already(bench: Bench) -> None:
    bench.opened(3).write(0.4)
    bench.new_process()
    bench.chip.writes.clear()
    bench.opened(3).write(0.4)
    assert bench.chip.writes == []


def test_another_frequency_stops_the_oscillator_once_and_only_then(bench: Bench) -> None:
    bench.opened(3).write(0.4)
    bench.new_process()
    bench.opened(3, frequency_hz=1000)
    assert bench.chip.registers[0xFE] == prescale_for(1000)
    assert bench.chip.oscillator_stops == 1
    assert not bench.chip.registers[0x00] & 0x10


def test_each_channel_begins_safe_after_power_up_however_late_it_is_opened(bench: Bench) -> None:
    bench.opened(0)
    bench.opened(1, safe=0.75)
    assert bench.chip.output(1) == 0.75


def test_writing_the_same_again_costs_one_read_and_no_write(bench: Bench) -> None:
    output = bench.opened()
    output.write(0.3)
    bench.chip.writes.clear()
    for _ in range(5):
        output.write(0.3)
    assert bench.chip.writes == []


def test_a_chip_that_lost_its_power_is_noticed_by_a_refresh(bench: Bench) -> None:
    output = bench.opened()
    output.write(0.3)
    bench.chip.power_up()
    with pytest.raises(DeviceUnavailable, match="lost its power"):
        output.write(0.3)
    output.open()
    output.write(0.3)
    assert bench.chip.output(0) == pytest.approx(0.3, abs=1 / 4096)


def test_a_register_that_another_program_changed_is_read_back_and_put_right(bench: Bench) -> None:
    output = bench.opened()
    output.write(0.3)
    bench.chip.registers[0x06:0x0A] = bytes([0, 0, 0, 8])
    assert output.read_back() == 0.5
    output.write(0.3)
    assert bench.chip.output(0) == pytest.approx(0.3, abs=1 / 4096)


def test_an_inverted_channel(bench: Bench) -> None:
    output = bench.opened(inverted=True)
    assert bench.chip.output(0) == 1.0
    output.write(0.25)
    assert bench.chip.output(0) == 0.75
    assert output.read_back() == 0.25


def test_channels_of_a_chip_share_a_bus_and_must_agree(bench: Bench) -> None:
    one, other = bench.opened(0), bench.channel(1, frequency_hz=1000)
    assert one.bus == other.bus == "i2c-1"
    with pytest.raises(DeviceMisconfigured, match="frequency_hz"):
        other.open()


def test_when_all_channels_are_released_the_chip_may_get_another_frequency(bench: Bench) -> None:
    one = bench.opened(0)
    one.release()
    bench.opened(0, frequency_hz=1000)
    assert bench.chip.registers[0xFE] == prescale_for(1000)


def test_an_address_where_nobody_answers(bench: Bench) -> None:
    with pytest.raises(DeviceUnavailable, match="0x41"):
        bench.opened(address=0x41)


@pytest.mark.parametrize(
    "options",
    [{"address": 0x70}, {"address": 0x3F}, {"channel": 16}, {"frequency_hz": 23}, {"frequency_hz": 1527}],
)
def test_what_no_chip_can_do_is_refused_by_the_config(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Pca9685Options.model_validate({"channel": 0, **options})


def test_oe_goes_low_when_the_chip_is_well_and_every_channel_is_off(bench: Bench) -> None:
    for channel in range(16):
        bench.chip.registers[0x06 + 4 * channel : 0x0A + 4 * channel] = bytes([0, 0x10, 0, 0])
    bench.chip.registers[0x00] = 0x20
    bench.chip.registers[0xFE] = prescale_for(500)
    output = bench.opened(2, oe_pin=OE)
    assert output.hold_by is HoldBy.OE
    assert bench.lines.pin(OE).history == [True, False]
    assert all(bench.chip.output(channel) == 0.0 for channel in range(16))


def test_oe_stays_high_while_the_chip_does_not_answer(bench: Bench) -> None:
    bench.chip.gone = True
    output = bench.channel(2, oe_pin=OE)
    with pytest.raises(DeviceUnavailable):
        output.open()
    assert bench.lines.pin(OE).level
    bench.chip.gone = False
    output.open()
    assert not bench.lines.pin(OE).level


def test_oe_goes_high_when_a_chip_that_worked_cannot_be_reached_again(bench: Bench) -> None:
    output = bench.opened(2, oe_pin=OE)
    output.write(1.0)
    bench.chip.gone = True
    with pytest.raises(DeviceUnavailable):
        output.write(0.5)
    with pytest.raises(DeviceUnavailable):
        output.open()
    assert bench.lines.pin(OE).level


def test_a_hung_bus_is_cut_from_another_thread_and_taken_over_later(bench: Bench) -> None:
    one, other = bench.opened(2, oe_pin=OE), bench.opened(3, oe_pin=OE)
    one.write(1.0)
    bench.chip.hang = threading.Event()
    stuck = threading.Thread(target=one.write, args=(0.5,), daemon=True)
    stuck.start()
    assert bench.chip.hanging.wait(60)
    assert other.cut()
    assert bench.lines.pin(OE).level
    bench.chip.hang.set()
    stuck.join(10)
    bench.chip.hang = None
    with pytest.raises(DeviceUnavailable, match="OE"):
        one.write(1.0)
    one.open()
    assert not bench.lines.pin(OE).level
    assert bench.chip.output(2) == 0.0  # begins off, whatever stood there


def test_what_is_cut_at_the_end_of_an_open_stays_so_until_its_channels_are_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench.opened(2, oe_pin=OE)
    one.write(1.0)
    read = bench.chip.read_byte_data

    def cut_and_read(address: int, register: int) -> int:
        assert register != MODE2 or one.cut()  # as the bank does, once the call hangs
        return read(address, register)

    with monkeypatch.context() as hanging:
        hanging.setattr(bench.chip, "read_byte_data", cut_and_read)
        one.open()
    assert bench.chip.output(2) == 1.0
    assert bench.lines.pin(OE).level  # it stands where it stood
    with pytest.raises(DeviceUnavailable, match="OE"):
        one.write(1.0)
    one.open()
    assert bench.chip.output(2) == 0.0
    assert not bench.lines.pin(OE).level


def test_oe_is_let_go_with_the_last_channel(bench: Bench) -> None:
    one, other = bench.opened(2, oe_pin=OE), bench.opened(3, oe_pin=OE)
    one.release()
    assert not bench.lines.pin(OE).level
    other.release()
    assert bench.lines.pin(OE).level
    assert not bench.lines.pin(OE).output


def test_what_oe_cannot_hold_is_refused() -> None:
    behind_oe = Pca9685Options(channel=0, oe_pin=OE)
    assert "behind OE" in DRIVER.refuse(behind_oe, Terms(name="it", safe=1.0))
    assert DRIVER.refuse(behind_oe, Terms(name="it", safe=0.0)) == ""
    inverted = Pca9685Options(channel=0, oe_pin=OE, inverted=True)
    assert "inverted" in DRIVER.refuse(inverted, Terms(name="it"))


def test_channels_share_their_oe_and_nobody_else_does() -> None:
    one, other = (DRIVER.claims(Pca9685Options(channel=channel, oe_pin=OE)) for channel in (0, 1))
    assert not any(claim.clashes(against) for claim in one for against in other)
    elsewhere = DRIVER.claims(Pca9685Options(channel=0, address=0x41, oe_pin=OE))
    assert any(claim.clashes(against) for claim in one for against in elsewhere)


def test_what_it_loads_is_loaded_before_the_bus_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def library(name: str) -> None:
        loaded.append(name)
        if len(loaded) > 1:
            raise DeviceMisconfigured("it is not installed")

    monkeypatch.setattr(smbus, "library", library)
    options = Pca9685Options(channel=1)
    made = DRIVER.make(options, Terms(name="it"), FakeClock())
    assert loaded == list(pca9685.LIBRARIES)
    with pytest.raises(DeviceMisconfigured, match="not installed"):
        made.open()


def test_no_chip_is_remembered_after_its_release(bench: Bench) -> None:
    bench.opened(1).release()
    assert not pca9685._chips
