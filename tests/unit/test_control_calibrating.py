"""Control while a person calibrates: an input that is in his hand is lost, and said to be that, but no alarm."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.base import Quality
from edge.control.model import Found, Guard, Severity
from edge.control.rules import Envelope, Limit, Rules
from edge.control.verbs import OutputVerbs
from edge.image import CALIBRATING
from tests.unit.decide_parts import Site, heater, output, reading, tank


def in_hand(site: Site, series: str, reason: str = CALIBRATING) -> None:
    """From now on it is read as its poller marks it."""
    site.values.pop(series, None)
    site.fixed[series] = replace(reading(series, 7.0, float("inf"), Quality.BAD), reason=reason)


def findings(site: Site) -> list[tuple[Found, Severity, str]]:
    assert site.out is not None
    return [(each.kind, each.severity, each.told) for each in site.out.findings]


@pytest.mark.parametrize("reason", [CALIBRATING, f"tank.probe: {CALIBRATING}"])
def test_its_output_is_safe_and_says_why_without_an_alarm(reason: str) -> None:
    site = Site(heater(), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0
    in_hand(site, "tank.temperature", reason)
    site.tick()
    assert (site.level(), site.decision().cause.guard) == (0.0, Guard.INPUT_LOST)
    assert site.decision().cause.text == "its input is being calibrated: tank.temperature"
    ((kind, severity, text),) = findings(site)
    assert (kind, severity) == (Found.INPUT_LOST, Severity.WARNING)
    assert "put the probe back" in text
    site.put(tank__temperature=25.0).tick()
    assert (site.level(), findings(site)) == (1.0, [])


def test_what_is_lost_besides_is_an_alarm() -> None:
    limit = Limit(series="sump.temperature", above=27.0)
    site = Site(heater(envelope=Envelope(limits=(limit,))), thermostats=[tank()])
    site.put(tank__temperature=25.0, sump__temperature=25.0).tick()
    in_hand(site, "tank.temperature")
    in_hand(site, "sump.temperature", "unavailable")
    site.tick()
    assert (Found.INPUT_LOST, Severity.ALARM) in [(kind, severity) for kind, severity, _ in findings(site)]


def test_a_probe_that_is_not_in_his_hand_is_an_alarm() -> None:
    site = Site(heater(), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    site.lose("tank.temperature").run(120.0)
    assert [severity for _, severity, _ in findings(site)] == [Severity.ALARM]


def test_the_second_probe_regulates_meanwhile() -> None:
    site = Site(heater(), thermostats=[tank(second="sump.temperature")])
    site.put(tank__temperature=25.0, sump__temperature=25.0).tick()
    in_hand(site, "tank.temperature")
    site.tick()
    assert site.level() == 1.0


@pytest.mark.parametrize(
    ("series", "outputs"),
    [
        (["tank.temperature"], []),  # its second probe regulates
        (["tank.temperature", "sump.temperature"], ["heater"]),
        (["room.temperature"], ["fan"]),
        (["limit.temperature"], []),  # judged by its fallback
        (["limit.temperature", "spare.temperature"], ["pump"]),
        (["float.on"], ["top"]),
        (["tank.ph"], []),
    ],
)
def test_who_goes_by_what_is_in_his_hand(series: Collection[str], outputs: list[str]) -> None:
    limit = Limit(series="limit.temperature", above=27.0, fallback="spare.temperature")
    rules = Rules(
        outputs={
            each.name: each
            for each in (
                heater(),
                output("fan"),
                output("pump", envelope=Envelope(limits=(limit,))),
                output("top", inputs=("float.on",)),
            )
        },
        thermostats=(
            tank(second="sump.temperature"),
            tank(name="room", input="room.temperature", heat=(), cool=("fan",)),
        ),
    )
    control: Any = SimpleNamespace(loop=SimpleNamespace(rules=rules))
    assert [each["output"] for each in OutputVerbs(control).that_go_by(series)] == outputs
