"""The pure step: who decides, thermostats, schedules by the clock's state, overrides, restarts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from drivers.base import Quality
from edge.control.decide import decide, fresh, used_up
from edge.control.model import Confirm, ControlState, Found, Guard, Layer, Now, Override, Release, Side
from edge.control.remember import SAVE_EVERY_S, must_save, recall, remember
from edge.control.rules import Envelope, Kind, Limit, Rules, Schedule, Unknown
from tests.unit.decide_parts import MORNING_MS, Site, heater, output, reading, static, tank


def set_to(level: float | None, name: str = "light", *, seconds: float = 3600.0, **more: Any) -> Override:
    return Override(output=name, level=level, remaining_s=seconds, who="anna", **more)


# Arbitration.


def test_each_layer_overrules_the_ones_below_and_says_so() -> None:
    site = Site(
        output("light", default=1.0, shed_on="mains.ok"),
        thermostats=[tank(heat=("light",))],
        schedules=[static(1.0, "light"), static(0.0, "light", name="night")],
    )
    site.put(mains__ok=1.0, tank__temperature=26.0).tick()
    cause, rest = site.decision("light").cause, site.decision("light").overruled
    assert (cause.layer, site.level("light")) == (Layer.CONTROLLER, 0.0)
    assert [(each.layer, each.name) for each in rest] == [
        (Layer.SCHEDULE, "day"),
        (Layer.SCHEDULE, "night"),
        (Layer.DEFAULT, "default"),
    ]
    site.tick(1, set_to(1.0))
    assert (site.decision("light").cause.layer, site.level("light")) == (Layer.OVERRIDE, 1.0)
    site.put(mains__ok=0.0).tick()
    assert (site.decision("light").cause.layer, site.level("light")) == (Layer.SAFETY, 0.0)
    layers = [each.layer for each in site.decision("light").overruled]
    assert layers == sorted(layers, reverse=True) and len(layers) == 5


def test_with_nothing_to_say_the_default_stands() -> None:
    site = Site(output("pump", Kind.PUMP, default=1.0), output("light"))
    site.tick()
    assert (site.level("pump"), site.level("light")) == (1.0, 0.0)
    assert site.decision("light").cause.layer is Layer.DEFAULT


def test_outputs_begin_at_safe_and_a_level_tells_since_when_it_stands() -> None:
    rules = Rules(outputs={"air": output("air", Kind.AIR, safe=1.0), "heater": heater()})
    state = fresh(rules, Now(wall_ms=0, monotonic_s=0.0))
    assert {name: each.level for name, each in state.outputs.items()} == {"air": 1.0, "heater": 0.0}
    site = Site(output("light"))
    site.tick()
    began = site.decision("light").since_s
    site.run(100)
    assert site.decision("light").since_s == began
    site.tick(1, set_to(1.0))
    assert site.decision("light").since_s == site.monotonic_s
    assert site.decision("light").since_ms == site.wall_ms


def test_a_tick_that_changes_nothing_makes_nothing_new() -> None:
    """What makes 50 outputs cheap, and the same decision object twice a proof of `since`."""
    site = Site(output("light"), schedules=[static(1.0, "light")])
    site.tick()
    state, decision = site.state.outputs["light"], site.decision("light")
    site.run(10)
    assert site.state.outputs["light"] is state and site.decision("light") is decision


def test_the_same_twice_is_the_same() -> None:
    site = Site(heater(), thermostats=[tank()], schedules=[static(1.0, "heater")])
    site.put(tank__temperature=25.0).tick()
    state, now = site.state, site.now
    assert decide(state, {}, site.rules, [], now) == decide(state, {}, site.rules, [], now)


# Thermostats.


def test_hysteresis_around_the_target() -> None:
    site = Site(heater(), thermostats=[tank()])
    seen = []
    for value in (25.5, 25.45, 25.39, 25.5, 25.59, 25.6, 25.5, 25.41, 25.3):
        site.put(tank__temperature=value).tick()
        seen.append(site.level())
    assert seen == [0, 0, 1, 1, 1, 0, 0, 0, 1]


def test_heat_and_cool_never_together_and_each_stops_at_the_target() -> None:
    site = Site(heater(), output("fan"), thermostats=[tank(cool=("fan",))])
    seen = []
    for value in (25.3, 25.45, 25.5, 25.55, 25.65, 25.55, 25.5, 25.3, 26.0, 24.0):
        site.put(tank__temperature=value).tick()
        seen.append((site.level(), site.level("fan")))
    assert seen == [(1, 0), (1, 0), (0, 0), (0, 0), (0, 1), (0, 1), (0, 0), (1, 0), (0, 0), (1, 0)]


def test_the_second_probe_regulates_while_the_first_is_lost() -> None:
    site = Site(heater(), thermostats=[tank(second="sump.temperature")])
    site.put(tank__temperature=26.0, sump__temperature=25.0).tick()
    assert site.level() == 0.0
    site.lose("tank.temperature").tick(61)
    assert site.level() == 1.0 and site.found(Found.SECOND_PROBE) == ["tank"]
    site.lose("sump.temperature").tick(61)
    assert site.level() == 0.0 and site.found(Found.INPUT_LOST) == ["heater"]
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0 and site.found(Found.SPARE_LOST) == ["sump.temperature"]


def test_what_stands_in_regulates_and_judges_and_a_person_is_told() -> None:
    limit = Limit(series="tank.temperature", above=27.0)
    site = Site(heater(envelope=Envelope(limits=(limit,))), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    assert site.level() == 1.0 and site.found(Found.SECOND_PROBE) == []
    lent = reading("tank.temperature", 25.1, float("inf"), Quality.ESTIMATED)
    for value, level in ((25.1, 1.0), (27.1, 0.0)):
        site.values.pop("tank.temperature", None)
        site.fixed["tank.temperature"] = replace(lent, value=value, reason="from sump.temperature")
        site.tick()
        assert site.level() == level and site.found(Found.SECOND_PROBE) == ["tank.temperature"]
    assert site.found(Found.LIMIT) == ["heater"]
    site.fixed["tank.temperature"] = replace(lent, value=25.0, reason="held")
    site.tick()
    assert site.found(Found.SECOND_PROBE) == [], "an estimate of its own is no stand-in"


def test_probes_that_disagree_are_both_doubted() -> None:
    site = Site(heater(), thermostats=[tank(second="sump.temperature", disagree=1.0)])
    site.put(tank__temperature=28.0, sump__temperature=22.5).tick()
    assert site.level() == 1.0 and site.found(Found.PROBES_DISAGREE) == ["tank"]
    site.put(tank__temperature=25.6, sump__temperature=24.7).tick()
    assert site.level() == 0.0 and site.found(Found.PROBES_DISAGREE) == []


def test_a_probe_that_stands_still_while_the_other_moves_is_stuck() -> None:
    site = Site(heater(), thermostats=[tank(second="sump.temperature", stuck=0.4)])
    site.put(tank__temperature=25.5, sump__temperature=25.5).tick()
    for value in (25.4, 25.3, 25.2):
        site.put(sump__temperature=value).tick()
        assert site.level() == 0.0
    site.put(sump__temperature=25.05).tick()
    assert site.level() == 1.0 and site.found(Found.PROBE_STUCK) == ["tank.temperature"]
    site.put(tank__temperature=25.0).tick()
    assert site.found(Found.PROBE_STUCK) == []


def test_out_of_band_is_an_alarm() -> None:
    site = Site(heater(), thermostats=[tank(alarm=0.5)])
    site.put(tank__temperature=25.1).tick()
    assert site.found(Found.OUT_OF_BAND) == []
    site.put(tank__temperature=24.9).tick()
    assert site.found(Found.OUT_OF_BAND) == ["tank"]


# Schedules and what the clock is worth.


def day(**more: Any) -> list[Schedule]:
    return [static(1.0, "light", daily=("08:00", "20:00"), **more)]


@pytest.mark.parametrize(
    ("policy", "level", "expected"),
    [(Unknown.HOLD, 0.0, 0.0), (Unknown.SAFE, 0.0, 0.0), (Unknown.LEVEL, 0.4, 0.4)],
)
def test_boot_in_1970_goes_by_the_policy_until_the_clock_is_known(
    policy: Unknown, level: float, expected: float
) -> None:
    site = Site(output("light", dimmable=True), schedules=day(unknown=policy, unknown_level=level))
    site.wall_ms, site.clock = 12 * 3_600_000, "unknown"
    site.tick()
    assert site.level("light") == expected and site.found(Found.CLOCK_UNKNOWN) == ["day"]
    site.wall_ms, site.clock = MORNING_MS + 3_600_000, "synced"
    site.tick()
    assert site.level("light") == 1.0 and site.found(Found.CLOCK_UNKNOWN) == []


def test_a_clock_that_becomes_unknown_holds_what_was_and_so_after_a_restart() -> None:
    site = Site(output("light"), schedules=day())
    site.tick()
    assert site.level("light") == 1.0
    site.clock = "unknown"
    site.run(13 * 3600, step_s=600)
    assert site.level("light") == 1.0
    saved = json.loads(json.dumps(remember(site.state)))
    site.wall_ms, site.monotonic_s, site.boot_id = 5000, 5.0, "boot-2"
    site.state = recall(saved, site.rules, site.now)
    site.tick()
    assert site.level("light") == 1.0
    site.clock, site.wall_ms = "synced", MORNING_MS + 13 * 3_600_000
    site.tick()
    assert site.level("light") == 0.0


def test_holdover_is_good_enough_and_clock_steps_are_simply_right() -> None:
    site = Site(output("light"), schedules=day())
    site.clock = "holdover"
    for hours, expected in (
        (0, 1.0),
        (13, 0.0),
        (-2, 0.0),
        (3, 1.0),
        (24 * 365, 1.0),
        (-24 * 365 * 20 + 13, 0.0),
    ):
        site.wall_ms = MORNING_MS + hours * 3_600_000
        site.tick()
        assert site.level("light") == expected, hours


def test_an_expired_schedule_says_so() -> None:
    site = Site(output("light"), schedules=[static(1.0, "light", valid_until_ms=MORNING_MS + 5000)])
    site.tick()
    assert site.level("light") == 1.0
    site.run(5)
    assert site.level("light") == 0.0 and site.found(Found.EXPIRED) == ["day"]


def test_a_schedules_ramp_goes_by_its_window_so_that_a_reboot_does_not_begin_it_again() -> None:
    site = Site(output("light", dimmable=True), schedules=day(ramp_s=1800.0))
    site.tick()
    site.run(899)
    assert site.level("light") == pytest.approx(0.5, abs=0.01)
    site.state = recall(remember(site.state), site.rules, site.now)
    site.tick()
    assert site.level("light") < 0.02, "it starts at safe"
    site.run(900)
    assert site.level("light") == 1.0, "and is where it should be at the same time"
    site.state = recall(remember(site.state), site.rules, site.now)
    site.tick()
    assert site.level("light") == 1.0
    site.run(12 * 3600 - 1803)
    assert site.level("light") == 1.0
    site.run(901)
    assert site.level("light") == pytest.approx(0.5, abs=0.01), "it fades out as it came"
    site.run(900)
    assert site.level("light") == 0.0


def test_on_times_of_a_day_add_up_through_decide() -> None:
    site = Site(output("light"), schedules=day())
    site.tick(0)
    assert site.run(86_400, step_s=10)["light"] == 12 * 3600


# Overrides.


def test_an_override_ends_by_the_monotonic_clock_whatever_the_wall_clock_does() -> None:
    site = Site(output("light"))
    site.tick(1, set_to(1.0, seconds=100))
    site.wall_ms -= 86_400_000
    site.run(99)
    assert site.level("light") == 1.0
    site.wall_ms += 10**11
    out = site.tick()
    assert site.level("light") == 0.0 and [name for name, _ in out.ended] == ["light"]


def test_an_override_is_bounded_and_can_be_released() -> None:
    site = Site(output("light"), override_max_s=600.0)
    site.tick(1, set_to(1.0, seconds=1e9))
    site.tick(599.5)
    assert site.level("light") == 1.0
    site.tick(1)
    assert site.level("light") == 0.0
    site.tick(1, set_to(1.0))
    out = site.tick(1, Release(output="light"))
    assert site.level("light") == 0.0 and len(out.ended) == 1
    assert site.tick(1, Release(output="light")).refusals == ()


def test_safe_is_a_level_too() -> None:
    site = Site(output("pump", safe=1.0, default=0.0))
    site.tick(1, set_to(None, "pump"))
    assert site.level("pump") == 1.0


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (set_to(1.0, "lihgt"), "there are: light"),
        (set_to(1.5), "between 0 and 1"),
        (set_to(float("nan")), "between 0 and 1"),
        (set_to(1.0, seconds=0.0), "an end"),
        (set_to(1.0, seconds=float("inf")), "an end"),
        (set_to(1.0, ramp_s=-1.0), "ramp"),
        (Release(output="nothing"), "no output nothing"),
        (Confirm(output="nothing"), "no output nothing"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason(
    request_: Override | Release | Confirm, says: str
) -> None:
    site = Site(output("light"))
    out = site.tick(1, request_)
    assert [says in each.text for each in out.refusals] == [True] and site.level("light") == 0.0


def test_from_afar_only_safe_and_release_are_taken_while_the_clock_is_unknown() -> None:
    site = Site(output("light"), output("pump", safe=1.0, default=0.0))
    site.clock = "unknown"
    assert len(site.tick(1, set_to(1.0, upstream=True)).refusals) == 1
    assert site.tick(1, set_to(1.0)).refusals == (), "a person at the site always may"
    assert site.tick(1, set_to(None, "pump", upstream=True), Release(output="light")).refusals == ()
    assert (site.level("light"), site.level("pump")) == (0.0, 1.0)


# Restarts.


def restarted(site: Site, outage_s: float, *, boot: str = "boot-2", clock: str = "synced") -> ControlState:
    """The state after the site was away for so long."""
    saved = json.loads(json.dumps(remember(site.state)))
    site.wall_ms += round(outage_s * 1000)
    site.clock = clock
    if boot == site.boot_id:
        site.monotonic_s += outage_s
    else:
        site.boot_id, site.monotonic_s = boot, 3.0
    site.state = recall(saved, site.rules, site.now)
    return site.state


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_an_override_survives_with_what_remains_of_it(boot: str) -> None:
    site = Site(output("light"))
    site.tick(1, set_to(1.0, seconds=1000))
    site.run(100)
    restarted(site, 300, boot=boot)
    site.tick(1)
    assert site.level("light") == 1.0
    assert site.state.outputs["light"].held is not None
    site.run(597)
    assert site.level("light") == 1.0
    site.run(3)
    assert site.level("light") == 0.0
    gone = Site(output("light"))
    gone.tick(1, set_to(1.0, seconds=1000))
    restarted(gone, 2000, boot=boot)
    gone.tick()
    assert gone.level("light") == 0.0


def test_an_outage_that_nobody_can_measure_counts_as_no_time() -> None:
    site = Site(output("topoff", envelope=Envelope(on_max_s=600, on_window_s=3600)))
    site.tick(1, set_to(1.0, "topoff", seconds=86_000))
    site.run(650)
    assert site.level("topoff") == 0.0
    restarted(site, 86_400, clock="unknown")
    site.tick()
    assert site.level("topoff") == 0.0, "nothing recovered"
    known = Site(output("topoff", envelope=Envelope(on_max_s=600, on_window_s=3600)))
    known.tick(1, set_to(1.0, "topoff", seconds=86_000))
    known.run(650)
    restarted(known, 7200)
    known.tick()
    assert known.level("topoff") == 1.0


def test_restarts_do_not_reset_a_window() -> None:
    """A site that dies every few minutes must not top off more than one that runs."""
    site = Site(output("topoff", envelope=Envelope(on_max_s=600, on_window_s=36_000)))
    site.tick(1, set_to(1.0, "topoff", seconds=86_000))
    on_s = 0.0
    for n in range(30):
        on_s += site.run(90)["topoff"]
        restarted(site, 5, boot=f"boot-{n + 5}", clock="unknown" if n % 2 else "synced")
    assert 300 < on_s <= 601


def test_a_pump_without_power_was_off() -> None:
    rule = output("return", Kind.RETURN, safe=1.0, envelope=Envelope(off_max_s=600, off_window_s=3600))
    site = Site(rule)
    site.run(1000)
    restarted(site, 1200)
    site.tick(1, set_to(0.0, "return"))
    assert site.level("return") == 1.0 and site.decision("return").cause.guard is Guard.OFF_TIME
    same = Site(rule)
    same.run(1000)
    restarted(same, 1200, boot="boot-1")
    same.tick(1, set_to(0.0, "return"))
    assert same.level("return") == 0.0, "within one boot the released line kept it on"


def test_a_compressor_rests_after_every_restart() -> None:
    site = Site(
        output("chiller", Kind.CHILLER, envelope=Envelope(off_min_s=300)),
        thermostats=[tank(heat=(), cool=("chiller",))],
    )
    site.put(tank__temperature=28.0).run(400)
    assert site.level("chiller") == 1.0
    restarted(site, 86_400)
    site.run(299)
    assert site.level("chiller") == 0.0
    site.run(2)
    assert site.level("chiller") == 1.0


def test_whoever_drove_blind_before_a_reboot_may_have_left() -> None:
    site = Site(heater(), thermostats=[tank()])
    site.tick(1, set_to(1.0, "heater", blind=True))
    assert site.level() == 1.0
    restarted(site, 10, boot="boot-1")
    site.tick()
    assert site.level() == 1.0
    restarted(site, 10)
    site.tick()
    assert site.level() == 0.0


def test_sides_and_learnt_duty_and_lost_inputs_survive() -> None:
    site = Site(heater(), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick()
    site.put(tank__temperature=25.5).tick()
    restarted(site, 5)
    assert site.state.sides == {"tank": Side.HEAT}
    site.tick()
    assert site.level() == 1.0, "in the middle of its band it goes on heating"
    site.lose("tank.temperature").tick(61)
    lost_s = site.state.outputs["heater"].lost_s
    restarted(site, 100)
    assert site.state.outputs["heater"].lost_s == lost_s


@pytest.mark.parametrize(
    "saved",
    [
        None,
        {},
        {"version": 99},
        {"version": 1, "powered_s": "soon"},
        {"version": 1, "powered_s": float("nan")},
        {
            "version": 1,
            "powered_s": 5,
            "boot_id": "",
            "monotonic_s": 1,
            "wall_ms": 1,
            "clock": "synced",
            "outputs": 7,
        },
    ],
)
def test_a_memory_that_cannot_be_read_counts_as_used_up(saved: dict[str, object] | None) -> None:
    site = Site(output("topoff", envelope=Envelope(on_max_s=600)), output("doser", Kind.DOSER))
    assert recall(saved, site.rules, site.now) == used_up(site.rules, site.now)


def test_damage_anywhere_in_a_memory_never_raises() -> None:
    site = Site(heater(envelope=Envelope(on_max_s=600)), thermostats=[tank()])
    site.put(tank__temperature=25.0).tick(1, set_to(1.0, "heater"))
    site.run(700)
    body = remember(site.state)["outputs"]["heater"]
    for key in body:
        for damage in (None, "x", -1, float("nan"), [], [[1]], {}, {"level": 5}, 1e300):
            saved = remember(site.state)
            saved["outputs"]["heater"][key] = damage
            recalled = recall(saved, site.rules, site.now)
            decide(recalled, {}, site.rules, [], site.now)


def test_what_must_be_written_is_known() -> None:
    site = Site(output("light"))
    site.tick()
    written = site.state
    assert must_save(None, written)
    site.run(30)
    assert not must_save(written, site.state)
    site.run(SAVE_EVERY_S)
    assert must_save(written, site.state)
    written = site.state
    site.tick(1, set_to(1.0))
    assert must_save(written, site.state)


def test_changed_rules_keep_what_they_still_know() -> None:
    site = Site(output("light"), output("old"))
    site.tick(1, set_to(1.0, seconds=1000), set_to(1.0, "old"))
    after = Site(output("light"), output("new", safe=1.0))
    after.state = site.state
    after.monotonic_s = site.monotonic_s
    out = after.tick()
    assert {name: each.level for name, each in out.decisions.items()} == {"light": 1.0, "new": 1.0}
