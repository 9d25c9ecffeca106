"""A frozen probe is told by what heats and cools, counts as lost, and no well-kept tank is taken for one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from drivers.base import Quality
from edge.control import simulate
from edge.control.faults import Fault, Shown, Trouble
from edge.control.heat import Sums
from edge.control.model import Confirm, Found, Request
from edge.control.remember import recall, remember
from edge.control.rules import Envelope, Limit, Rules
from edge.control.simulate import Believe, Simulation, Step, plain
from edge.control.simulated_site import site_of
from edge.control.still import Still, looked
from edge.image import STUCK, Reading
from tests.unit.heat_parts import HOUR_S, NO_CHECK, PROBE_STEP_C, RULES, STEP_S, SUMP, TANK, trouble

DAY_H = 24.0
QUIET_H = 6 * DAY_H
HEATER = replace(NO_CHECK.outputs["heater"], power_w=300.0, envelope=Envelope())
ONE = replace(
    RULES,
    outputs={"heater": HEATER},
    thermostats=(replace(RULES.thermostats[0], second="", cool=(), disagree=0.0, stuck=1.0),),
)
"""One probe, no limit: nothing but this can tell that it is frozen."""


def with_litres(rules: Rules, litres: float) -> Rules:
    return replace(rules, thermostats=(replace(rules.thermostats[0], litres=litres),))


def limited(rules: Rules) -> Rules:
    """With the usual limit, judged by the only probe there is."""
    heater = replace(rules.outputs["heater"], envelope=Envelope(limits=(Limit(series=TANK, above=27.0),)))
    return replace(rules, outputs={"heater": heater})


def steps(
    tank: Simulation, hours: float, troubles: Sequence[Trouble] = (), asked: Sequence[Request] = ()
) -> list[Step]:
    """Let so much time pass; what is asked is asked at once."""
    end_s = tank.at_s + hours * HOUR_S
    found = [tank.tick(STEP_S, troubles, asked)]
    while tank.at_s < end_s:
        found.append(tank.tick(STEP_S, troubles))
    return found


def heating(tank: Simulation, *, on: bool) -> Simulation:
    """The moment within a day when the heater stands so."""
    for _ in range(round(DAY_H * HOUR_S / STEP_S)):
        if (tank.flows()["heater"] > 0.0) is on:
            return tank
        tank.tick(STEP_S)
    raise AssertionError("the heater never stood so")


@cache
def _taught(hours: float, *, on: bool) -> Simulation:
    tank = Simulation(site_of(ONE))
    steps(tank, hours)
    return heating(tank, on=on)


def taught(hours: float, rules: Rules = ONE, *, on: bool, believe: Believe = plain) -> Simulation:
    """A tank after so many hours, as the heater stands so."""
    if rules is ONE and believe is plain:
        return _taught(hours, on=on).fork()
    tank = Simulation(site_of(rules), believe=believe)
    steps(tank, hours)
    return heating(tank, on=on)


def told(step: Step) -> bool:
    return any(finding.kind is Found.PROBE_STUCK for finding in step.findings)


def first_told_h(found: Sequence[Step]) -> float:
    return next(
        (step.at_s - found[0].at_s) / HOUR_S for step in found if told(step)
    )  # StopIteration where it never is


@pytest.mark.parametrize("hours", [24.0, 28.0, 32.0, 76.0])
def test_a_probe_that_froze_while_it_heats_is_lost_before_the_water_is_much_too_warm(
    hours: float,
) -> None:
    tank = taught(hours, on=True)
    target_c = ONE.thermostats[0].target
    frozen = trouble(tank, Fault.STUCK, TANK)
    warmest_c = 0.0
    found = []
    while tank.at_s < hours * HOUR_S + 2 * DAY_H * HOUR_S:
        found.append(tank.tick(STEP_S, [frozen]))
        warmest_c = max(warmest_c, tank.pools["tank"].true_c)
    assert first_told_h(found) < 8.0
    assert warmest_c < target_c + 1.25
    last = found[-1]
    assert last.flows["heater"] == 0.0
    assert last.outcome is not None
    assert "stuck" in next(each.text for each in last.findings if each.kind is Found.INPUT_LOST)
    assert last.outcome.stuck == {TANK: (tank.state.balances["tank"].stills[TANK, ""].value,)}


@pytest.mark.parametrize("hours", [28.0, 72.0])
def test_one_that_froze_while_it_does_not_heat_is_told_too_once_the_loss_is_learnt(hours: float) -> None:
    tank = taught(hours, on=False)
    assert first_told_h(steps(tank, 4.0, [trouble(tank, Fault.STUCK, TANK)])) < 2.0


def test_a_limit_on_a_frozen_probe_has_no_judge_and_so_the_heater_no_input() -> None:
    tank = taught(72.0, limited(ONE), on=True)
    last = steps(tank, 8.0, [trouble(tank, Fault.STUCK, TANK)])[-1]
    assert told(last) and last.flows["heater"] == 0.0


def test_before_anything_is_learnt_watts_and_litres_tell_and_without_them_nothing_does() -> None:
    for rules, tells in ((with_litres(ONE, 400.0), True), (ONE, False)):
        tank = taught(1.0, rules, on=True)
        found = steps(tank, 4.0, [trouble(tank, Fault.STUCK, TANK)])
        assert any(map(told, found)) is tells
    assert tank.flows()["heater"] == 1.0


def test_litres_count_only_within_one_run() -> None:
    tank = taught(1.0, with_litres(ONE, 400.0), on=False)
    assert not any(map(told, steps(tank, 8.0, [trouble(tank, Fault.STUCK, TANK)])))


def test_a_coarse_probe_may_stand_still_while_another_one_regulates() -> None:
    """Heat that comes in short runs and goes again moves nothing, however much it is together."""

    def believe(series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        return plain(series, 25.0 if series == SUMP else value, wall_ms, monotonic_s)

    rules = with_litres(replace(NO_CHECK, thermostats=(replace(RULES.thermostats[0], stuck=1.0),)), 400.0)
    chiller = replace(rules.outputs["chiller"], power_w=300.0)
    rules = replace(rules, outputs={"heater": HEATER, "chiller": chiller})
    tank = Simulation(site_of(rules), believe=believe)
    found = steps(tank, 11.0)
    heated_h = sum(step.flows["heater"] * step.dt_s for step in found) / HOUR_S
    assert heated_h > 5.0, "more than would do in one run"
    assert not any(map(told, found))


def test_what_was_given_in_another_run_does_not_count() -> None:
    rate = 1.0 / HOUR_S  # a kelvin an hour

    def after(still: Still | None, at_h: float, heated_h: float, *, driven: bool) -> Still:
        sums = Sums(at_s=at_h * HOUR_S, heat_s=heated_h * HOUR_S)
        return looked(still, 25.0, sums, None, rate, driven=driven)

    still = after(None, 0.0, 0.0, driven=True)
    still = after(still, 1.5, 1.5, driven=True)
    still = after(still, 1.6, 1.5, driven=False)
    still = after(still, 1.7, 1.5, driven=True)
    still = after(still, 3.6, 3.4, driven=True)
    assert not still.stuck, "3.4 K in all, 1.9 in this run"
    still = after(still, 3.8, 3.6, driven=True)
    assert still.stuck and still.missed == pytest.approx(2.1)


def colder_room(kelvin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "ROOM_BELOW_K", simulate.ROOM_BELOW_K + kelvin)


def coarse(step: float) -> Believe:
    def believe(series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        if isinstance(value, float):
            value = round(value / step) * step
        return plain(series, value, wall_ms, monotonic_s)

    return believe


@pytest.mark.parametrize(
    ("rules", "colder_k", "step"),
    [
        (with_litres(ONE, 400.0), 0.0, PROBE_STEP_C),
        (with_litres(ONE, 400.0), 0.0, 0.5),
        (with_litres(ONE, 400.0), 4.0, PROBE_STEP_C),
        (with_litres(RULES, 400.0), 0.0, 0.125),
        (RULES, 2.0, PROBE_STEP_C),
    ],
    ids=["usual", "nine bits", "heater too weak", "two probes", "cold room"],
)
def test_days_without_a_fault_are_days_without_an_alarm(
    rules: Rules, colder_k: float, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    colder_room(colder_k, monkeypatch)
    tank = Simulation(site_of(rules), believe=coarse(step))
    while tank.at_s < QUIET_H * HOUR_S:
        assert not told(tank.tick(2 * STEP_S))


def test_a_mistake_costs_one_step_of_the_reading() -> None:
    """A heater that suddenly barely holds the water: the probe is sound, and control cannot know."""
    tank = taught(72.0, on=True)
    pool = tank.pools["tank"]
    coldest_c, wrong = pool.true_c, 0
    held_c = pool.true_c
    for _ in range(round(12 * HOUR_S / STEP_S)):
        step = tank.tick(STEP_S)
        on = step.flows["heater"] > 0.0
        held_c = held_c if on else held_c - 5e-3  # 0.6 K in an hour
        pool.true_c, pool.probes_c = held_c, [held_c]
        coldest_c = min(coldest_c, held_c)
        wrong += told(step)
    assert wrong, "the test is about a mistake"
    assert coldest_c > 25.0
    assert told(step) is False or step.flows["heater"] == 0.0


def test_it_counts_again_as_soon_as_it_moves() -> None:
    tank = taught(72.0, on=True)
    frozen = trouble(tank, Fault.STUCK, TANK, hours=6.0)
    found = steps(tank, 7.0, [frozen])
    assert any(map(told, found))
    assert not told(found[-1])
    assert found[-1].outcome is not None and not found[-1].outcome.stuck


def test_a_person_s_word_lets_it_heat_again() -> None:
    tank = taught(72.0, on=True)
    frozen = trouble(tank, Fault.STUCK, TANK)
    assert steps(tank, 6.0, [frozen])[-1].flows["heater"] == 0.0
    found = steps(tank, 0.2, [frozen], [Confirm(output="heater")])
    assert not told(found[0]) and found[-1].flows["heater"] == 1.0
    assert told(steps(tank, 12.0, [frozen])[-1]), "and it is found again"


def test_a_restart_does_not_give_it_another_hour() -> None:
    tank = taught(72.0, on=True)
    frozen = trouble(tank, Fault.STUCK, TANK)
    steps(tank, 6.0, [frozen])
    saved = json.loads(json.dumps(remember(tank.state)))
    tank.state = recall(saved, tank.site.rules, tank.now)
    last = steps(tank, 0.2, [frozen])[-1]
    assert told(last) and last.flows["heater"] == 0.0
    saved["balances"]["tank"]["stuck"] = [["x"]]
    assert "tank" not in recall(saved, tank.site.rules, tank.now).balances, "damage forgets the balance only"


def test_zero_is_never() -> None:
    never = replace(ONE, thermostats=(replace(ONE.thermostats[0], stuck=0.0),))
    tank = taught(72.0, never, on=True)
    assert not any(map(told, steps(tank, 24.0, [trouble(tank, Fault.STUCK, TANK)])))


def test_one_of_two_probes_is_told_and_the_other_regulates() -> None:
    tank = taught(72.0, RULES, on=True)
    found = steps(tank, 12.0, [trouble(tank, Fault.STUCK, SUMP)])
    assert any(map(told, found))
    assert found[-1].outcome is not None and set(found[-1].outcome.stuck) <= {SUMP}
    assert tank.pools["tank"].true_c == pytest.approx(25.5, abs=0.6)


def test_what_stands_in_is_looked_at_by_itself() -> None:
    """A stand-in neither moves the frozen probe nor is refused with it, and may freeze too."""
    fixed = {"own": 25.3125, "other": 25.125}

    def believe(series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        reading = plain(series, value, wall_ms, monotonic_s)
        if not tank_is_frozen:
            return reading
        if TANK in stuck and fixed["own"] in stuck[TANK]:
            estimate = replace(
                reading, value=fixed["other"], quality=Quality.ESTIMATED, reason=f"from {SUMP}"
            )
            return (
                estimate
                if fixed["other"] not in stuck[TANK]
                else replace(reading, value=fixed["own"], quality=Quality.BAD, reason=STUCK)
            )
        return replace(reading, value=fixed["own"])

    stuck: dict[str, tuple[float, ...]] = {}
    tank_is_frozen = False
    tank = taught(72.0, on=True, believe=believe)
    tank_is_frozen = True
    seen: list[tuple[float, ...]] = []
    for _ in range(round(2 * DAY_H * HOUR_S / STEP_S)):
        step = tank.tick(STEP_S)
        assert step.outcome is not None
        stuck.clear()
        stuck |= step.outcome.stuck
        values = stuck.get(TANK, ())
        if not seen or seen[-1] != values:
            seen.append(values)
            if values == (fixed["own"],):
                second = [each for each in step.findings if each.kind is Found.INPUT_LOST]
                assert second, "at that very tick nothing stands in yet"
    assert seen == [(), (fixed["own"],), (fixed["own"], fixed["other"])]
    assert step.flows["heater"] == 0.0
