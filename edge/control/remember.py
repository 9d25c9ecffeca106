"""What of control's state survives a restart, as JSON, and how it is taken up again.

An outage counts only where it can be measured: within one boot by the monotonic clock, over a reboot by the wall
clock where that was trusted at both ends, else as no time at all (nothing recovers, nothing runs out).  What
happened between the last write and the death is not known: an output that was on is taken to have stayed on for
SAVE_EVERY_S more, and one that was off to have stayed off.  Outputs start at safe, compressors as just stopped;
an output whose hardware outlived the daemon starts where it was found to stand, whatever was remembered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from edge.control import envelope
from edge.control.balance import recalled, remembered
from edge.control.decide import used_up
from edge.control.model import ControlState, Held, Learnt, Now, OutputState, Side
from edge.control.rules import OVERRIDE_MAX_S, Curve, Kind, OutputRule, Rules
from edge.control.settle import fresh_output
from edge.control.windows import Runs, closed

VERSION: Final = 1
SAVE_EVERY_S: Final = 60.0
"""What is on disk is never older than this."""
NOTHING_FOUND: Final[Mapping[str, float]] = {}


def remember(state: ControlState) -> dict[str, Any]:
    """The JSON-able part that `recall` needs."""
    last = state.last or Now(wall_ms=0, monotonic_s=0.0, clock="unknown")
    return {
        "version": VERSION,
        "wall_ms": last.wall_ms,
        "monotonic_s": last.monotonic_s,
        "clock": last.clock,
        "boot_id": last.boot_id,
        "powered_s": state.powered_s,
        "sides": {name: str(side) for name, side in state.sides.items()},
        "active": sorted(state.active),
        "balances": {name: remembered(balance) for name, balance in state.balances.items()},
        "outputs": {name: _output(output, state.powered_s) for name, output in state.outputs.items()},
    }


def must_save(written: ControlState | None, state: ControlState) -> bool:
    """Whether the disk must hear of it: something that survives has changed, or what was written grows old."""
    if written is None or state.powered_s - written.powered_s >= SAVE_EVERY_S:
        return True
    if written.sides != state.sides or written.active != state.active:
        return True
    if written.outputs.keys() != state.outputs.keys():
        return True
    return any(_differs(written.outputs[name], output) for name, output in state.outputs.items())


def _differs(old: OutputState, new: OutputState) -> bool:
    if old is new:
        return False
    return (
        old.changed_s != new.changed_s
        or old.held != new.held
        or old.limited != new.limited
        or (old.lost_s, old.on_spent, old.off_spent, old.welded, old.unconfirmed)
        != (new.lost_s, new.on_spent, new.off_spent, new.welded, new.unconfirmed)
        or old.learnt.hours != new.learnt.hours
    )


def recall(
    saved: Mapping[str, Any] | None, rules: Rules, now: Now, found: Mapping[str, float] = NOTHING_FOUND
) -> ControlState:
    """The state to go on with after a restart; with nothing, or nothing sound, to recall: `used_up`.  Never raises.

    found  where outputs stand, as their hardware says; those that are not in it stand at safe
    """
    if saved is not None:
        try:
            return _recall(saved, rules, now, found)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            pass  # what cannot be understood is no memory
    return standing(used_up(rules, now), rules, found)


def standing(state: ControlState, rules: Rules, found: Mapping[str, float]) -> ControlState:
    """A state without memory, with outputs where they were found: on or off for long enough to be free to change."""
    outputs = {
        name: _found(rule, state.outputs[name], found.get(name), state.powered_s)
        for name, rule in rules.outputs.items()
    }
    return replace(state, outputs=outputs)


def _found(rule: OutputRule, was: OutputState, level: float | None, since_s: float) -> OutputState:
    """An output as it was found; what nobody here has turned, since `since_s` at the latest, is free to turn back."""
    if level is None:
        return was
    if (level > 0.0) is (was.level > 0.0):
        return replace(was, level=level)
    rest_s = max(rule.envelope.on_min_s, rule.envelope.off_min_s)
    return replace(was, level=level, changed_s=since_s - rest_s)


def _recall(saved: Mapping[str, Any], rules: Rules, now: Now, found: Mapping[str, float]) -> ControlState:
    if saved["version"] != VERSION:
        raise ValueError("another version")
    was_s = _number(saved["powered_s"])
    same_boot = bool(now.boot_id) and saved["boot_id"] == now.boot_id
    outage_s = _outage_s(saved, now, same_boot=same_boot)
    gap = _Gap(was_s, 0.0 if outage_s is None else outage_s, same_boot=same_boot, known=outage_s is not None)
    outputs = {}
    for name, rule in rules.outputs.items():
        body = saved["outputs"].get(name)
        if body is None:
            outputs[name] = _found(rule, fresh_output(rule, gap.now_s), found.get(name), gap.now_s)
        else:
            outputs[name] = gap.over(rule, _parse(body, was_s), found.get(name))
    balances = {name: recalled(body, gap.now_s) for name, body in dict(saved.get("balances", {})).items()}
    return ControlState(
        outputs=outputs,
        powered_s=gap.now_s,
        balances={name: balance for name, balance in balances.items() if balance is not None},
        sides={str(name): Side(side) for name, side in saved["sides"].items()},
        active=frozenset(str(name) for name in saved["active"]),
        last_rise_s=gap.now_s,
        last=now,
    )


def _outage_s(saved: Mapping[str, Any], now: Now, *, same_boot: bool) -> float | None:
    """Seconds since what was saved, None where that cannot be known."""
    monotonic_s = now.monotonic_s - _number(saved["monotonic_s"])
    if same_boot and monotonic_s >= 0.0:
        return monotonic_s
    wall_s = (now.wall_ms - int(saved["wall_ms"])) / 1000
    if now.trusted and saved["clock"] in ("synced", "holdover") and wall_s >= 0.0:
        return wall_s
    return None


class _Gap:
    """The time between what was saved and now, in powered seconds."""

    def __init__(self, was_s: float, outage_s: float, *, same_boot: bool, known: bool) -> None:
        self.was_s, self.now_s = was_s, was_s + outage_s
        self.same_boot = same_boot
        self.alive_s = was_s + min(outage_s, SAVE_EVERY_S)  # it may have lived on for so long
        self.unseen_s = 0.0 if known else SAVE_EVERY_S

    def over(self, rule: OutputRule, was: OutputState, found: float | None) -> OutputState:
        """The output on this side of the gap: where it was found, else at safe."""
        safe = envelope.shape(rule, rule.safe)
        level = safe if found is None else found
        cross = self._at_safe if (level > 0.0) is (safe > 0.0) else self._outlived
        was = cross(rule, was, level)
        held = was.held if was.held is not None and was.held.end_s > self.now_s else None
        if held is not None and not self.same_boot:
            held = replace(held, blind=False)  # whoever stood there may have left
        return replace(was, held=held)

    def _at_safe(self, rule: OutputRule, was: OutputState, level: float) -> OutputState:
        """It went safe when the daemon ended, or stood there."""
        was_on = was.level > 0.0
        on_runs, off_runs = self._runs(rule, was, was_on=was_on)
        stays = was_on is (level > 0.0) and (self.same_boot or level <= 0.0)
        changed_s = was.changed_s if stays and rule.kind is not Kind.CHILLER else self.now_s
        return replace(was, level=level, changed_s=changed_s, on_runs=on_runs, off_runs=off_runs)

    def _outlived(self, rule: OutputRule, was: OutputState, level: float) -> OutputState:
        """It stands on the other side than safe: without the daemon it stayed there, or else something turned it."""
        if (was.level > 0.0) is (level > 0.0):
            return replace(was, level=level, changed_s=was.changed_s - self.unseen_s)
        bounds, on_runs, off_runs = rule.envelope, was.on_runs, was.off_runs
        if was.level > 0.0 and bounds.on_max_s > 0.0:
            on_runs = closed(on_runs, was.changed_s, self.alive_s, bounds.on_window_s)
        if was.level <= 0.0 and bounds.off_max_s > 0.0:
            off_runs = closed(off_runs, was.changed_s, self.now_s, bounds.off_window_s)
        turned = _found(rule, was, level, self.was_s - self.unseen_s)  # at the earliest
        return replace(turned, on_runs=on_runs, off_runs=off_runs)

    def _runs(self, rule: OutputRule, was: OutputState, *, was_on: bool) -> tuple[Runs, Runs]:
        """Both windows' runs with what was going on when it was saved, and with the outage."""
        bounds, on_runs, off_runs = rule.envelope, was.on_runs, was.off_runs
        safe_on = rule.safe > 0.0
        if was_on and not (safe_on and self.same_boot) and bounds.on_max_s > 0.0:
            begin_s = was.changed_s - self.unseen_s
            on_runs = closed(on_runs, begin_s, self.alive_s, bounds.on_window_s)
        if bounds.off_max_s > 0.0 and (not was_on or not self.same_boot or not safe_on):
            # Off before, or without power since: all of it was off-time, unless it goes on being off.
            begin_s = self.was_s if was_on else was.changed_s
            if safe_on or was_on:
                off_runs = closed(off_runs, begin_s, self.now_s, bounds.off_window_s)
        return on_runs, off_runs


