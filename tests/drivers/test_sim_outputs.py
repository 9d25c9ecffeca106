"""Simulated outputs and the plant they drive, with every way to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from drivers import plant
from drivers.base import DeviceUnavailable, HoldBy, Terms
from drivers.plant import OutputFault, Plant
from drivers.sim import SimOptions
from drivers.sim_outputs import SimOutput, SimOutputOptions

SITE = "sim-outputs-test"


@pytest.fixture
def site() -> Iterator[Plant]:
    plant.forget(SITE)
    yield plant.plant(SITE)
    plant.forget(SITE)


def output(safe: float = 0.0, **options: Any) -> SimOutput:
    return SimOutput(SimOutputOptions(plant=SITE, **options), Terms(name="heater", safe=safe))


def test_the_part_is_the_output_s_name_unless_it_is_said(site: Plant) -> None:
    output(safe=1.0).open()
    output(safe=1.0, part="return").open()
    assert site.parts() == ("heater", "return")
    assert site.level("heater") == site.level("return") == 1.0


def test_a_relay_knows_on_and_off_a_dimmer_all_between(site: Plant) -> None:
    relay, dimmer = output(part="air"), output(part="light", dimmable=True)
    relay.write(0.7)
    dimmer.write(0.7)
    assert (site.level("air"), site.level("light")) == (1.0, 0.7)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("heatr", "did you mean heater?"),
        ("heater-cutof", "did you mean heater-cutoff?"),
        ("skimmer", "there are heater, return, air, light, chiller, topoff, and heater-cutoff"),
    ],
)
@pytest.mark.parametrize("model", [SimOutputOptions, SimOptions])
def test_a_part_that_would_silently_do_nothing_is_refused(
    model: type[SimOutputOptions | SimOptions], part: str, said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        model(part=part)
    assert f'part = "{part}" moves and draws nothing; {said}' in str(refused.value)


@pytest.mark.parametrize("part", ["heater", "heater-cutoff", "topoff", "return", "air", "light", "chiller"])
def test_the_parts_there_are(part: str) -> None:
    assert SimOutputOptions(part=part).part == SimOptions(part=part).part == part


@pytest.mark.parametrize(
    ("fault", "before", "command", "flows", "said"),
    [
        (OutputFault.STUCK, 0.0, 1.0, 0.0, 0.0),
        (OutputFault.STUCK, 1.0, 0.0, 1.0, 1.0),
        (OutputFault.WELDED, 1.0, 0.0, 1.0, 0.0),
        (OutputFault.WELDED, 0.0, 0.0, 0.0, 0.0),
        (OutputFault.DEAD, 1.0, 1.0, 0.0, 1.0),
        (OutputFault.NONE, 1.0, 0.0, 0.0, 0.0),
    ],
)
def test_faults_that_a_command_does_not_notice(
    site: Plant, fault: OutputFault, before: float, command: float, flows: float, said: float
) -> None:
    it = output()
    it.write(before)
    site.fail("heater", fault)
    it.write(command)
    assert site.level("heater") == flows
    assert it.read_back() == said
    site.fail("heater", OutputFault.NONE)
    assert site.level("heater") == command


def test_a_contact_that_welds_while_it_is_open_welds_when_it_closes(site: Plant) -> None:
    it = output()
    site.fail("heater", OutputFault.WELDED)
    for level, flows in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0)):
        it.write(level)
        assert site.level("heater") == flows


def test_one_that_refuses(site: Plant) -> None:
    it = output(fault="refuse")
    with pytest.raises(DeviceUnavailable):
        it.open()
    site.fail("heater", OutputFault.NONE)
    it.open()
    it.write(1.0)
    assert site.level("heater") == 1.0


def test_one_that_hangs_goes_on_when_it_is_repaired(site: Plant) -> None:
    it = output()
    site.fail("heater", OutputFault.HANG)
    stuck = threading.Thread(target=it.write, args=(1.0,), daemon=True)
    stuck.start()
    assert site.level("heater") == 0.0
    it.release()  # never hangs
    site.fail("heater", OutputFault.NONE)
    stuck.join(60)
    assert not stuck.is_alive()
    assert site.level("heater") == 1.0


def test_a_slow_one_gets_there(site: Plant) -> None:
    it = output(fault="slow", slow_s=0.001)
    it.open()
    it.write(1.0)
    assert site.level("heater") == 1.0


def test_history_has_each_level_once(site: Plant) -> None:
    it = output()
    it.open()
    for level in (0.0, 1.0, 1.0, 0.0):
        it.write(level)
    assert site.history("heater") == (0.0, 1.0, 0.0)


def test_options_say_who_holds_it_and_where_it_is(site: Plant) -> None:
    it = output(held_by="nobody", network=True, bus="far")
    assert (it.hold_by, it.local, it.bus) == (HoldBy.NOBODY, False, "far")
