"""What others are told of a tick: the outputs' own series, what was found as problems and events, the journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from drivers.base import Quality
from edge.control.bank import Bank, Standing
from edge.control.journal import Journal
from edge.control.model import Finding, Found, Now, Outcome, Severity
from edge.control.parts import LEVEL_SERIES, OWN_POINTS
from edge.image import Image, Reading
from edge.supervisor import Problems, PutEvent
from edge.supervisor import Severity as ProblemSeverity

POINT_SILENCE_S: Final = 300.0
EFFECTS: Final = frozenset({Found.NO_EFFECT, Found.STILL_EFFECT})
NONE_QUIET: Final = frozenset[Found]()


@dataclass(slots=True)
class _Point:
    value: float | None
    recorded_s: float


class Teller:
    """Owned by the event loop; `tell` at every tick.

    put     takes an event; must not block
    record  takes the outputs' readings to be stored; must not block
    """

    def __init__(
        self,
        *,
        bank: Bank,
        journal: Journal,
        image: Image,
        problems: Problems,
        put: PutEvent,
        record: Callable[[Reading], None],
    ) -> None:
        self._bank = bank
        self._journal = journal
        self._image = image
        self._problems = problems
        self._put = put
        self._record = record
        self._findings: dict[tuple[Found, str], Finding] = {}
        self._points: dict[str, _Point] = {}

    def tell(self, outcome: Outcome, now: Now, *, quiet: frozenset[Found] = NONE_QUIET) -> None:
        """quiet: findings that are not begun to be told yet."""
        effects = {finding.subject for finding in outcome.findings if finding.kind in EFFECTS}
        faulted, names = self._bank.faulted(), self._bank.names()
        for name, decision in outcome.decisions.items():
            status = self._bank.status(name) if name in names else {}
            self._point(f"{name}.level", status.get("believed"), now, decimals=3)
            self._point(f"{name}.fault", float(name in faulted), now)
            self._point(f"{name}.effect", float(name in effects), now)
            self._point(f"{name}.age", status.get("age_s"), now, unit="s", store=False)
            state = outcome.state.outputs.get(name)
            self._journal.decided(decision, None if state is None else state.held)
            if status.get("state") == Standing.STUCK:
                self._journal.written(name, decision.level, str(status["fault"]), moving=False)
        for name, held in outcome.ended:
            body = {"level": held.level, "who": held.who, "why": held.why}
            self._put("override-ended", name, "info", body)
        self._tell_findings(outcome.findings, quiet)

    def forget(self, outputs: Iterable[str]) -> None:
        """They are no longer there."""
        for name in outputs:
            self._journal.forget(name)
            for point in OWN_POINTS:
                series = f"{LEVEL_SERIES}.{name}.{point}"
                self._image.drop(series)
                self._points.pop(series, None)

    def _tell_findings(self, findings: tuple[Finding, ...], quiet: frozenset[Found]) -> None:
        """A finding is there as long as it is true: its coming and its going are events."""
        told = {(finding.kind, finding.subject): finding for finding in findings}
        found = {key: one for key, one in told.items() if one.kind not in quiet or key in self._findings}
        for key, finding in found.items():
            before = self._findings.get(key)
            if finding.severity is not Severity.INFO:
                self._problems.set(_key(finding), finding.told, severity=_severity(finding))
            if before is None or before.severity is not finding.severity:
                self._put(finding.kind.value, finding.subject, finding.severity.value, {"text": finding.told})
        kept: dict[tuple[Found, str], Finding] = {}
        for key, finding in self._findings.items():
            if key not in found:
                still = _still_lost(finding, told.values())
                if still is not None and (still.kind, still.subject) not in found:
                    kept[key] = finding  # until that one is told
                else:
                    self._end(finding, still)
        self._findings = found | kept

    def _end(self, finding: Finding, still: Finding | None) -> None:
        self._problems.clear(_key(finding))
        body: dict[str, Any] = {"ended": True, "text": finding.text}
        if still is not None:
            body["still"] = still.text
        self._put(finding.kind.value, finding.subject, "info", body)

    def _point(
        self,
        point: str,
        value: float | None,
        now: Now,
        *,
        decimals: int = 0,
        unit: str = "",
        store: bool = True,
    ) -> None:
        """Into the image at every tick; stored when it changes, and now and then."""
        series = f"{LEVEL_SERIES}.{point}"
        reading = Reading(
            series=series, unit=unit, ts_ms=now.wall_ms, monotonic_s=now.monotonic_s, value=value,
            decimals=decimals, quality=Quality.BAD if value is None else Quality.GOOD,
            reason="no-answer" if value is None else "",
        )  # fmt: skip
        self._image.put(reading)
        last = self._points.get(series)
        if not store:
            return
        kept = None if value is None else round(value, decimals)  # a ramp's steps are finer
        if last is None or last.value != kept or now.monotonic_s - last.recorded_s >= POINT_SILENCE_S:
            self._points[series] = _Point(kept, now.monotonic_s)
            self._record(reading)


def _still_lost(ended: Finding, found: Collection[Finding]) -> Finding | None:
    """What is found now of the series that were lost when it was true: nothing is over with them."""
    if not set(ended.lost) <= {series for one in found for series in one.lost}:
        return None
    near = [one for one in found if not set(one.lost).isdisjoint(ended.lost)]
    return next((one for one in near if one.severity is Severity.ALARM), near[0] if near else None)


def _severity(finding: Finding) -> ProblemSeverity:
    return "alarm" if finding.severity is Severity.ALARM else "warning"


def _key(finding: Finding) -> str:
    return f"control.{finding.kind.value}.{finding.subject}"
