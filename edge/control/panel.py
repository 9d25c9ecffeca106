"""What people and programs are told about outputs: level, reasons, and what the hardware says, as JSON holds it."""

from __future__ import annotations

from typing import Any

from edge.control.loop import ControlLoop
from edge.control.why import why


def outputs(loop: ControlLoop) -> list[dict[str, Any]]:
    """Every output, in the order of the config."""
    return [output(loop, name) for name in loop.rules.outputs]


def output(loop: ControlLoop, name: str) -> dict[str, Any]:
    """One output: what was decided and why, what is believed and read back, the override in force.

    While the clock is not known `since` and `until` are None; how long ago and how long yet is told all the same.
    """
    rule = loop.rules.outputs[name]
    status = loop.bank.status(name) if name in loop.bank.names() else {"state": "starting", "fault": ""}
    found: dict[str, Any] = {"name": name, "kind": rule.kind.value, "dimmable": rule.dimmable} | status
    if loop.outcome is None or loop.state is None:
        text = f"{name} is at its safe level: nothing is decided"
        told: dict[str, Any] = {
            "level": rule.safe,
            "text": text,
            "cause": None,
            "overruled": [],
            "since": None,
        }
    else:
        told = why(name, loop.state, loop.now(), loop.rules)
    cause = told["cause"]
    return found | {
        "level": told["level"],
        "cause": cause,
        "overruled": told["overruled"],
        "since": told["since"],
        "since_s": told.get("since_s"),
        "until": cause["until"] if cause else None,
        "override": override(loop, name),
        "sentence": told["text"],
    }


def override(loop: ControlLoop, name: str) -> dict[str, Any] | None:
    """The override in force, with the seconds it has left."""
    held = loop.held(name)
    if held is None or loop.state is None:
        return None
    return {
        "level": held.level, "remaining_s": round(max(0.0, held.end_s - loop.state.powered_s), 1),
        "who": held.who, "why": held.why, "blind": held.blind,
    }  # fmt: skip
