"""The answer to "why", for people and for programs."""

from __future__ import annotations

import json

import pytest

from edge.control.decide import fresh
from edge.control.model import Override
from edge.control.rules import Envelope, Limit
from edge.control.why import sentence, why
from tests.unit.decide_parts import Site, heater, output, static, tank


def test_a_sentence_says_what_since_when_why_until_when_and_who_lost() -> None:
    bounds = Envelope(limits=(Limit(series="sump.temperature", above=27.0),))
    site = Site(heater(envelope=bounds), thermostats=[tank()], zone="Europe/Vienna")
    site.put(tank__temperature=25.0, sump__temperature=28.0).tick()
    site.tick(1, Override(output="heater", level=1.0, remaining_s=1800, who="anna"))
    site.tick(600)
    assert sentence("heater", site.state, site.now, site.rules) == (
        "heater is off since 10:00 because sump.temperature is 28.0 °C, above the limit 27 °C; "
        "overruled: anna's hand (on), thermostat tank (on)."
    )
    site.put(sump__temperature=25.0).tick(300)
    assert sentence("heater", site.state, site.now, site.rules) == (
        "heater is on since 10:15 because anna set it by hand, for 15 min more; overruled: thermostat tank (on)."
    )


def test_a_schedule_says_how_long_it_goes_on() -> None:
    site = Site(output("light", dimmable=True), schedules=[static(0.4, "light", daily=("06:00", "20:00"))])
    site.tick()
    text = sentence("light", site.state, site.now, site.rules)
    assert text == "light is at 40% since 08:00 because schedule day is on, for 12 h more."


def test_without_a_clock_durations_speak() -> None:
    site = Site(output("light"))
    site.clock = "unknown"
    site.tick()
    site.tick(30)
    text = sentence("light", site.state, site.now, site.rules)
    assert text == "light is off for 30 s because it is off by default."
    assert why("light", site.state, site.now, site.rules)["since"] is None


def test_a_thermostat_says_its_value_and_its_target() -> None:
    site = Site(heater(), thermostats=[tank(band=0.5)])

    def said(value: float) -> str:
        site.put(tank__temperature=value).tick()
        return site.decision().cause.text

    assert said(25.6) == "thermostat tank: 25.6 °C is warm enough for 25.5 °C"
    assert said(25.3) == "thermostat tank: 25.3 °C, it heats below 25.25 °C"
    assert said(25.2) == "thermostat tank: 25.2 °C is too cold for 25.5 °C"
    assert said(25.6) == "thermostat tank: 25.6 °C, it heats up to 25.75 °C"
    assert said(25.75) == "thermostat tank: 25.75 °C is warm enough for 25.5 °C"


def test_one_that_cools_says_it_the_other_way_round() -> None:
    site = Site(output("chiller"), thermostats=[tank(heat=(), cool=("chiller",), band=0.5)])

    def said(value: float) -> str:
        site.put(tank__temperature=value).tick()
        return site.decision("chiller").cause.text

    assert said(25.4) == "thermostat tank: 25.4 °C is cool enough for 25.5 °C"
    assert said(25.7) == "thermostat tank: 25.7 °C, it cools above 25.75 °C"
    assert said(26.0) == "thermostat tank: 26.0 °C is too warm for 25.5 °C"
    assert said(25.4) == "thermostat tank: 25.4 °C, it cools down to 25.25 °C"


def test_since_another_day_names_the_day() -> None:
    site = Site(output("light"))
    site.tick()
    site.pass_s(86_400 * 2)
    assert " since 2026-05-10 08:00 " in sentence("light", site.state, site.now, site.rules)


def test_the_same_as_data() -> None:
    site = Site(heater(), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick(
        1, Override(output="heater", level=0.0, remaining_s=60, who="anna", why="algae")
    )
    site.tick(10)
    body = json.loads(json.dumps(why("heater", site.state, site.now, site.rules)))
    assert body["level"] == 0.0 and body["output"] == "heater" and body["since_s"] == 10.0
    assert body["cause"]["layer"] == "override" and body["cause"]["name"] == "anna"
    assert (
        body["cause"]["remaining_s"] == pytest.approx(50.0)
        and body["cause"]["until"] == "2026-05-10T08:01:01.000Z"
    )
    assert [each["layer"] for each in body["overruled"]] == ["controller", "default"]
    assert "algae" in body["text"] and body["since"] == "2026-05-10T08:00:01.000Z"


def test_before_the_first_tick_and_for_an_unknown_output() -> None:
    site = Site(output("air", safe=1.0))
    state = fresh(site.rules, site.now)
    assert "nothing is decided yet" in sentence("air", state, site.now, site.rules)
    assert why("air", state, site.now, site.rules)["level"] == 1.0
    with pytest.raises(KeyError):
        why("water", state, site.now, site.rules)


def test_a_guard_has_its_name() -> None:
    site = Site(heater(), thermostats=[tank()])
    site.tick()
    body = why("heater", site.state, site.now, site.rules)
    assert body["cause"]["layer"] == "safety" and body["cause"]["guard"] == "input-lost"
    assert "its input is lost: tank.temperature" in body["text"]
