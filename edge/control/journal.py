"""The journal of outputs: every change is a row when it is decided, and another when the hardware has done it or not.

Rows are events of kind `output`; the queue behind `put` is bounded, and what it drops is counted there.  A ramp is
one change, not one a step.  The newest changes of each output are kept in memory too, for where there is no database;
those from before the start are added when the database is open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from edge.clock import Clock, iso_utc
from edge.control.model import Decision, Held, Layer
from edge.supervisor import PutEvent

KIND: Final = "output"
CHANGES_KEPT: Final = 10
ROWS_PER_CHANGE: Final = 3
"""A change is two rows, decided and done; some rows may be of a change whose other row is older."""
INTERRUPTED: Final = "the daemon ended before the hardware had done it"
SAME: Final = 1e-6
"""Levels closer than this are the same."""

State = Literal["pending", "success", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of an output: from a level to another, by whom and why, and what became of it."""

    id: str
    ts_ms: int
    output: str
    before: float | None
    to: float
    layer: str
    guard: str | None
    cause: str
    text: str
    who: str = ""
    why: str = ""
    state: State = "pending"
    error: str = ""

    def body(self) -> dict[str, Any]:
        """What stands in the event."""
        found = {
            "change": self.id, "state": self.state, "from": self.before, "to": self.to, "layer": self.layer,
            "guard": self.guard, "cause": self.cause, "text": self.text, "who": self.who, "why": self.why,
            "error": self.error,
        }  # fmt: skip
        return {key: value for key, value in found.items() if value not in ("", None)}

    def as_json(self) -> dict[str, Any]:
        return {"ts": iso_utc(self.ts_ms), "output": self.output} | self.body()


@dataclass(slots=True)
class _Followed:
    """What is known of one output between ticks."""

    level: float | None = None
    goal: float | None = None
    open: Change | None = None


class Journal:
    """Owned by the event loop; every method is cheap.

    put  takes an event: (kind, subject, severity, body); must not block
    """

    def __init__(self, clock: Clock, put: PutEvent) -> None:
        self._clock = clock
        self._put = put
        self._followed: dict[str, _Followed] = {}
        self._changes: dict[str, deque[Change]] = {}
        self._before: dict[str, Sequence[Mapping[str, Any]]] = {}
        # Ids are unique over restarts: the monotonic clock of one boot, or another boot's wall clock, differs.
        self._run = f"{clock.boot_id[:8]}-{round(clock.monotonic_s() * 1000):x}"
        self._count = 0

    def decided(self, decision: Decision, held: Held | None) -> None:
        """An output shall be at a level: a new row if that is a change, and not a step of the ramp it is on."""
        followed = self._followed.setdefault(decision.output, _Followed())
        before, goal = followed.level, decision.cause.level
        followed.level = decision.level
        if before is not None and abs(before - decision.level) < SAME:
            return
        on_its_way = (
            followed.open is not None and followed.goal is not None and abs(followed.goal - goal) < SAME
        )
        followed.goal = goal
        if on_its_way:
            return
        if followed.open is not None:
            self._close(followed, "failed", "overtaken by the next change")
        self._open(followed, decision, before, held)

    def _open(self, followed: _Followed, decision: Decision, before: float | None, held: Held | None) -> None:
        self._count += 1
        cause = decision.cause
        by_hand = held if cause.layer is Layer.OVERRIDE else None
        followed.open = Change(
            id=f"{self._run}-{self._count}", ts_ms=self._clock.now_ms(), output=decision.output, before=before,
            to=cause.level if before is not None else decision.level, layer=cause.layer.name.lower(),
            guard=None if cause.guard is None else cause.guard.name.lower().replace("_", "-"), cause=cause.name,
            text=cause.text, who=by_hand.who if by_hand else "", why=by_hand.why if by_hand else "",
        )  # fmt: skip
        self._changes.setdefault(decision.output, deque(maxlen=CHANGES_KEPT)).append(followed.open)
        self._put(KIND, decision.output, "info", followed.open.body())

    def written(self, output: str, level: float, error: str, *, moving: bool) -> None:
        """The hardware did what it was told, or could not; a ramp is done when it no longer moves."""
        followed = self._followed.get(output)
        if followed is None or followed.open is None:
            return
        if error:
            self._close(followed, "failed", error)
        elif not moving and followed.level is not None and abs(followed.level - level) < SAME:
            followed.open = self._reached(followed.open, level)
            self._close(followed, "success", "")

    def _reached(self, change: Change, level: float) -> Change:
        """An envelope may have stopped it before its goal: the row tells where it really went."""
        kept = self._changes[change.output]
        reached = replace(change, to=level)
        if change in kept:
            kept[kept.index(change)] = reached
        return reached

    def _close(self, followed: _Followed, state: State, error: str) -> None:
        assert followed.open is not None
        done = replace(followed.open, state=state, error=error)
        kept = self._changes[done.output]
        if followed.open in kept:
            kept[kept.index(followed.open)] = done
        followed.open = None
        self._put(KIND, done.output, "warning" if state == "failed" else "info", done.body())

    def recall(self, output: str, changes: Sequence[Mapping[str, Any]]) -> None:
        """Its newest changes as the database has them, the newest first; what is known already stays as it is."""
        earlier = [change for change in changes if not str(change["change"]).startswith(f"{self._run}-")]
        self._before[output] = [interrupted(change) for change in earlier]

    def changes(self, output: str) -> list[dict[str, Any]]:
        """Its newest changes, the newest first; those before the start as far as `recall` was told of them."""
        since = [change.as_json() for change in reversed(self._changes.get(output, ()))]
        before = [dict(change) for change in self._before.get(output, ())]
        return (since + before)[:CHANGES_KEPT]

    def forget(self, output: str) -> None:
        """It is no longer there."""
        for known in (self._followed, self._changes, self._before):
            known.pop(output, None)


def interrupted(change: Mapping[str, Any]) -> dict[str, Any]:
    """A change of a daemon that is gone: what was under way then will never be told to have succeeded."""
    if change.get("state") != "pending":
        return dict(change)
    return dict(change) | {"state": "failed", "error": INTERRUPTED}


def changes_of(events: list[dict[str, Any]], limit: int = CHANGES_KEPT) -> list[dict[str, Any]]:
    """Changes from rows of events (newest first): each once, with its time of decision and what became of it."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        body = event.get("body")
        if event.get("kind") != KIND or not isinstance(body, Mapping) or "change" not in body:
            continue
        change = found.setdefault(str(body["change"]), dict(body))
        change |= {"ts": event["ts"], "output": event["subject"]}
    return list(found.values())[:limit]
