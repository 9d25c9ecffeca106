"""The first seconds of control: safe at once, without crying wolf, and with what was before the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Quality
from edge.control.inputs import START_QUIET_S
from edge.control.journal import CHANGES_KEPT, INTERRUPTED, Journal, changes_of
from edge.control.model import Cause, Decision, Layer
from edge.control.rules import Envelope, Kind, Rules, Thermostat
from tests.stores import a_reading
from tests.unit.control_parts import rules_of
from tests.unit.test_control_loop import Site, override

pytestmark = pytest.mark.anyio


def heated() -> Rules:
    """A heater at a thermostat with two probes."""
    rules = rules_of("heater", "light")
    heater = replace(rules.outputs["heater"], kind=Kind.HEATER)
    tank = Thermostat(
        name="tank",
        input="tank.temperature",
        second="sump.temperature",
        target=26.0,
        band=0.4,
        heat=("heater",),
    )
    return replace(rules, outputs={**rules.outputs, "heater": heater}, thermostats=(tank,))


ABSENT = ("input-lost", "second-probe-in-use", "spare-probe-lost")


def alarms(site: Site) -> list[tuple[str, str]]:
    return [(event["kind"], event["subject"]) for event in site.events if event["kind"] in ABSENT]


async def test_before_the_first_readings_outputs_are_safe_and_nobody_is_alarmed(tmp_path: Path) -> None:
    async with Site(tmp_path, heated()).open() as site:
        await site.tick()
        decision = site.loop.outcome.decisions["heater"]  # type: ignore[union-attr]
        assert decision.cause.guard is not None
        assert site.heater.level == 0.0
        site.image.put(a_reading(site.clock, "tank.temperature", 25.0))
        await site.tick()
        site.image.put(a_reading(site.clock, "tank.temperature", 25.0))
        site.image.put(a_reading(site.clock, "sump.temperature", 25.0))
        await site.tick()
        assert site.heater.level == 1.0
        assert alarms(site) == []
        assert site.problems.texts() == []


async def test_a_probe_that_never_comes_is_an_alarm_within_the_stated_time(tmp_path: Path) -> None:
    async with Site(tmp_path, heated()).open() as site:
        await site.tick(START_QUIET_S - 1.0)
        assert alarms(site) == []
        await site.tick(2.0)
        assert alarms(site) == [("input-lost", "heater")]
        assert "heater has no input" in site.problems.texts()[0]


async def test_a_probe_that_fails_at_once_does_not_wait_when_all_have_been_asked(tmp_path: Path) -> None:
    async with Site(tmp_path, heated()).open() as site:
        for series in ("tank.temperature", "sump.temperature"):
            site.image.put(a_reading(site.clock, series, None, quality=Quality.BAD, reason="unavailable"))
        await site.tick()
        assert alarms(site) == [("input-lost", "heater")]


async def test_a_reload_neither_repeats_nor_ends_an_alarm_that_stands(tmp_path: Path) -> None:
    async with Site(tmp_path, heated()).open() as site:
        await site.tick(START_QUIET_S + 1.0)
        assert alarms(site) == [("input-lost", "heater")]
        await site.loop.change(site.rules, [site.heater.spec(), site.light.spec()])
        await site.tick()
        await site.tick()
        assert alarms(site) == [("input-lost", "heater")]
        assert site.problems.texts()


async def test_a_probe_whose_device_a_reload_replaced_has_its_time_again(tmp_path: Path) -> None:
    """As after another interval: what the old device read is dropped, and the new one was not polled yet."""
    async with Site(tmp_path, heated()).open() as site:
        for series in ("tank.temperature", "sump.temperature"):
            site.image.put(a_reading(site.clock, series, 25.0))
        await site.tick(START_QUIET_S + 1.0)
        for series in ("tank.temperature", "sump.temperature"):
            site.image.put(a_reading(site.clock, series, 25.0))
        await site.tick()
        assert site.heater.level == 1.0
        for series in ("tank.temperature", "sump.temperature"):
            site.image.drop(series)
        told = len(alarms(site))
        await site.tick()
        assert site.heater.level == 0.0
        assert alarms(site)[told:] == []
        await site.tick(START_QUIET_S + 1.0)
        assert ("input-lost", "heater") in alarms(site)[told:]


# ------------------------------------------------------------------------------------------------ journal


def decision(level: float) -> Decision:
    cause = Cause(layer=Layer.DEFAULT, name="default", text="nothing else asks", level=level)
    return Decision(output="heater", level=level, cause=cause, since_ms=0, since_s=0.0)


def driven(site: Site, *levels: float, done: bool = True) -> list[dict[str, Any]]:
    """A run of the daemon that changes the heater so; its rows, the newest first, as the database gives them."""
    told: list[dict[str, Any]] = []

    def put(kind: str, subject: str, severity: str, body: Any) -> None:
        told.append(
            {"ts": str(len(told)), "kind": kind, "subject": subject, "severity": severity, "body": body}
        )

    journal = Journal(site.clock, put)
    for level in levels:
        journal.decided(decision(level), None)
        if done:
            journal.written("heater", level, "", moving=False)
    site.clock.pass_s(60.0)
    return list(reversed(told))


def test_what_was_before_the_start_is_told_after_it_and_only_ten_in_all(tmp_path: Path) -> None:
    site = Site(tmp_path)
    rows = driven(site, *(number / 10 for number in range(9)))
    journal = Journal(site.clock, lambda *_event: None)
    journal.decided(decision(0.0), None)
    journal.written("heater", 0.0, "", moving=False)
    journal.recall("heater", changes_of(rows))
    assert [change["to"] for change in journal.changes("heater")] == [
        0.0,
        *(n / 10 for n in range(8, -1, -1)),
    ]
    journal.decided(decision(1.0), None)
    told = journal.changes("heater")
    assert len(told) == CHANGES_KEPT
    assert [change["to"] for change in told[:3]] == [1.0, 0.0, 0.8]
    journal.forget("heater")
    assert journal.changes("heater") == []


def test_a_change_that_the_end_of_the_daemon_cut_short_does_not_stay_pending(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (row,) = driven(site, 1.0, done=False)
    assert row["body"]["state"] == "pending"
    journal = Journal(site.clock, lambda *_event: None)
    journal.recall("heater", changes_of([row]))
    (change,) = journal.changes("heater")
    assert (change["state"], change["error"]) == ("failed", INTERRUPTED)


def test_what_the_database_holds_of_this_run_is_not_told_twice(tmp_path: Path) -> None:
    site = Site(tmp_path)
    told: list[dict[str, Any]] = []
    journal = Journal(
        site.clock,
        lambda kind, subject, _severity, body: told.insert(
            0, {"ts": "0", "kind": kind, "subject": subject, "body": body}
        ),
    )
    journal.decided(decision(1.0), None)
    journal.recall("heater", changes_of(told))
    assert len(journal.changes("heater")) == 1


async def test_a_slow_change_by_the_slew_is_one_change_not_one_a_step(tmp_path: Path) -> None:
    rules = rules_of("heater", "light")
    slow = replace(rules.outputs["light"], envelope=Envelope(slew_per_s=0.1))
    rules = replace(rules, outputs={**rules.outputs, "light": slow})
    async with Site(tmp_path, rules).open() as site:
        await site.tick()
        before = len(site.told("output"))
        await site.ask(override("light", 0.5))
        for _ in range(12):
            await site.tick(0.5)
        rows = [event["body"] for event in site.told("output")[before:]]
        assert site.light.level == 0.5
        assert [(row["state"], row["to"]) for row in rows] == [("pending", 0.5), ("success", 0.5)]
