"""Derived points among real polled devices, in the config's checks and in the self-test."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Device, Quality
from drivers.derived import DRIVER
from edge.cli.polled import Polled
from edge.clock import SystemClock
from edge.config import Config
from edge.control.compile import compile_rules
from edge.control.simulated_site import Blend
from edge.drivermodel import flat_model
from edge.image import Reading
from edge.mistakes import ConfigInvalid
from edge.poll.config import DeviceCommon, make_device
from edge.settings import load
from tests.unit.poll_parts import Rig, config, is_bad, until, value

FAST_S = 0.1
SITE = """
[site]
name = "s"
[[devices]]
name = "left"
driver = "{driver}"
interval_s = 10
{left}
[[devices]]
name = "right"
driver = "{driver}"
interval_s = 10
{right}
[[devices]]
name = "water"
driver = "derived"
interval_s = 10
derive = {{ t = {{ how = "{how}", of = {of}, unit = "°C", decimals = 2 }} }}
"""
SIM: dict[str, Any] = {"driver": "sim", "left": "", "right": 'model = "probe"'}
BOTH = '["left.temperature", "right.temperature"]'


class Derivable(Rig):
    """Scripted devices, and the derived ones as they really are."""

    def _make(self, config: DeviceCommon, clock: Any) -> Device:
        return make_device(config, clock) if config.driver == "derived" else super()._make(config, clock)


def derived(name: str, how: str, *of: str, interval_s: float = FAST_S) -> DeviceCommon:
    table = {"t": {"how": how, "of": of, "unit": "°C"}}
    return flat_model(DeviceCommon, DRIVER, "Device").model_validate(
        {"name": name, "driver": "derived", "interval_s": interval_s, "timeout_s": 5.0, "derive": table}
    )


@pytest.mark.anyio
async def test_a_derived_point_is_in_the_image_and_stored_like_any_other() -> None:
    configs = [
        config("a", interval_s=FAST_S),
        config("b", interval_s=FAST_S),
        derived("d", "difference", "a.v", "b.v"),
    ]
    one = Derivable(clock=SystemClock(), configs=configs)
    one.devices["b"].act = lambda: value(24.0)
    async with one.running():
        await until(lambda: any(r.quality is Quality.GOOD for r in one.stored_of("d.t")))
        assert one.newest("d.t").value == 1.0
        assert one.newest("d.t").unit == "°C"
        first = next(r for r in one.stored_of("d.t") if r.quality is Quality.GOOD)
        inputs_s = [r.monotonic_s for r in (*one.stored_of("a.v"), *one.stored_of("b.v"))]
        assert any(0.0 <= at_s - first.monotonic_s < FAST_S / 2 for at_s in inputs_s), (
            "it is as old as its inputs"
        )
        one.devices["b"].act = one.devices["b"].gone
        await until(lambda: is_bad(one.newest("d.t"), "b.v: unavailable"))
        one.devices["b"].act = lambda: value(20.0)
        await until(lambda: one.newest("d.t").value == 5.0)


@pytest.mark.anyio
async def test_it_follows_its_inputs_at_once_whatever_its_own_interval() -> None:
    configs = [config("a", interval_s=FAST_S), config("b", interval_s=FAST_S)]
    configs += [
        derived("d", "first", "a.v", "b.v", interval_s=3600),
        derived("e", "sum", "d.t", "b.v", interval_s=3600),
    ]
    one = Derivable(clock=SystemClock(), configs=configs)
    one.devices["b"].act = lambda: value(24.0)
    async with one.running():
        await until(lambda: one.image.get("e.t") is not None and one.newest("e.t").value == 49.0)
        one.devices["a"].act = one.devices["a"].gone
        await until(lambda: one.newest("d.t").quality is Quality.ESTIMATED)
        assert (one.newest("d.t").value, one.newest("d.t").reason) == (24.0, "from b.v")
        await until(lambda: one.newest("e.t").value == 48.0)
        assert one.newest("e.t").quality is Quality.ESTIMATED
        assert one.newest("e.t").reason == "d.t: from b.v"


@pytest.mark.anyio
async def test_what_was_removed_is_followed_no_more() -> None:
    configs = [
        config("a", interval_s=FAST_S),
        config("b", interval_s=FAST_S),
        derived("d", "sum", "a.v", "b.v"),
    ]
    one = Derivable(clock=SystemClock(), configs=configs)
    async with one.running():
        await until(lambda: one.image.get("d.t") is not None)
        await one.poller.apply(configs[:2])
        assert one.image.get("d.t") is None
        reads = one.devices["a"].calls.count("read")
        await until(lambda: one.devices["a"].calls.count("read") > reads + 2)
        assert one.image.get("d.t") is None
        assert not any(one.poller._followers.values())
        await one.poller.apply(configs)
        await until(lambda: one.image.get("d.t") is not None and one.newest("d.t").value == 50.0)


def checked(tmp_path: Path, text: str) -> str:
    """What the config's check says."""
    path = tmp_path / "tidewatt.toml"
    path.write_text(text)
    try:
        load(path, Config)
    except ConfigInvalid as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (BOTH, ""),
        ('["left.temperature", "rihgt.temperature"]', 'there is no device "rihgt"; did you mean "right"?'),
        (
            '["left.temperature", "right.temprature"]',
            'has no point "temprature"; did you mean "temperature"?',
        ),
        ('["left.temperature", "water.t"]', "does not stand above"),
    ],
)
def test_inputs_are_checked_with_the_config(tmp_path: Path, of: str, words: str) -> None:
    found = checked(tmp_path, SITE.format(how="mean", of=of, **SIM))
    assert words in found
    assert bool(words) is bool(found)
    if words:
        assert "tidewatt.toml:18" in found, "it names the line of `derive`"


