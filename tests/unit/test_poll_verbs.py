"""Calibrating through a real poller: the image, the journal, a slow device read sooner, a reload in the middle."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Kind, Point, Quality, Sample
from edge.clock import SystemClock
from edge.image import CALIBRATING
from edge.local import LocalRefused, Peer
from edge.poll.calibration import of_pairs
from edge.poll.verbs import CalibrateVerbs
from tests.unit.poll_parts import Rig, config, until

pytestmark = pytest.mark.anyio
ME = Peer(pid=os.getpid(), uid=os.geteuid(), gid=os.getegid())
PAIRS = ((7.1, 7.0), (9.8, 10.0))


def rig(**fields: Any) -> Rig:
    """A device `tank` with a pH and a temperature, hourly: what comes sooner was hurried."""
    one = Rig(clock=SystemClock(), configs=[config("tank", interval_s=3600.0, **fields), config("other")])
    tank = one.devices["tank"]
    tank.described = {
        "ph": Point(unit="pH", decimals=2, low=0.0, high=14.0),
        "t": Point(unit="°C", decimals=1),
    }
    tank.act = lambda: [Sample(point="ph", value=8.123), Sample(point="t", value=25.0)]
    return one


class Verbs(CalibrateVerbs):
    """The verbs with what they are told and what they note."""

    def __init__(self, one: Rig) -> None:
        self.events: list[tuple[str, str, Mapping[str, Any]]] = []
        self.asked: Collection[str] = ()

        def goes_by(series: Collection[str]) -> list[dict[str, Any]]:
            self.asked = series
            return [{"output": "heater", "safe": 0.0}]

        async def keep() -> bool:
            return True

        super().__init__(
            one.poller, one.image, one.clock,
            lambda kind, subject, _severity, body: self.events.append((kind, subject, body or {})),
            file=lambda: (Path("config.toml"), "5"), goes_by=goes_by, reload="kill -HUP 5",
            keep=keep,
        )  # fmt: skip

    async def begun(self, **args: Any) -> dict[str, Any]:
        """Of tank.ph, with what was told."""
        return dict(await self.begin({"series": "tank.ph"} | args, ME))


async def test_what_the_point_is() -> None:
    async with rig(points={"ph": {"points": PAIRS}}).running() as one:
        await until(lambda: one.image.get("tank.ph") is not None)
        told = await Verbs(one).info({"series": "tank.ph"}, ME)
    assert told["calibration"] == {"id": of_pairs(PAIRS).id, "pairs": PAIRS}
    assert (told["unit"], told["decimals"], told["quality"], told["driver"]) == ("pH", 2, "good", "sim")
    assert told["value"] == pytest.approx(of_pairs(PAIRS).true(8.123), abs=0.01)
    assert told["marked"] == ["tank.ph", "tank.t"]
    assert told["goes_by"] == [{"output": "heater", "safe": 0.0}]
    assert Path(told["file"]).is_absolute()


async def test_it_is_bad_at_once_and_read_sooner_and_counts_again_at_the_end() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.t") is not None)
        verbs, reads = Verbs(one), len(one.devices["tank"].read_at_ms)
        token = (await verbs.begun(why="spring"))["token"]
        for series in ("tank.ph", "tank.t"):
            assert (one.newest(series).quality, one.newest(series).reason) == (Quality.BAD, CALIBRATING)
        await until(lambda: len(one.devices["tank"].read_at_ms) > reads)
        await until(lambda: one.stored_of("tank.ph")[-1].reason == CALIBRATING)

        async def looked() -> list[Any]:
            return list((await verbs.look({"series": "tank.ph", "token": token, "after": 0}, ME))["samples"])

        (sample, *_) = await looked()
        assert (sample["n"], sample["raw"]) == (1, 8.123)
        assert await verbs.end({"series": "tank.ph", "token": token, "outcome": "stored"}, ME) == {
            "ended": True
        }
        await until(lambda: one.newest("tank.ph").quality is Quality.GOOD)
        await until(lambda: one.newest("tank.t").quality is Quality.GOOD)
        kinds = [(kind, subject) for kind, subject, _ in verbs.events]
        assert kinds == [("calibration-begun", "tank.ph"), ("calibration-ended", "tank.ph")]
        assert verbs.events[0][2]["why"] == "spring"
        assert verbs.events[0][2]["who"]


async def test_alone() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.t") is not None)
        await Verbs(one).begun(alone=True)
        assert one.newest("tank.ph").quality is Quality.BAD
        assert one.newest("tank.t").quality is Quality.GOOD


async def test_only_what_is_in_one_body_with_it_leaves_its_place() -> None:
    one = rig()
    one.devices["tank"].described |= {
        "salt": Point(unit="PSU"),
        "sump": Point(unit="°C", apart=True),
        "supply": Point(unit="V", apart=True),
        "energy": Point(unit="kWh", kind=Kind.REGISTER),
    }
    async with one.running():
        await until(lambda: one.image.get("tank.ph") is not None)
        verbs = Verbs(one)

        async def marked(point: str) -> list[str]:
            return list((await verbs.info({"series": f"tank.{point}"}, ME))["marked"])

        assert await marked("ph") == ["tank.ph", "tank.salt", "tank.t"]
        assert await marked("sump") == ["tank.sump"]


async def test_what_stands_in_for_it_counts_at_once_and_its_outputs_are_not_told_to_stop() -> None:
    async with rig(points={"ph": {"fallback": "other.v"}}).running() as one:
        one.devices["other"].described = {"v": Point(unit="pH", decimals=2)}
        await until(lambda: one.image.get("tank.ph") is not None and one.image.get("other.v") is not None)
        verbs = Verbs(one)
        assert (await verbs.info({"series": "tank.ph", "alone": True}, ME))["goes_by"]
        assert verbs.asked == set()
        await verbs.begun(alone=True)
        assert one.newest("tank.ph").stand_in == "other.v"


async def test_whoever_looks_after_a_restart_has_to_begin_anew() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.ph") is not None)
        verbs = Verbs(one)
        begun = await verbs.begun()
        assert begun["kept"]
        procedure = one.poller.calibrating.of_series("tank.ph")
        assert procedure is not None
        procedure.point = None  # as it is recalled
        looked = await verbs.look({"series": "tank.ph", "token": begun["token"]}, ME)
        assert looked == {"gone": True, "by": ""}
        other = await verbs.look({"series": "tank.ph", "token": "of another"}, ME)
        assert other["gone"]
        assert other["by"]


async def test_a_reload_in_the_middle_keeps_the_mark_and_is_journalled() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.ph") is not None)
        verbs = Verbs(one)
        token = (await verbs.begun())["token"]
        new = [config("tank", interval_s=3600.0, points={"ph": {"points": PAIRS}}), config("other")]
        await one.poller.apply(new)
        assert ("calibration-changed", "tank.ph") in one.events
        await until(lambda: (found := one.image.get("tank.ph")) is not None and found.calibration != "")
        assert one.newest("tank.ph").reason == CALIBRATING
        told = await verbs.look({"series": "tank.ph", "token": token}, ME)
        assert told["calibration"] == of_pairs(PAIRS).id


async def test_another_began() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.ph") is not None)
        verbs = Verbs(one)
        first = await verbs.begun()
        second = await verbs.begun()
        assert second["before"]
        lost = await verbs.look({"series": "tank.ph", "token": first["token"]}, ME)
        assert lost["gone"]
        assert lost["by"]
        assert await verbs.end({"series": "tank.ph", "token": first["token"]}, ME) == {"ended": False}
        assert not (await verbs.look({"series": "tank.ph", "token": second["token"]}, ME))["gone"]


async def test_only_who_may_write_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.peers.may_write", lambda *_, **__: False)
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.ph") is not None)
        with pytest.raises(LocalRefused, match="change nothing"):
            await Verbs(one).begun()
        assert one.newest("tank.ph").quality is Quality.GOOD


@pytest.mark.parametrize(
    ("series", "word"),
    [
        ("tnak.ph", "did you mean tank"),
        ("tank.pH", "did you mean ph"),
        ("tank.total", "nothing to calibrate"),
        ("tank.on", "nothing to calibrate"),
    ],
)
async def test_what_cannot_be_calibrated(series: str, word: str) -> None:
    one = rig()
    one.devices["tank"].described |= {
        "total": Point(unit="kWh", kind=Kind.REGISTER),
        "on": Point(unit="", decimals=0),
    }
    async with one.running():
        await until(lambda: one.image.get("tank.ph") is not None)
        with pytest.raises(LocalRefused, match=word):
            await Verbs(one).info({"series": series}, ME)


async def test_a_disabled_device() -> None:
    async with rig().running() as one:
        await until(lambda: one.image.get("tank.ph") is not None)
        await one.poller.disable("tank")
        with pytest.raises(LocalRefused, match="devices enable tank"):
            await Verbs(one).begun()
