"""The envelope: limits, lost inputs, windows, shortest times, interlocks, the queue of rising outputs, slew."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from drivers.base import Quality
from edge.control.decide import used_up
from edge.control.envelope import shape
from edge.control.model import Confirm, Found, Guard, Layer, Override
from edge.control.rules import Blind, Curve, Envelope, Interlock, Kind, Limit
from tests.unit.decide_parts import Site, heater, output, reading, static, tank

TOO_WARM = Limit(series="sump.temperature", above=27.0, clear=0.3)


def set_to(level: float, name: str = "heater", *, seconds: float = 3600.0, **more: Any) -> Override:
    return Override(output=name, level=level, remaining_s=seconds, who="anna", **more)


# Value limits.


def test_a_limit_on_the_second_probe_cuts_off_and_comes_back_by_its_hysteresis() -> None:
    site = Site(heater(envelope=Envelope(limits=(TOO_WARM,))), thermostats=[tank()])
    site.put(tank__temperature=25.0, sump__temperature=25.0).tick()
    assert site.level() == 1.0
    site.put(sump__temperature=27.1).tick()
    assert site.level() == 0.0 and site.decision().cause.guard is Guard.VALUE_LIMIT
    assert site.found(Found.LIMIT) == ["heater"]
    site.put(sump__temperature=26.8).tick()
    assert site.level() == 0.0, "not yet back by `clear`"
    site.put(sump__temperature=26.7).tick()
    assert site.level() == 1.0 and site.found(Found.LIMIT) == []


def test_nobody_passes_a_limit_by_hand() -> None:
    site = Site(heater(envelope=Envelope(limits=(TOO_WARM,))), thermostats=[tank()])
    site.put(tank__temperature=25.0, sump__temperature=28.0).tick(1, set_to(1.0, blind=True))
    assert site.level() == 0.0
    assert [cause.layer for cause in site.decision().overruled[:2]] == [Layer.OVERRIDE, Layer.CONTROLLER]


def test_a_lost_limit_probe_is_judged_by_its_fallback_and_else_is_an_input_lost() -> None:
    fallback = Limit(series="sump.temperature", above=27.0, fallback="tank.temperature")
    site = Site(heater(envelope=Envelope(limits=(fallback,))), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0, "the tank's own probe judges"
    assert site.found(Found.SPARE_LOST) == ["sump.temperature"]
    site.put(tank__temperature=27.5).tick(1, set_to(1.0))
    assert site.level() == 0.0 and site.decision().cause.guard is Guard.VALUE_LIMIT
    alone = Site(heater(envelope=Envelope(limits=(TOO_WARM,))), thermostats=[tank()])
    alone.put(tank__temperature=25.0).tick()
    assert alone.level() == 0.0 and alone.decision().cause.guard is Guard.INPUT_LOST


def test_a_tripped_limit_stays_tripped_while_its_probe_is_lost() -> None:
    blind = Blind(duty_max=0.5, after_s=10.0, for_s=3600.0)
    bounds = Envelope(limits=(Limit(series="tank.temperature", above=27.0),), blind=blind)
    site = Site(heater(envelope=bounds), thermostats=[tank()])
    site.put(tank__temperature=25.0).run(7 * 3600, step_s=60)
    site.put(tank__temperature=28.0).tick()
    site.lose("tank.temperature").run(1800, step_s=10)
    assert site.level() == 0.0 and site.decision().cause.guard is Guard.VALUE_LIMIT


# Lost inputs.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_no_input(value: float) -> None:
    site = Site(heater(), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    site.put(tank__temperature=value).tick()
    assert site.level() == 0.0 and site.decision().cause.guard is Guard.INPUT_LOST


def test_missing_bad_stale_and_future_inputs_are_lost_and_estimated_ones_are_not() -> None:
    site = Site(heater(), thermostats=[tank()], max_age_s={"tank.temperature": 15.0})
    site.tick()
    assert site.found(Found.INPUT_LOST) == ["heater"], "never read"
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0 and site.found(Found.INPUT_LOST) == []
    site.lose("tank.temperature").tick(15.0)
    assert site.level() == 1.0, "as old as it may be"
    site.tick(0.1)
    assert site.level() == 0.0, "older"
    site.bad("tank.temperature", value=25.0).tick()
    assert site.level() == 0.0
    site.bad("tank.temperature", value=25.0, quality=Quality.ESTIMATED).tick()
    assert site.level() == 1.0
    site.fixed["tank.temperature"] = reading("tank.temperature", 25.0, site.monotonic_s + 60.0)
    site.tick()
    assert site.level() == 0.0, "from the future"


def test_an_output_has_its_own_patience() -> None:
    hasty, patient = (
        heater(name, max_age_s={"tank.temperature": age}) for name, age in (("a", 10.0), ("b", 120.0))
    )
    site = Site(patient, hasty, heater("c"), thermostats=[tank(heat=("b", "a", "c"))])
    site.put(tank__temperature=25.0).tick()
    site.lose("tank.temperature").tick(11)
    assert [site.level(name) for name in "abc"] == [0.0, 1.0, 1.0]
    site.tick(100)
    assert [site.level(name) for name in "ab"] == [0.0, 1.0]
    site.tick(10)
    assert [site.level(name) for name in "ab"] == [0.0, 0.0]


def test_a_pump_whose_input_is_lost_goes_to_its_own_safe_level() -> None:
    leak = Interlock(other="cabinet.leak", level=0.0)
    site = Site(output("return", Kind.RETURN, safe=1.0, envelope=Envelope(interlocks=(leak,))))
    site.tick(1, set_to(0.0, "return"))
    assert site.level("return") == 1.0 and site.decision("return").cause.guard is Guard.INPUT_LOST
    site.put(cabinet__leak=1.0).tick()
    assert site.level("return") == 0.0 and site.decision("return").cause.guard is Guard.INTERLOCK
    site.put(cabinet__leak=0.0).tick()
    assert site.level("return") == 0.0 and site.decision("return").cause.layer is Layer.OVERRIDE


def test_a_person_at_the_site_drives_without_input_for_half_an_hour_at_most() -> None:
    site = Site(heater(), thermostats=[tank()])
    site.tick(1, set_to(1.0))
    assert site.level() == 0.0, "an override alone does not reach past a lost input"
    site.tick(1, set_to(1.0, seconds=7200, blind=True))
    assert site.level() == 1.0 and site.found(Found.BLIND_OVERRIDE) == ["heater"]
    assert Guard.INPUT_LOST in [cause.guard for cause in site.decision().overruled]
    site.tick(1799)
    assert site.level() == 1.0
    out = site.tick(1)
    assert site.level() == 0.0 and [name for name, _ in out.ended] == ["heater"]


# Blind duty.


def blind_site(**more: float) -> Site:
    """A heater that was on for 30 % of a regulated day."""
    settings = {"duty_max": 0.5, "after_s": 1800.0, "for_s": 36_000.0, "period_s": 600.0, **more}
    bounds = Envelope(blind=Blind(**settings))
    site = Site(heater(envelope=bounds), thermostats=[tank()], max_age_s={"tank.temperature": 30.0})
    for _ in range(24 * 3):
        site.put(tank__temperature=25.0).run(360, step_s=30)
        site.put(tank__temperature=26.0).run(840, step_s=30)
    site.lose("tank.temperature").tick(31)
    return site


def test_blind_duty_is_the_last_good_days_and_begins_and_ends_when_declared() -> None:
    site = blind_site()
    assert site.level() == 0.0 and site.decision().cause.name == "input lost"
    assert site.run(1790, step_s=10)["heater"] == 0.0
    site.tick(10)
    on_s = site.run(36_000, step_s=10)["heater"]
    assert on_s == pytest.approx(0.3 * 36_000, rel=0.06)  # a step of ten seconds a cycle
    assert site.found(Found.BLIND_ENDED) == ["heater"]
    assert site.run(36_000, step_s=10)["heater"] == 0.0
    assert site.found(Found.INPUT_LOST) == ["heater"]


def test_blind_duty_is_bounded_alarmed_and_under_the_envelope() -> None:
    site = blind_site(duty_max=0.1)
    site.run(1800, step_s=10)
    assert site.found(Found.BLIND_DUTY) == ["heater"]
    assert site.run(6000, step_s=10)["heater"] == pytest.approx(600, abs=20)
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0 and site.decision().cause.layer is Layer.CONTROLLER


def test_without_a_learnt_day_there_is_no_blind_duty() -> None:
    bounds = Envelope(blind=Blind(duty_max=0.5, after_s=60.0, for_s=3600.0))
    site = Site(heater(envelope=bounds), thermostats=[tank()])
    site.put(tank__temperature=25.0).run(3600, step_s=60)
    site.lose("tank.temperature")
    assert site.run(3000, step_s=60)["heater"] <= 120.0
    assert site.found(Found.BLIND_ENDED) == ["heater"]


# Windows.


def test_the_longest_on_time_is_kept_in_any_window_and_comes_back_slowly() -> None:
    bounds = Envelope(on_max_s=600, on_window_s=3600)
    site = Site(output("topoff", Kind.TOPOFF, envelope=bounds))
    site.tick(1, set_to(1.0, "topoff", seconds=86_400))
    levels = []
    for _ in range(4 * 3600):
        site.tick()
        levels.append(site.level("topoff"))
    for begin in range(0, len(levels) - 3600, 97):
        assert sum(levels[begin : begin + 3600]) <= 601
    edges = sum(1 for one, two in pairwise(levels) if one != two)
    assert edges <= 2 + 2 * 4 * 10, "no chatter at the window's rim"
    assert sum(levels) > 2000, "and it is no lock-out"


def test_a_return_pump_is_forced_on_after_its_longest_off_time() -> None:
    bounds = Envelope(off_max_s=300, off_window_s=3600)
    site = Site(output("return", Kind.RETURN, safe=1.0, envelope=bounds))
    site.tick(1, set_to(0.0, "return", seconds=7200))
    assert site.level("return") == 0.0
    site.run(299)
    assert site.level("return") == 0.0
    site.tick()
    assert site.level("return") == 1.0 and site.decision("return").cause.guard is Guard.OFF_TIME
    assert site.found(Found.OFF_TIME) == ["return"]


def test_a_lost_memory_counts_as_used_up_and_dosing_waits_for_a_person() -> None:
    site = Site(
        output("topoff", Kind.TOPOFF, envelope=Envelope(on_max_s=600, on_window_s=3600)),
        output("return", Kind.RETURN, safe=1.0, envelope=Envelope(off_max_s=300, off_window_s=3600)),
        output("doser", Kind.DOSER),
    )
    site.state = used_up(site.rules, site.now)
    site.tick(1, *(set_to(level, name) for name, level in (("topoff", 1.0), ("return", 0.0), ("doser", 1.0))))
    assert (site.level("topoff"), site.level("return"), site.level("doser")) == (0.0, 1.0, 0.0)
    assert site.found(Found.UNCONFIRMED) == ["doser"]
    site.tick(1, Confirm(output="doser"))
    assert site.level("doser") == 1.0 and site.found(Found.UNCONFIRMED) == []
    assert site.level("topoff") == 0.0


# Shortest times.


def test_shortest_times_hold_a_command_but_never_a_cut_off() -> None:
    bounds = Envelope(limits=(TOO_WARM,), on_min_s=300, off_min_s=120)
    site = Site(heater(envelope=bounds), thermostats=[tank()])
    site.put(tank__temperature=25.0, sump__temperature=25.0).tick()
    assert site.level() == 1.0
    site.put(tank__temperature=26.0).tick()
    assert site.level() == 1.0 and site.decision().cause.guard is Guard.SHORTEST
    site.put(sump__temperature=27.5).tick()
    assert site.level() == 0.0, "a cut-off does not wait"
    site.put(tank__temperature=25.0, sump__temperature=25.0)
    site.run(119)
    assert site.level() == 0.0 and site.decision().cause.guard is Guard.SHORTEST
    site.tick()
    assert site.level() == 1.0


def test_a_compressor_has_just_stopped_at_boot() -> None:
    bounds = Envelope(off_min_s=300)
    site = Site(
        output("chiller", Kind.CHILLER, envelope=bounds),
        output("fan", Kind.OTHER, envelope=bounds),
        thermostats=[tank(heat=(), cool=("chiller", "fan"))],
    )
    site.put(tank__temperature=28.0).tick()
    assert (site.level("chiller"), site.level("fan")) == (0.0, 1.0)
    site.run(298)
    assert site.level("chiller") == 0.0
    site.tick()
    assert site.level("chiller") == 1.0


# Interlocks, mains.


def test_an_interlock_with_an_output_holds_in_the_same_tick_whatever_the_order() -> None:
    needs_flow = Envelope(interlocks=(Interlock(other="return", when_on=False),))
    site = Site(heater(envelope=needs_flow), output("return", Kind.RETURN, safe=1.0), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0
    site.tick(1, set_to(0.0, "return"), set_to(1.0))
    assert (site.level("return"), site.level()) == (0.0, 0.0)
    assert site.decision().cause.guard is Guard.INTERLOCK


def test_an_interlock_on_hardware_that_does_not_answer_is_an_input_lost() -> None:
    needs_flow = Envelope(interlocks=(Interlock(other="return", when_on=False),))
    site = Site(heater(envelope=needs_flow), output("return", Kind.RETURN, safe=1.0), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    site.faulted = frozenset({"return"})
    site.tick()
    assert site.level() == 0.0 and site.decision().cause.guard is Guard.INPUT_LOST


def test_the_order_inside_safety() -> None:
    bounds = Envelope(
        limits=(TOO_WARM,),
        interlocks=(Interlock(other="lid.open"),),
        on_max_s=10,
        on_window_s=3600,
        on_min_s=5,
    )
    site = Site(heater(envelope=bounds), thermostats=[tank()])
    site.put(tank__temperature=25.0, sump__temperature=25.0, lid__open=0.0)
    site.run(15)
    assert site.decision().cause.guard is Guard.ON_TIME
    site.put(sump__temperature=28.0, lid__open=1.0).lose("tank.temperature").tick(61)
    cause, overruled = site.decision().cause, site.decision().overruled
    order = [cause.guard, *(each.guard for each in overruled)]
    assert order == [Guard.INTERLOCK, Guard.VALUE_LIMIT, Guard.INPUT_LOST, Guard.ON_TIME, None, None]
    site.put(lid__open=0.0).tick()
    assert site.decision().cause.guard is Guard.VALUE_LIMIT
    site.put(sump__temperature=25.0).tick()
    assert site.decision().cause.guard is Guard.INPUT_LOST


def test_mains_loss_sheds_heater_and_lights_and_keeps_the_air() -> None:
    site = Site(
        heater(shed_on="mains.ok"),
        output("light", Kind.LIGHT, shed_on="mains.ok", dimmable=True),
        output("air", Kind.AIR, safe=1.0),
        thermostats=[tank()],
        schedules=[static(0.7, "light")],
    )
    site.put(tank__temperature=25.0, mains__ok=1.0).tick()
    assert [site.level(name) for name in ("heater", "light", "air")] == [1.0, 0.7, 1.0]
    site.put(mains__ok=0.0).tick()
    assert [site.level(name) for name in ("heater", "light", "air")] == [0.0, 0.0, 1.0]
    assert site.found(Found.MAINS_LOST) == ["mains.ok"]
    site.lose("mains.ok").tick(61)
    assert site.level() == 1.0, "a broken sense wire must not cool the tank"
    assert site.found(Found.MAINS_UNKNOWN) == ["mains.ok"]


# Levels, slew, ramps, the queue.


def test_levels_are_shaped_to_what_the_output_can_be() -> None:
    dimmer = output("d", dimmable=True, envelope=Envelope(level_min=0.2, level_max=0.8))
    assert [shape(dimmer, level) for level in (-1.0, 0.0, 0.01, 0.5, 2.0, math.nan)] == [
        0,
        0,
        0.2,
        0.5,
        0.8,
        0,
    ]
    assert [shape(output("r"), level) for level in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 1.0, 1.0]


def test_slew_bounds_a_command_but_not_a_cut_off() -> None:
    bounds = Envelope(slew_per_s=0.1, limits=(Limit(series="driver.temperature", above=70.0),))
    site = Site(output("light", Kind.LIGHT, dimmable=True, envelope=bounds))
    site.put(driver__temperature=30.0).tick(1, set_to(1.0, "light"))
    assert site.level("light") == pytest.approx(0.1)
    assert site.out is not None and site.out.moving
    site.run(8)
    assert site.level("light") == pytest.approx(0.9)
    site.run(3)
    assert site.level("light") == 1.0 and not site.tick().moving
    site.put(driver__temperature=80.0).tick()
    assert site.level("light") == 0.0


@pytest.mark.parametrize("curve", list(Curve))
def test_a_ramp_ends_exactly_on_its_target_and_a_new_command_takes_over_where_it_is(curve: Curve) -> None:
    site = Site(output("light", Kind.LIGHT, dimmable=True))
    site.tick(1, set_to(0.3, "light", ramp_s=10.0, curve=curve))
    seen = [site.level("light")]
    for _ in range(10):
        site.tick()
        seen.append(site.level("light"))
    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 0.3 and 0.0 < seen[5] < 0.3
    site.tick(1, set_to(0.9, "light", ramp_s=10.0, curve=curve))
    site.run(5)
    half = site.level("light")
    assert 0.3 < half < 0.9
    site.tick(0.1, set_to(0.0, "light", ramp_s=4.0, curve=curve))
    assert site.level("light") <= half + 0.06
    fall = [site.level("light")]
    for _ in range(8):
        site.tick(0.5)
        fall.append(site.level("light"))
    assert fall == sorted(fall, reverse=True) and fall[-1] == 0.0 and max(fall) <= half + 0.06


def test_rising_outputs_wait_their_turn_air_first_and_falling_ones_never() -> None:
    lights = [output(f"light{n}", Kind.LIGHT) for n in range(3)]
    air = output("air", Kind.AIR)
    site = Site(*lights, air, inrush_gap_s=5.0)
    site.tick(10)
    names = [each.name for each in (*lights, air)]
    site.tick(1, *(set_to(1.0, name) for name in names))
    rose: list[tuple[float, str]] = []
    standing = dict.fromkeys(names, 0.0)
    for _ in range(40):
        for name in names:
            if site.level(name) > standing[name]:
                rose.append((site.monotonic_s, name))
            standing[name] = site.level(name)
        site.tick()
    assert [name for _, name in rose] == ["air", "light0", "light1", "light2"]
    assert all(two[0] - one[0] >= 5.0 for one, two in pairwise(rose))
    site.tick(1, *(set_to(0.0, name) for name in names))
    assert all(site.level(name) == 0.0 for name in names)


def test_one_that_waits_says_so() -> None:
    site = Site(output("a"), output("b"), inrush_gap_s=5.0)
    site.tick(10)
    site.tick(1, set_to(1.0, "a"), set_to(1.0, "b"))
    waiting = site.decision("b")
    assert waiting.cause.guard is Guard.INRUSH and waiting.overruled[0].layer is Layer.OVERRIDE
    assert site.state.waiting == ("b",)