@pytest.mark.parametrize(
    ("right", "words"),
    [("enabled = false", "switched off"), ("", "")],
)
def test_an_input_that_is_switched_off(tmp_path: Path, right: str, words: str) -> None:
    site = SITE.format(how="sum", of=BOTH, **SIM | {"right": right})
    assert words in checked(tmp_path, site)


def test_it_may_not_be_polled_more_often_than_its_inputs(tmp_path: Path) -> None:
    site = SITE.format(how="sum", of=BOTH, **SIM).replace("interval_s = 10", "interval_s = 60", 1)
    assert "set interval_s of water to 60 or more" in checked(tmp_path, site)


PROBES = {
    "driver": "ds18b20",
    "left": 'address = "28-000000000001"',
    "right": 'address = "28-000000000002"\npoints.temperature = { high = 40.0 }',
}
HEATER = """
[[outputs]]
name = "heater"
driver = "sim"
kind = "heater"
safe = 0
power_w = 300
hold_s = 60
[[outputs.envelope.limits]]
series = "right.temperature"
above = 27.0
[[thermostats]]
name = "warm"
input = "water.t"
target = 25.5
heat = ["heater"]
"""


def polled(tmp_path: Path, how: str, more: str = "") -> tuple[Config, Polled]:
    path = tmp_path / "tidewatt.toml"
    path.write_text(SITE.format(how=how, of=BOTH, **PROBES) + more)
    site, _ = load(path, Config)
    return site, Polled(site)


def blended(believe: Polled, left: float, right: float, at_s: float, stuck: float = math.nan) -> Reading:
    """What the self-test's polling makes of both probes at a moment."""
    snapshot = {
        name: believe(name, value, round(at_s * 1000), at_s)
        for name, value in (("left.temperature", left), ("right.temperature", right))
    }
    believe.together(snapshot, {"water.t": (stuck,)}, at_s)
    return snapshot["water.t"]


@pytest.mark.parametrize(
    ("how", "needs", "alone"), [("mean", 2, None), ("median", 1, 25.0), ("first", 1, 25.0)]
)
def test_in_the_self_test_it_is_made_of_its_probes(
    tmp_path: Path, how: str, needs: int, alone: float | None
) -> None:
    _, believe = polled(tmp_path, how)
    assert believe.blends == {"water.t": Blend(of=("left.temperature", "right.temperature"), needs=needs)}
    assert blended(believe, 24.0, 26.0, 0.0).value == (24.0 if how == "first" else 25.0)
    assert blended(believe, 85.0, 25.0, 1.0).value == alone, "a sentinel does not reach it"
    assert blended(believe, 85.0, 50.0, 2.0).value is None, "nor what a probe's own range refuses"
    assert "left.temperature" in blended(believe, 85.0, 50.0, 2.0).reason


def test_in_the_self_test_a_fallback_is_used_for_what_stands_still(tmp_path: Path) -> None:
    _, believe = polled(tmp_path, "first")
    assert blended(believe, 25.5, 25.0, 0.0).stand_in == ""
    used = blended(believe, 25.5, 25.0, 1.0, stuck=25.5)
    assert (used.value, used.stand_in, used.quality) == (25.0, "right.temperature", Quality.ESTIMATED)
    assert blended(believe, 25.56, 25.0, 2.0, stuck=25.5).value == 25.56, "until it moves"


def test_a_difference_is_no_probe_s_value_in_the_self_test(tmp_path: Path) -> None:
    _, believe = polled(tmp_path, "difference")
    assert not believe.blends
    assert believe("water.t", 50.0, 0, 0.0).value == 50.0


def test_control_takes_it_for_stale_like_any_other_input(tmp_path: Path) -> None:
    site, _ = polled(tmp_path, "first", HEATER)
    assert compile_rules(site).max_age_s["water.t"] == 30.0