def _output(output: OutputState, powered_s: float) -> dict[str, Any]:
    held = output.held
    return {
        "level": output.level,
        "changed_s": output.changed_s,
        "on_runs": [list(run) for run in output.on_runs],
        "off_runs": [list(run) for run in output.off_runs],
        "on_spent": output.on_spent,
        "off_spent": output.off_spent,
        "limited": list(output.limited),
        "lost_s": output.lost_s,
        "welded": output.welded,
        "unconfirmed": output.unconfirmed,
        "learnt": [list(hour) for hour in output.learnt.hours],
        "learning": [output.learnt.on_s, output.learnt.total_s],
        "override": None if held is None else _held(held, powered_s),
    }


def _held(held: Held, powered_s: float) -> dict[str, Any]:
    return {
        "level": held.level,
        "begin_s": held.begin_s,
        "end_s": held.end_s,
        "remaining_s": held.end_s - powered_s,
        "ramp_s": held.ramp_s,
        "curve": str(held.curve),
        "who": held.who,
        "why": held.why,
        "blind": held.blind,
    }


def _parse(body: Mapping[str, Any], was_s: float) -> OutputState:
    on_s, total_s = body["learning"]
    if _number(body["changed_s"]) > was_s:
        raise ValueError("changed after it was saved")
    return OutputState(
        level=_number(body["level"]),
        changed_s=_number(body["changed_s"]),
        on_runs=_pairs(body["on_runs"]),
        off_runs=_pairs(body["off_runs"]),
        on_spent=bool(body["on_spent"]),
        off_spent=bool(body["off_spent"]),
        limited=tuple(str(name) for name in body["limited"]),
        lost_s=None if body["lost_s"] is None else _number(body["lost_s"]),
        welded=bool(body["welded"]),
        unconfirmed=bool(body["unconfirmed"]),
        learnt=Learnt(hours=_pairs(body["learnt"]), on_s=_number(on_s), total_s=_number(total_s)),
        held=None if body["override"] is None else _parse_held(body["override"]),
    )


def _parse_held(body: Mapping[str, Any]) -> Held:
    begin_s, end_s = _number(body["begin_s"]), _number(body["end_s"])
    level = _number(body["level"])
    if not (0.0 <= level <= 1.0 and end_s - begin_s <= OVERRIDE_MAX_S):
        raise ValueError("no override that was ever taken")
    return Held(
        level=level,
        begin_s=begin_s,
        end_s=end_s,
        ramp_s=_number(body["ramp_s"]),
        curve=Curve(body["curve"]),
        who=str(body["who"]),
        why=str(body["why"]),
        blind=bool(body["blind"]),
    )


def _pairs(rows: Any) -> tuple[tuple[float, float], ...]:
    return tuple((_number(first), _number(second)) for first, second in rows)


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a number")
    return number
