"""Atlas EZO circuits on a model of their I2C mode."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from drivers import smbus
from drivers.base import DeviceMisconfigured, DeviceUnavailable, Quality
from drivers.ezo import Ezo, EzoOptions
from tests.drivers.i2c_bus import I2cBus, i2c_bus
from tests.drivers.i2c_models import EzoChip

SEA = {"EC": "53000", "TDS": "28600", "S": "34.90", "SG": "1.026"}


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> I2cBus:
    return i2c_bus(monkeypatch)


def device(kind: str, **options: Any) -> Ezo:
    return Ezo(EzoOptions.model_validate({"kind": kind, **options}))


def opened(kind: str, **options: Any) -> Ezo:
    found = device(kind, **options)
    found.open()
    return found


@pytest.mark.parametrize(
    ("kind", "address", "what", "text", "point"),
    [
        ("ph", 0x63, "pH", "8.214", "ph"),
        ("orp", 0x62, "ORP", "-312.4", "orp"),
        ("rtd", 0x66, "RTD", "25.104", "temperature"),
        ("ec", 0x64, "EC", SEA, "ec"),
    ],
)
def test_each_kind_at_its_own_address(
    bus: I2cBus, kind: str, address: int, what: str, text: Any, point: str
) -> None:
    bus.put(address, EzoChip(what, text))
    (sample,) = opened(kind).read()
    assert (sample.point, sample.quality) == (point, Quality.GOOD)
    assert sample.value == float(text if isinstance(text, str) else text["EC"])


def test_a_reading_is_compensated_for_the_temperature(bus: I2cBus) -> None:
    chip = bus.put(0x63, EzoChip("pH", "8.2"))
    opened("ph", temperature_c=19.5).read()
    assert chip.used_c == [19.5]
    assert chip.heard[-1] == "RT,19.50"


def test_an_old_firmware_is_compensated_in_two_steps(bus: I2cBus) -> None:
    chip = bus.put(0x63, EzoChip("pH", "8.2", old=True))
    circuit = opened("ph", temperature_c=19.5)
    began_s = bus.now_s
    assert circuit.read()[0].value == 8.2
    assert bus.now_s - began_s <= 2.11
    assert circuit.read()[0].value == 8.2
    assert chip.used_c == [19.5, 19.5]
    assert chip.heard == ["i", "RT,19.50", "T,19.50", "R", "T,19.50", "R"]


def test_the_outputs_come_in_the_circuit_s_order(bus: I2cBus) -> None:
    chip = bus.put(0x64, EzoChip("EC", SEA))
    chip.outputs = ["EC", "TDS", "S"]
    circuit = opened("ec", outputs=["gravity", "salinity"])
    assert [(sample.point, sample.value) for sample in circuit.read()] == [
        ("salinity", 34.9),
        ("gravity", 1.026),
    ]
    assert chip.outputs == ["EC", "TDS", "S", "SG"], "what others read of it stays on"
    assert list(circuit.points) == ["salinity", "gravity"]
    heard = len(chip.heard)
    opened("ec", outputs=["salinity"])
    assert not [command for command in chip.heard[heard:] if command.startswith("O,S")], "written once"


def test_an_output_that_cannot_be_switched_on_is_told(bus: I2cBus) -> None:
    chip = bus.put(0x64, EzoChip("EC", SEA))
    chip.locked = True
    with pytest.raises(DeviceUnavailable, match="does not switch on TDS; check its firmware"):
        opened("ec", outputs=["tds"])


def test_outputs_that_changed_behind_our_back_are_not_mixed_up(bus: I2cBus) -> None:
    chip = bus.put(0x64, EzoChip("EC", SEA))
    circuit = opened("ec", outputs=["ec", "salinity"])
    chip.outputs = ["EC", "TDS", "S"]
    assert [(sample.value, sample.reason) for sample in circuit.read()] == [(None, "text"), (None, "text")]


@pytest.mark.parametrize(("letter", "code"), list(zip("PSBWU", range(5), strict=True)))
def test_supply_and_the_reason_of_the_last_start(bus: I2cBus, letter: str, code: int) -> None:
    chip = bus.put(0x62, EzoChip("ORP", "300.0"))
    chip.status = f"?STATUS,{letter},3.29"
    samples = opened("orp", restarts=True).read()
    assert {sample.point: sample.value for sample in samples} == {
        "orp": 300.0,
        "supply": 3.29,
        "restart": code,
    }


@pytest.mark.parametrize("status", ["?STATUS,X,3.3", "?STATUS,P", "?STATUS,,3.3"])
def test_a_status_that_is_none_is_bad(bus: I2cBus, status: str) -> None:
    chip = bus.put(0x62, EzoChip("ORP", "300.0"))
    chip.status = status
    orp, supply, restart = opened("orp", restarts=True).read()
    assert orp.quality is Quality.GOOD
    assert supply.quality is restart.quality is Quality.BAD


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "no-value"), ("nan", "text"), ("8,2", "text"), ("*ER", "text"), ("8.2é", "text")],
)
def test_what_is_no_number_is_bad(bus: I2cBus, text: str, reason: str) -> None:
    chip = bus.put(0x63, EzoChip("pH", "8.2"))
    circuit = opened("ph")
    chip.reading = text
    (sample,) = circuit.read()
    assert (sample.value, sample.quality, sample.reason) == (None, Quality.BAD, reason)


def test_bits_that_a_pi_s_bus_turns_over_do_not_matter(bus: I2cBus, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = bus.put(0x63, EzoChip("pH", "8.214"))
    circuit = opened("ph")
    read = chip.read
    monkeypatch.setattr(
        chip, "read", lambda length: (told := read(length))[:1] + bytes(byte | 0x80 for byte in told[1:])
    )
    assert circuit.read()[0].value == 8.214


def test_an_rtd_without_its_probe_is_bad(bus: I2cBus) -> None:
    bus.put(0x66, EzoChip("RTD", "-1023.000"))
    (sample,) = opened("rtd").read()
    assert (sample.quality, sample.reason) == (Quality.BAD, "sentinel")


def test_another_scale_is_refused(bus: I2cBus) -> None:
    chip = bus.put(0x66, EzoChip("RTD", "77.000"))
    chip.scale = "f"
    with pytest.raises(DeviceMisconfigured, match="send it the command S,c once"):
        opened("rtd")


def test_a_slow_circuit_is_waited_for_and_a_hung_one_given_up(bus: I2cBus) -> None:
    chip = bus.put(0x63, EzoChip("pH", "8.2"))
    circuit = opened("ph")
    chip.slow_s = 0.4
    assert circuit.read()[0].value == 8.2
    chip.slow_s, began_s = 60.0, bus.now_s
    with pytest.raises(DeviceUnavailable, match=r"is not ready in time; check its supply .*'R'"):
        circuit.read()
    assert bus.now_s - began_s < 1.6


def test_one_that_started_anew_while_it_was_asked(bus: I2cBus, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = bus.put(0x63, EzoChip("pH", "8.2"))
    circuit = opened("ph")
    monkeypatch.setattr("drivers.i2c.pause", lambda _seconds: chip.power_up())
    with pytest.raises(DeviceUnavailable, match="started anew; check its supply"):
        circuit.read()


def test_another_circuit_at_the_address_is_called_by_its_name(bus: I2cBus) -> None:
    bus.put(0x63, EzoChip("ORP", "300"))
    with pytest.raises(
        DeviceUnavailable, match=r"answers '\?I,ORP,2.13', no EZO pH circuit; set kind or address"
    ):
        opened("ph")


def test_one_in_uart_mode_is_silent_and_the_message_says_so(bus: I2cBus) -> None:
    with pytest.raises(DeviceUnavailable, match=r"0x63 on I2C bus 1 .*UART mode: switch it to I2C"):
        opened("ph")


def test_the_bus_is_free_while_a_circuit_measures(bus: I2cBus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.put(0x63, EzoChip("pH", "8.2"))
    circuit = opened("ph")
    free: list[bool] = []

    def look(seconds: float) -> None:
        free.append(smbus.bus(1).try_lock())
        smbus.bus(1).unlock()
        bus.pass_s(seconds)

    monkeypatch.setattr("drivers.i2c.pause", look)
    circuit.read()
    assert free == [True]
    assert bus.now_s < 1.3, "0.3 s to open and 0.9 s to read"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "orp", "temperature_c": 20}, "orp is not compensated"),
        ({"kind": "ph", "outputs": ["tds"]}, "leave them out"),
        ({"kind": "ec", "outputs": ["tds", "tds"]}, "name each once"),
        ({"kind": "ec", "outputs": []}, "at least 1"),
        ({"kind": "do"}, "'ph', 'orp', 'ec' or 'rtd'"),
        ({}, "kind"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EzoOptions.model_validate(options)
