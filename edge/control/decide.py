"""The pure step: (state, snapshot, rules, requests, now) -> outcome.  No I/O, no clock, the same every time.

Level-triggered: each tick looks at everything anew, so nothing is ever missed and nothing is done twice.
`fresh` and `used_up` are the states to begin with; `remember.recall` is the one after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from edge.control.model import ControlState, Now, Outcome, Request
from edge.control.overrides import take
from edge.control.rules import Kind, Rules
from edge.control.settle import fresh_output, settle
from edge.control.tick import Tick
from edge.image import Reading

NO_FAULTS: Final[frozenset[str]] = frozenset()


def decide(
    state: ControlState,
    snapshot: Mapping[str, Reading],
    rules: Rules,
    requests: Sequence[Request],
    now: Now,
    *,
    faulted: AbstractSet[str] = NO_FAULTS,
) -> Outcome:
    """What every output should be at `now`, and the state for the next tick.  Never raises on checked rules.

    faulted  outputs whose hardware does not answer: what they do is not known
    """
    tick = Tick(state, snapshot, rules, now, faulted)
    taken = take(state, rules, requests, now, tick.powered_s)
    tick.regulate(taken.confirmed)
    tick.read_schedules()
    for plan in tick.plan.outputs:
        name = plan.rule.name
        settle(tick, plan, taken.held.get(name), confirmed=name in taken.confirmed)
    tick.tell_stand_ins()
    return Outcome(
        state=_after(tick),
        decisions={name: tick.decisions[name] for name in rules.outputs},
        findings=tuple(tick.findings.values()),
        refusals=tuple(taken.refusals),
        ended=tuple(taken.ended),
        stuck=tick.inputs.stuck,
        moving=tick.moving,
    )


def _after(tick: Tick) -> ControlState:
    return ControlState(
        outputs=tick.outputs,
        powered_s=tick.powered_s,
        sides=tick.sides,
        active=tick.active,
        spans=tick.spans,
        pairs=tick.pairs,
        balances=tick.balances,
        waiting=tick.queue(),
        last_rise_s=tick.last_rise_s,
        last=tick.now,
    )


def fresh(rules: Rules, now: Now) -> ControlState:
    """The first start ever: nothing is used up, outputs stand at safe, compressors have just stopped."""
    outputs = {name: fresh_output(rule, 0.0) for name, rule in rules.outputs.items()}
    return ControlState(outputs=outputs, last=now, last_rise_s=0.0)


def used_up(rules: Rules, now: Now) -> ControlState:
    """The memory was lost, or is an old copy: windows count as used up, shortest times as just begun, and dosing
    waits for a person.
    """
    outputs = {}
    for name, rule in rules.outputs.items():
        bounds = rule.envelope
        outputs[name] = replace(
            fresh_output(rule, 0.0),
            changed_s=0.0,
            on_runs=((-bounds.on_max_s, 0.0),) if bounds.on_max_s > 0.0 else (),
            off_runs=((-bounds.off_max_s, 0.0),) if bounds.off_max_s > 0.0 else (),
            on_spent=bounds.on_max_s > 0.0,
            off_spent=bounds.off_max_s > 0.0,
            unconfirmed=rule.kind is Kind.DOSER,
        )
    return ControlState(outputs=outputs, last=now, last_rise_s=0.0)
