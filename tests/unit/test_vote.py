"""Two probes that part: the one that goes with what heats and cools regulates, and a wrong choice does little."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.control import faults
from edge.control.faults import Fault
from edge.control.model import Found, Vote
from edge.control.simulate import Simulation
from tests.unit.heat_parts import HOUR_S, RULES, SUMP, TANK, balance, run, taught, trouble, whole_steps

OTHER = {TANK: SUMP, SUMP: TANK}


def chosen(tank: Simulation) -> str:
    vote = balance(tank).vote
    return "" if vote is None else vote.chosen


@pytest.mark.parametrize("hours", [74.0, 77.0, 82.0, 88.0, 93.0])
@pytest.mark.parametrize("probe", [TANK, SUMP])
@pytest.mark.parametrize("fault", [Fault.DRIFT_UP, Fault.DRIFT_DOWN])
def test_the_probe_that_drifts_loses_before_the_water_has_gone_astray(
    hours: float, probe: str, fault: Fault
) -> None:
    tank = taught(hours)
    tank._believe = whole_steps
    seen = set()
    texts, stuck = [], set()
    drift = trouble(tank, fault, probe)
    for _ in range(120):
        (step,) = run(tank, 30.0, [drift])
        seen.add(chosen(tank))
        texts += [each.text for each in step.findings if each.kind is Found.PROBES_DISAGREE]
        stuck |= {each.subject for each in step.findings if each.kind is Found.PROBE_STUCK}
        assert abs(tank.pools["tank"].true_c - 25.5) < 0.42, step.at_s
    assert seen <= {"", OTHER[probe]} and chosen(tank) == OTHER[probe]
    assert stuck <= {probe}
    assert stuck or (texts[-1].startswith(f"{probe} went ") and f"{OTHER[probe]} regulates" in texts[-1])


@pytest.mark.parametrize("probe", [TANK, SUMP])
def test_a_slow_drift_is_told_too(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "DRIFT_PER_HOUR", 2.0 / 12)
    tank = taught(76.0)
    run(tank, 3 * HOUR_S, [trouble(tank, Fault.DRIFT_DOWN, probe)])
    assert chosen(tank) == OTHER[probe]


def test_the_choice_stands_until_both_have_long_agreed() -> None:
    tank = taught(82.0)
    run(tank, 4 * HOUR_S, [trouble(tank, Fault.DRIFT_DOWN, TANK, hours=3.0)])
    assert chosen(tank) == "", "it jumped back an hour ago"
    tank = taught(82.0)
    run(tank, 3.4 * HOUR_S, [trouble(tank, Fault.DRIFT_DOWN, TANK, hours=3.0)])
    assert chosen(tank) == SUMP, "24 minutes are not long"
    assert abs(tank.pools["tank"].true_c - 25.5) < 0.3


def test_a_restart_in_the_middle_keeps_the_choice() -> None:
    tank = taught(82.0)
    drift = trouble(tank, Fault.DRIFT_UP, TANK)
    run(tank, 2 * HOUR_S, [drift])
    run(tank, 600.0, [drift, trouble(tank, Fault.RESTART, "", hours=0.1)])
    assert chosen(tank) == SUMP
    run(tank, HOUR_S, [drift])
    assert chosen(tank) == SUMP and abs(tank.pools["tank"].true_c - 25.5) < 0.3


def test_before_half_a_day_is_learnt_their_mean_regulates() -> None:
    tank = taught(9.0)
    steps = run(tank, 2 * HOUR_S, [trouble(tank, Fault.DRIFT_UP, SUMP)], until=Found.PROBES_DISAGREE)
    assert chosen(tank) == "" and balance(tank).value is None
    (text,) = [each.text for each in steps[-1].findings if each.kind is Found.PROBES_DISAGREE]
    assert "their mean regulates" in text


def test_two_that_drift_apart_are_met_half_way_or_by_the_better_one() -> None:
    """Nobody can tell for sure; the water stays within what the nearer one is off by, and the alarm stands."""
    tank = taught(82.0)
    both = [trouble(tank, Fault.DRIFT_UP, TANK), trouble(tank, Fault.DRIFT_DOWN, SUMP)]
    step = run(tank, HOUR_S, both)[-1]
    assert any(each.kind is Found.PROBES_DISAGREE for each in step.findings)
    assert abs(tank.pools["tank"].true_c - 25.5) < 0.15 + 0.5


@pytest.mark.parametrize("fault", [Fault.DRIFT_UP, Fault.DRIFT_DOWN])
def test_a_wrong_vote_costs_what_that_probe_is_off_and_never_passes_the_limit(fault: Fault) -> None:
    """The bound: the chosen probe's own error, and for heat the limit on the other one besides."""
    tank = taught(92.0)
    wrong = replace(balance(tank), vote=Vote(chosen=TANK, firm=True))
    tank.state = replace(tank.state, balances={"tank": wrong})
    highest = lowest = 25.5
    for _ in run(tank, 8 * HOUR_S, [trouble(tank, fault, TANK)]):
        highest = max(highest, tank.pools["tank"].true_c)
        lowest = min(lowest, tank.pools["tank"].true_c)
    assert chosen(tank) == TANK
    limit = RULES.outputs["heater"].envelope.limits[0].above
    assert limit is not None
    assert highest < limit + 0.1, "the sump's own limit cuts whoever regulates"
    assert lowest > 25.5 - faults.DRIFT_MAX - 0.3


def test_a_limit_on_a_probe_that_was_voted_out_still_cuts() -> None:
    tank = taught(84.0)
    step = run(tank, 4 * HOUR_S, [trouble(tank, Fault.DRIFT_UP, SUMP)])[-1]
    assert chosen(tank) == TANK
    seen = run(tank, 4 * HOUR_S, [trouble(tank, Fault.DRIFT_UP, SUMP)])
    assert any(each.kind is Found.LIMIT for step in seen for each in step.findings)
    assert step.flows["heater"] in (0.0, 1.0)
