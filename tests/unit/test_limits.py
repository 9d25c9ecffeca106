"""What is said of a value limit: whose word it is, the value with its unit, the limit, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from edge.control.model import Found, Guard
from edge.control.quantities import quantity
from edge.control.rules import Envelope, Limit
from tests.unit.decide_parts import Site, heater, tank

HELD = "heater is held off: "


def site_of(**limit: Any) -> Site:
    """A heater with one limit on the sump, judged by the tank's probe while that one is lost."""
    bounds: dict[str, Any] = {"series": "sump.temperature", "fallback": "tank.temperature"}
    envelope = Envelope(limits=(Limit(**(bounds | limit)),))
    site = Site(heater(envelope=envelope), thermostats=[tank(second="sump.temperature")])
    site.put(tank__temperature=25.0, sump__temperature=25.0).tick()
    assert site.level() == 1.0
    return site


def said(site: Site) -> tuple[str, str]:
    """The clause after "because", and what is told as a problem without that."""
    assert site.out is not None
    decision = site.decision()
    assert decision.cause.guard is Guard.VALUE_LIMIT and site.level() == 0.0
    (found,) = [each for each in site.out.findings if each.kind is Found.LIMIT]
    assert found.text == HELD + decision.cause.text
    return decision.cause.text, found.told.removeprefix(found.text)


def test_the_probe_that_judges_is_named_with_its_value_and_the_limit() -> None:
    site = site_of(above=27.0)
    site.put(sump__temperature=27.04).tick()
    assert said(site) == ("sump.temperature is 27.04 °C, above the limit 27 °C", "; see to the cause")
    site = site_of(below=20.0)
    site.put(sump__temperature=19.46).tick()
    assert said(site)[0] == "sump.temperature is 19.5 °C, below the limit 20 °C"


def test_one_that_stands_in_is_named_with_whom_it_stands_in_for() -> None:
    site = site_of(above=27.0)
    site.bad("sump.temperature").put(tank__temperature=31.0).tick()
    assert said(site)[0] == (
        "tank.temperature (standing in for sump.temperature, which is lost) is 31.0 °C, above the limit 27 °C"
    )


def test_one_that_has_not_come_back_far_enough_says_until_when_it_holds() -> None:
    site = site_of(above=27.0, clear=0.5)
    site.put(sump__temperature=27.3).tick()
    site.put(sump__temperature=26.8).tick()
    assert said(site)[0] == (
        "sump.temperature is 26.8 °C; past the limit 27 °C it stays held until 26.5 °C or less"
    )
    site.put(sump__temperature=26.5, tank__temperature=25.0).tick()
    assert site.level() == 1.0, "as it said"


@pytest.mark.parametrize(
    ("bounds", "value", "passed", "until"),
    [
        ({"above": 27.0, "clear": 0.5}, 28.0, "27", "26.5 °C or less"),
        ({"below": 20.0, "clear": 0.5}, 19.0, "20", "20.5 °C or more"),
        ({"above": 27.0, "below": 20.0, "clear": 0.5}, 28.0, "27 or 20", "from 20.5 to 26.5 °C"),
    ],
)
def test_one_whose_last_probe_went_says_what_ends_it(
    bounds: dict[str, float], value: float, passed: str, until: str
) -> None:
    site = site_of(**bounds)
    site.put(sump__temperature=value, tank__temperature=25.0).tick()
    site.bad("sump.temperature").bad("tank.temperature").tick()
    text, advice = said(site)
    assert text == (
        f"the limit {passed} °C was passed and no probe tells since; "
        f"held until sump.temperature or tank.temperature reads {until}"
    )
    assert advice == "; mend its probe"
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0, "as it said"


def test_a_value_never_stands_on_the_wrong_side_of_a_bound() -> None:
    assert quantity(25.5625, "°C", 25.5) == "25.6 °C"
    assert quantity(27.04, "°C", 27.0) == "27.04 °C"
    assert quantity(26.96, "°C", 27.0) == "26.96 °C"
    assert quantity(27.0, "°C", 27.0) == "27.0 °C"
    assert quantity(412.3, "ppm", 500.0) == "412 ppm"
    assert quantity(-0.04, "", 5.0) == "0.0"
