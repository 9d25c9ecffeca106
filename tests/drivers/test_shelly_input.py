"""What a Shelly measures, against a server that answers as the documentation says."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.base import DeviceMisconfigured, DeviceUnavailable, Kind, Quality
from drivers.shelly_input import Measure, ShellyInput, ShellyInputOptions
from edge.clock import FakeClock
from tests.drivers.shelly_models import FakeShelly, shelly


def device(fake: FakeShelly, **options: Any) -> ShellyInput:
    parsed = ShellyInputOptions.model_validate({"host": "127.0.0.1", "port": fake.port, **options})
    return ShellyInput(parsed, FakeClock())


def values(fake: FakeShelly, **options: Any) -> dict[str, float | None]:
    it = device(fake, reads=list(Measure), **options)
    it.open()
    samples = it.read()
    assert all((sample.quality is Quality.GOOD) is (sample.value is not None) for sample in samples)
    assert {sample.reason for sample in samples if sample.value is None} <= {"no-value"}
    return {sample.point: sample.value for sample in samples if sample.value is not None}


@pytest.mark.parametrize(
    ("generation", "channel", "found"),
    [
        (1, 0, {"power": -642.1, "energy": 12345.6, "returned": 98765.4, "voltage": 231.4, "temperature": 24.75,
                "input": 0.0}),
        (1, 1, {"power": 298.5, "energy": 10.0, "input": 1.0}),
        (2, 0, {"power": 298.5, "energy": 4567.89, "voltage": 230.2, "current": 1.3, "temperature": 24.8,
                "input": 1.0}),
        (2, 1, {"power": -1203.4, "energy": 100_200.5, "returned": 7.25, "current": 5.4}),
        (2, 5, {}),
    ],
)  # fmt: skip
def test_each_generation_has_its_places(generation: int, channel: int, found: dict[str, float]) -> None:
    with shelly(generation) as fake:
        assert values(fake, channel=channel) == found


@pytest.mark.parametrize("generation", [1, 2])
def test_reading_switches_nothing_and_sets_nothing(generation: int) -> None:
    with shelly(generation) as fake:
        values(fake)
        assert (fake.clicks, fake.flash_writes) == (0, 0)
        assert all(path in ("/shelly", "/status", "/rpc/Shelly.GetStatus") for path in fake.asked)


@pytest.mark.parametrize("generation", [1, 2])
def test_its_password_is_used_and_a_wrong_one_told(generation: int) -> None:
    with shelly(generation, "reef tank") as fake:
        assert "power" in values(fake, password="reef tank")
        it = device(fake, password="wrong")
        it.open()
        with pytest.raises(DeviceMisconfigured, match="password"):
            it.read()


def test_one_that_talks_nonsense_is_unavailable() -> None:
    with shelly(2) as fake:
        it = device(fake)
        it.open()
        fake.mood = "garbage"
        with pytest.raises(DeviceUnavailable, match="is no Shelly"):
            it.read()


@pytest.mark.parametrize("generation", [1, 2])
def test_one_that_starts_after_a_power_cut_is_no_mistake_in_the_config(generation: int) -> None:
    with shelly(generation) as fake:
        it = device(fake)
        fake.mood = "starting"
        with pytest.raises(DeviceUnavailable, match="answers, but knows no"):
            it.open()
        fake.heal()
        it.open()
        fake.mood = "starting"
        with pytest.raises(DeviceUnavailable, match="answers, but knows no"):
            it.read()
        fake.heal()
        assert len(it.read()) == 2


def test_energy_is_a_register() -> None:
    with shelly(2) as fake:
        assert device(fake).points["energy"].kind is Kind.REGISTER
