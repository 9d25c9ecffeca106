"""Other settings of a device's points, a new calibration above all: it runs on, and its other points undisturbed."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.base import Kind, Point, Sample
from edge.clock import SystemClock
from edge.poll.calibration import of_offset
from edge.poll.config import DeviceCommon
from edge.poll.point import NO_SUCH_POINT
from edge.poll.poller import diff
from edge.poll.totals import Totals
from tests.unit.poll_parts import Rig, config, until

HOURLY_S = 3600.0


def tank(**points: dict[str, Any]) -> DeviceCommon:
    return config("tank", interval_s=HOURLY_S, points=points)


def rig(*more: DeviceCommon, **points: dict[str, Any]) -> Rig:
    """A device with a pH and a temperature, read hourly: what comes sooner was hurried."""
    one = Rig(clock=SystemClock(), configs=[tank(**points), *more])
    device = one.devices["tank"]
    device.described = {"ph": Point(unit="pH", decimals=2), "t": Point(unit="°C", decimals=1)}
    device.act = lambda: [Sample(point="ph", value=8.0), Sample(point="t", value=25.0)]
    return one


def test_settings_of_points_alone_stop_and_start_nothing() -> None:
    old, new = tank(ph={"offset": 0.5}), tank(ph={"offset": 0.6}, t={"low": 1.0})
    assert diff([old, config("a")], [new, config("a")]).retune == (new,)
    assert (diff([old], [new]).stop, diff([old], [new]).start) == ((), ())
    slower = config("tank", interval_s=60.0, points={"ph": {"offset": 0.6}})
    assert (diff([old], [slower]).stop, diff([old], [slower]).start) == (("tank",), (slower,))
    assert diff([old], [slower]).retune == ()


@pytest.mark.anyio
async def test_a_new_calibration_leaves_the_other_points_where_they_are() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.t") is not None)
        kept = one.newest("tank.t")
        await one.poller.apply([tank(ph={"offset": -0.5})])
        assert one.newest("tank.t") is kept, "control has it at every moment"
        await until(lambda: one.newest("tank.ph").value == 7.5)
        assert one.newest("tank.ph").calibration == of_offset(-0.5).id
        assert one.devices["tank"].calls.count("open") == 1
        assert "close" not in one.devices["tank"].calls
        assert one.made == ["tank"]
        assert one.poller.calibrations().keys() == {of_offset(-0.5).id}
        await one.poller.apply([tank()])
        await until(lambda: one.newest("tank.ph").value == 8.0)
        assert one.poller.calibrations() == {}


@pytest.mark.anyio
async def test_a_doubt_of_another_point_goes_on_and_its_own_begins_anew() -> None:
    settings = {"low": 20.0, "high": 30.0, "confirm": 1000}
    async with rig(t=settings, ph=settings).running() as one:
        await until(lambda: one.image.get("tank.t") is not None)
        one.devices["tank"].act = lambda: [Sample(point="ph", value=25.0), Sample(point="t", value=40.0)]
        one.poller.hurry("tank")
        await until(lambda: one.newest("tank.t").reason == "range")
        assert one.newest("tank.ph").reason == "unconfirmed"  # it was 8.0, and asks for 1000 that agree
        one.devices["tank"].act = lambda: [Sample(point="ph", value=25.0), Sample(point="t", value=25.0)]
        await one.poller.apply([tank(t=settings, ph={"offset": 0.1})])
        await until(lambda: one.newest("tank.ph").value == 25.1)
        assert one.newest("tank.ph").reason == ""
        assert one.newest("tank.t").reason == "unconfirmed"


@pytest.mark.anyio
async def test_what_stands_in_is_another() -> None:
    others = [config(name, interval_s=0.1) for name in ("b", "c")]
    async with rig(*others, ph={"fallback": "b.v"}).running() as one:
        for name in ("b", "c"):
            one.devices[name].described = {"v": Point(unit="pH", decimals=2)}
        one.devices["tank"].act = lambda: [Sample(point="t", value=25.0), Sample(point="ph", value=None)]

        def stands_in(series: str) -> bool:
            found = one.image.get("tank.ph")
            return found is not None and found.stand_in == series

        await until(lambda: stands_in("b.v"))
        await one.poller.apply([tank(ph={"fallback": "c.v"}), *others])
        await until(lambda: stands_in("c.v"))
        await one.poller.apply([tank(), *others])
        await until(lambda: one.newest("tank.ph").value is None)


@pytest.mark.anyio
async def test_a_total_is_counted_once() -> None:
    one = rig()
    one.poller._around.totals = totals = Totals()  # as the daemon gives it
    totals.load({"tank.count": 100.0})
    device = one.devices["tank"]
    device.described = {"count": Point(unit="", decimals=0, kind=Kind.REGISTER, volatile=True)}
    device.act = lambda: [Sample(point="count", value=5.0)]
    async with one.running():
        await until(lambda: one.image.get("tank.count") is not None)
        assert one.newest("tank.count").value == 105.0
        before = one.newest("tank.count")
        await one.poller.apply([tank(count={"silence_max_s": 60.0})])
        await until(lambda: one.newest("tank.count") is not before)
        assert one.newest("tank.count").value == 105.0


@pytest.mark.anyio
async def test_a_point_that_the_device_does_not_have_comes_and_goes() -> None:
    async with rig().running() as one:
        await until(lambda: one.state("tank") == "up")
        await one.poller.apply([tank(salt={"offset": 1.0})])
        assert one.newest("tank.salt").reason == NO_SUCH_POINT
        await one.poller.apply([tank()])
        assert one.image.get("tank.salt") is None


@pytest.mark.anyio
async def test_a_device_that_is_down_goes_by_it_when_it_is_up_again() -> None:
    one = rig()
    device = one.devices["tank"]
    act, device.act = device.act, device.gone
    async with one.running():
        await until(lambda: one.state("tank") == "failing")
        await one.poller.apply([tank(ph={"offset": -0.5})])
        assert one.newest("tank.t").reason == "unavailable"
        device.act = act
        await until(lambda: one.newest("tank.ph").value == 7.5)
