"""A year of a tank with a fault every day or two: the water stays where animals live."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from edge.control.faults import Fault
from tests.acceptance import tank_year
from tests.acceptance.tank_year import Fate, Plan, Year

HALVES = 2


def test_the_water_stays_in_its_band_for_a_year_of_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """Two halves at once: every day's room is the same, so that they make one year.  Replay one half by its seed."""
    seed, days = tank_year.seed_of(os.environ), tank_year.days_of(os.environ)
    seeds = [seed + half for half in range(HALVES)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(HALVES, mp_context=context) as pool:
        years = list(pool.map(tank_year.live, seeds, [days / HALVES] * HALVES))
    told = [wrong for year in years for wrong in tank_year.wrongs(year)]
    cut_off = [line for year in years for line in tank_year.cut_off(year)]
    with capsys.disabled():
        for year in years:
            print("\n" + tank_year.table(year))
        print("".join(f"\nTHE LIMIT STOOD: {line}" for line in cut_off))
        print("".join(f"\nNOT MET YET: {line}" for year in years for line in tank_year.not_met(year)))
    assert told == []
    assert sum(year.steps for year in years) == pytest.approx(days * 86_400 / tank_year.STEP_S, abs=HALVES)
    if days >= tank_year.DAYS:
        assert {plan[:2] for plan in tank_year.MASTERED} <= {
            (fate.plan.fault, fate.plan.subjects) for year in years for fate in year.fates
        }, "not every fault came; take another seed"


def _fate(fault: Fault = Fault.STUCK, **changes: float) -> Fate:
    plan = Plan(begin_s=0.0, length_s=3600.0, fault=fault, subjects=("heater",))
    fate = Fate(plan=plan, begin_s=0.0, end_s=3600.0, low_c=25.3, high_c=25.7, back_s=0.0)
    for name, value in changes.items():
        setattr(fate, name, value)
    return fate


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        (_fate(low_c=23.9), "went from 23.90"),
        (_fate(high_c=27.6), "to 27.60"),
        (_fate(late_s=60.0), "2.0 h (with all there is, all the time)"),
        (_fate(idle_s=60.0), "not all worked"),
    ],
)
def test_a_year_that_went_wrong_is_told(fate: Fate, told: str) -> None:
    year = Year(seed=1, days=1, fates=[fate], quiet_low_c=25.3, quiet_high_c=25.7)
    assert told in "\n".join(tank_year.wrongs(year))


def test_a_quiet_day_out_of_the_band_is_told() -> None:
    year = Year(seed=1, days=1, quiet_low_c=25.1, quiet_high_c=25.7)
    assert "without a fault" in "\n".join(tank_year.wrongs(year))


def test_an_alarm_that_never_came_is_told() -> None:
    (fault, subjects, found, about, _), *_ = tank_year.ALARMED
    plan = Plan(begin_s=0.0, length_s=7200.0, fault=fault, subjects=subjects, alarm=(found, about))
    late = Fate(plan=plan, begin_s=0.0, end_s=7200.0, demand_s=10.0)
    year = Year(seed=1, days=1, fates=[late], quiet_low_c=25.3, quiet_high_c=25.7)
    assert "within 10 minutes" in "\n".join(tank_year.wrongs(year))
    late.alarm_s = 599.0
    assert tank_year.wrongs(year) == []
    late.warmth_demand_s = 10.0
    assert "by temperature alone" in "\n".join(tank_year.wrongs(year))
    late.warmth_s = 601.0
    assert "after 601 s by temperature alone" in "\n".join(tank_year.not_met(year))
    late.warmth_s = 661.0
    assert tank_year.not_met(year) == []
    assert "by temperature alone" in "\n".join(tank_year.wrongs(year))
    late.warmth_s = 600.0
    assert tank_year.wrongs(year) == []


def test_only_a_limit_on_a_probe_that_drifted_up_allows_more_than_two_hours() -> None:
    """And then no more than full heat takes from the coldest water that this limit leaves, in the room of that hour."""
    for fault in (Fault.DRIFT_DOWN, Fault.STUCK):
        assert tank_year.allowed_s(_drift(fault, hours=9.0, limited=True)) == tank_year.RECOVER_S
    assert tank_year.allowed_s(_drift(Fault.DRIFT_UP, hours=9.0, limited=False)) == tank_year.RECOVER_S
    cold = _drift(Fault.DRIFT_UP, hours=27.0, limited=True)  # ends at three in the morning
    assert 3 * 3600 < tank_year.allowed_s(cold) < 12 * 3600
    warm = _drift(Fault.DRIFT_UP, hours=15.0, limited=True)  # in the afternoon
    assert tank_year.allowed_s(warm) == tank_year.RECOVER_S
    cold.late_s = 20 * 3600.0
    year = Year(seed=1, days=1, fates=[cold], quiet_low_c=25.3, quiet_high_c=25.7)
    assert "it came back" in "\n".join(tank_year.wrongs(year))


def _drift(fault: Fault, *, hours: float, limited: bool) -> Fate:
    plan = Plan(begin_s=0.0, length_s=hours * 3600.0, fault=fault, subjects=(tank_year.PROBES[1],))
    fate = Fate(plan=plan, begin_s=0.0, end_s=hours * 3600.0, low_c=24.7, high_c=25.7, limited=limited)
    fate.back_s = 0.0
    return fate


def test_the_same_seed_gives_the_same_faults() -> None:
    assert list(tank_year.plans(7, 60)) == list(tank_year.plans(7, 60))
    assert list(tank_year.plans(7, 60)) != list(tank_year.plans(8, 60))
