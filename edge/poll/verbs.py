"""What a person who calibrates a point asks of the daemon: its raw values, and that it does not count meanwhile."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final

from drivers import derived
from drivers.base import Kind, Point
from edge.clock import Clock
from edge.image import Image
from edge.local import LocalRefused, Peer
from edge.options import nearest
from edge.peers import asker
from edge.poll.calibrating import (
    HURRY_S,
    LEASE_MAX_S,
    LEASE_MIN_S,
    LEASE_S,
    Procedure,
)
from edge.poll.config import DeviceCommon
from edge.poll.device import DeviceState, PolledDevice
from edge.poll.point import PointFlow
from edge.poll.poller import Poller
from edge.supervisor import PutEvent

OUTCOME_CHARACTERS_MAX: Final = 64

GoesBy = Callable[[Collection[str]], list[dict[str, Any]]]
"""The outputs that control drives by these series, with their safe levels."""


class CalibrateVerbs:
    """The verbs, on one poller.  file: the config file, and when it was loaded (UTC milliseconds)."""

    def __init__(
        self,
        poller: Poller,
        image: Image,
        clock: Clock,
        put: PutEvent,
        *,
        file: Callable[[], tuple[Path, str]],
        goes_by: GoesBy,
        reload: str,
        keep: Callable[[], Awaitable[bool]],
    ) -> None:
        """file: the config and what it held when it was read; reload: the command that has it read again.

        keep  has the marks outlive the daemon; False where it cannot
        """
        self._poller = poller
        self._image = image
        self._clock = clock
        self._put = put
        self._file = file
        self._goes_by = goes_by
        self._reload = reload
        self._keep = keep

    async def info(self, args: dict[str, Any], _peer: Peer) -> Any:
        """What the point is now, and what would not count while it is calibrated (`alone`: nothing else of it)."""
        polled, flow = self._found(args)
        series = self._marked(polled, flow, args)
        gone = [
            one.series
            for one in polled.flows.values()
            if one.series in series and one.fallback in {"", *series}
        ]
        reading = self._image.get(flow.series)
        path, digest = self._file()
        return {
            "series": flow.series,
            "unit": flow.unit,
            "decimals": _decimals(polled, flow),
            "driver": polled.config.driver,
            "interval_s": polled.config.interval_s,
            "value": None if reading is None else reading.value,
            "quality": None if reading is None else reading.quality.label,
            "reason": "" if reading is None else reading.reason,
            "calibration": {"id": flow.calibration.id, "pairs": flow.calibration.pairs},
            "marked": sorted(series),
            "goes_by": self._goes_by(_and_derived(gone, [one.config for one in self._poller.devices()])),
            "file": str(path.absolute()),
            "digest": digest,
            "reload": self._reload,
        }

    async def begin(self, args: dict[str, Any], peer: Peer) -> Any:
        """From now on the point is bad, and what shares its body unless `alone`; `lease_s` without a look end that.

        kept  whether that outlives a restart of the daemon
        """
        who = await asker(peer)
        polled, flow = self._found(args)
        procedure, before = self._poller.calibrating.begin(
            flow.series,
            self._marked(polled, flow, args),
            _point(polled, flow),
            who=who,
            lease_s=_lease_s(args),
        )
        for series in procedure.marked:
            polled.leaves_place(series.partition(".")[2])
        kept = await self._keep()
        body = {"who": who, "why": str(args.get("why", "")), "marked": sorted(procedure.marked)}
        self._put("calibration-begun", flow.series, "info", body)
        self._hurry(procedure)
        return {"token": procedure.token, "lease_s": procedure.lease_s, "before": before, "kept": kept}

    async def look(self, args: dict[str, Any], _peer: Peer) -> Any:
        """The raw values since `after`; whoever looks is still there.

        gone  it ended, or somebody else (`by`) has it, or the daemon started anew since: begin again
        """
        polled, flow = self._found(args)
        procedure = self._own(flow.series, args)
        if procedure is None or procedure.point is None:
            other = None if procedure is not None else self._poller.calibrating.of_series(flow.series)
            return {"gone": True, "by": "" if other is None else other.who}
        self._poller.calibrating.renew(procedure)
        await self._keep()
        self._hurry(procedure)
        after = int(args.get("after", 0))
        return {
            "gone": False,
            "samples": [
                {"n": sample.n, "at_s": sample.at_s, "raw": sample.raw, "reason": sample.reason}
                for sample in procedure.samples
                if sample.n > after
            ],
            "calibration": flow.calibration.id,
            "error": polled.trouble.error if polled.state is not DeviceState.UP else "",
        }

    async def end(self, args: dict[str, Any], peer: Peer) -> Any:
        """It counts again."""
        who = await asker(peer)
        polled, flow = self._found(args)
        procedure = self._own(flow.series, args)
        if procedure is not None:
            self._poller.calibrating.end(procedure)
            await self._keep()
            outcome = str(args.get("outcome", ""))[:OUTCOME_CHARACTERS_MAX]
            self._put("calibration-ended", flow.series, "info", {"who": who, "outcome": outcome})
            self._poller.hurry(polled.name)
        return {"ended": procedure is not None}

    def _own(self, series: str, args: dict[str, Any]) -> Procedure | None:
        procedure = self._poller.calibrating.of_series(series)
        own = procedure is not None and procedure.series == series and procedure.token == args.get("token")
        return procedure if own else None

    def _hurry(self, procedure: Procedure) -> None:
        """Read it sooner than its interval says, but no more often than a slow bus bears."""
        now_s = self._clock.monotonic_s()
        if now_s - procedure.hurried_s >= HURRY_S:
            procedure.hurried_s = now_s
            self._poller.hurry(procedure.series.partition(".")[0])

    def _marked(self, polled: PolledDevice, flow: PointFlow, args: dict[str, Any]) -> frozenset[str]:
        """Whoever takes the probe out takes out all that is in one body with it.

        What only counts goes on: no part of a total may be lost.
        """
        if args.get("alone") is True or _point(polled, flow).apart:
            return frozenset({flow.series})
        described = {other.series: _point(polled, other) for other in polled.flows.values()}
        return frozenset(
            series for series, point in described.items() if not point.apart and point.kind is Kind.SAMPLE
        )

    def _found(self, args: dict[str, Any]) -> tuple[PolledDevice, PointFlow]:
        """Raises LocalRefused for what is not there or cannot be calibrated."""
        series = str(args.get("series", ""))
        name, _, point = series.partition(".")
        polled = next((one for one in self._poller.devices() if one.name == name), None)
        if polled is None:
            there = [one.name for one in self._poller.devices()]
            raise LocalRefused(f"there is no device {name!r}; {_rather(name, there)}")
        flow = polled.flows.get(point)
        if flow is None:
            trouble = f" ({polled.trouble.error})" if polled.trouble.error and not polled.flows else ""
            raise LocalRefused(
                f"{name} has no point {point!r}{trouble}; {_rather(point, list(polled.flows))}"
            )
        if polled.state in (DeviceState.DISABLED, DeviceState.PARKED):
            raise LocalRefused(
                f"{name} is {polled.state.value} and not read; first: tidewatt devices enable {name}"
            )
        if isinstance(polled.device, derived.Derived):
            raise LocalRefused(f"{series} is made of other points; calibrate those: {_inputs(polled)}")
        described = _point(polled, flow)
        if described.kind is not Kind.SAMPLE or (not described.unit and not described.decimals):
            raise LocalRefused(f"{series} counts, or is on or off; there is nothing to calibrate")
        return polled, flow


def _point(polled: PolledDevice, flow: PointFlow) -> Point:
    name = flow.series.partition(".")[2]
    return polled.device.points.get(name, Point(unit=flow.unit))


def _decimals(polled: PolledDevice, flow: PointFlow) -> int:
    config = polled.config.points.get(flow.series.partition(".")[2])
    return _point(polled, flow).decimals if config is None or config.decimals is None else config.decimals


def _inputs(polled: PolledDevice) -> str:
    device = polled.device
    assert isinstance(device, derived.Derived)
    return ", ".join(sorted(device.inputs))


def _rather(name: str, there: list[str]) -> str:
    near = nearest(name, there)
    return f"did you mean {near}?" if near else f"there are: {', '.join(there) or 'none'}"


def _lease_s(args: dict[str, Any]) -> float:
    lease_s = args.get("lease_s", LEASE_S)
    if isinstance(lease_s, bool) or not isinstance(lease_s, int | float) or not math.isfinite(lease_s):
        raise LocalRefused("lease_s must be a number", exit_code=2)
    return min(LEASE_MAX_S, max(LEASE_MIN_S, float(lease_s)))


def _and_derived(series: Collection[str], configs: Iterable[DeviceCommon]) -> frozenset[str]:
    """These series, and what is made of them, and of those."""
    made: dict[str, set[str]] = {}
    for config in configs:
        tables: Any = getattr(config, "derive", {}) if config.driver == derived.NAME else {}
        made |= {f"{config.name}.{point}": set(one.of) for point, one in tables.items()}
    found = set(series)
    while more := {one for one, of in made.items() if of & found} - found:
        found |= more
    return frozenset(found)
