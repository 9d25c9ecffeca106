"""Why an output stands where it stands: a sentence for people, and the same as data."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from edge.clock import iso_utc
from edge.control.localtime import zone_of
from edge.control.model import Cause, ControlState, Decision, Layer, Now
from edge.control.quantities import level_words
from edge.control.rules import Rules
from edge.control.schedule import WALL_MAX_MS, WALL_MIN_MS
from edge.times import roughly


def sentence(output: str, state: ControlState, now: Now, rules: Rules) -> str:
    """One sentence: what it does, since when, why, until when, and who lost.  Raises KeyError for no such output."""
    rule = rules.outputs[output]
    known = state.outputs.get(output)
    if known is None or known.decision is None:
        level = level_words(rule.safe, dimmable=rule.dimmable)
        return f"{output} is at its safe level, {level}: nothing is decided yet."
    decision = known.decision
    level = level_words(decision.level, dimmable=rule.dimmable)
    parts = [f"{output} is {level}{_since(decision, now, rules)}"]
    parts.append(f" because {decision.cause.text}")
    left = _left(decision.cause, now)
    if left:
        parts.append(f", for {left} more")
    losers = [_loser(cause, rule.dimmable) for cause in _losers(decision)]
    if losers:
        parts.append(f"; overruled: {', '.join(losers)}")
    return "".join(parts) + "."


def why(output: str, state: ControlState, now: Now, rules: Rules) -> dict[str, Any]:
    """The same for programs.  Raises KeyError for no such output."""
    text = sentence(output, state, now, rules)
    known = state.outputs.get(output)
    decision = None if known is None else known.decision
    if decision is None:
        rule = rules.outputs[output]
        return {
            "output": output,
            "level": rule.safe,
            "text": text,
            "cause": None,
            "overruled": [],
            "since": None,
        }
    return {
        "output": output,
        "level": decision.level,
        "text": text,
        "cause": _cause(decision.cause, now),
        "overruled": [_cause(cause, now) for cause in decision.overruled],
        "since": iso_utc(_told(decision.since_ms)) if now.trusted else None,
        "since_s": max(0.0, now.monotonic_s - decision.since_s),
    }


def _cause(cause: Cause, now: Now) -> dict[str, Any]:
    return {
        "layer": cause.layer.name.lower(),
        "guard": None if cause.guard is None else cause.guard.name.lower().replace("_", "-"),
        "name": cause.name,
        "text": cause.text,
        "level": cause.level,
        "until": _until(cause, now),
        "remaining_s": None if cause.until_s is None else max(0.0, cause.until_s - now.monotonic_s),
    }


def _until(cause: Cause, now: Now) -> str | None:
    if cause.until_s is None or not now.trusted:
        return None
    left_s = cause.until_s - now.monotonic_s
    return iso_utc(_told(now.wall_ms + round(left_s * 1000))) if math.isfinite(left_s) else None


def _told(wall_ms: int) -> int:
    """A moment that can be written down, whatever the clock says."""
    return min(max(wall_ms, WALL_MIN_MS), WALL_MAX_MS)


def _losers(decision: Decision) -> list[Cause]:
    """Who lost, without the default: that always loses."""
    return [cause for cause in decision.overruled if cause.layer is not Layer.DEFAULT]


def _loser(cause: Cause, dimmable: bool) -> str:
    kinds = {
        Layer.OVERRIDE: f"{cause.name}'s hand",
        Layer.CONTROLLER: f"thermostat {cause.name}",
        Layer.SCHEDULE: f"schedule {cause.name}",
    }
    return f"{kinds.get(cause.layer, cause.name)} ({level_words(cause.level, dimmable=dimmable)})"


def _since(decision: Decision, now: Now, rules: Rules) -> str:
    passed_s = max(0.0, now.monotonic_s - decision.since_s)
    if not now.trusted or not WALL_MIN_MS <= decision.since_ms <= now.wall_ms:
        return f" for {roughly(passed_s)}" if passed_s >= 1.0 else ""
    zone = _zone(rules.zone)
    began = datetime.fromtimestamp(_told(decision.since_ms) // 1000, UTC).astimezone(zone)
    today = datetime.fromtimestamp(_told(now.wall_ms) // 1000, UTC).astimezone(zone)
    return f" since {began:%H:%M}" if began.date() == today.date() else f" since {began:%Y-%m-%d %H:%M}"


def _zone(name: str) -> ZoneInfo:
    try:
        return zone_of(name)
    except (KeyError, ValueError):
        return zone_of("UTC")


def _left(cause: Cause, now: Now) -> str:
    return "" if cause.until_s is None else roughly(max(0.0, cause.until_s - now.monotonic_s))
