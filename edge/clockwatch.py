"""What the daemon makes of its clock: looked at every few seconds, confirmed by a person, kept for this boot.

A log ends where the clock becomes trusted, and steps are noted.  A file beside the control database keeps what stood
behind the clock, with the boot id: a restart of the daemon changes nothing about the time of day, one of the machine
does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from edge.clock import EARLIEST_MS, Basis, Clock, ClockState, iso_utc
from edge.config import Config
from edge.control.rules import Unknown
from edge.control.safefile import write_whole
from edge.store.database import Store
from edge.supervisor import PutEvent
from edge.uplink.answers import fix_offsets

FILE_NAME: Final = "boot-clock.json"
CHECK_S: Final = 5.0
STEP_MS: Final = 2000
NAMED_MAX: Final = 3
"""So many schedules are named; the rest are counted."""

WHY: Final[Mapping[Basis, str]] = {
    Basis.NETWORK: "network time disciplines it",
    Basis.EARLIER: "network time disciplined it earlier since the machine started",
    Basis.RTC: "a real-time clock set it when the machine started",
    Basis.PERSON: "a person confirmed it since the machine started",
    Basis.NOTHING: "nothing stands behind it: no network time, no real-time clock, nobody's word",
}
TO_SET: Final = 'sudo timedatectl set-time "2026-03-01 08:00:00" (or sudo date -s "2026-03-01 08:00:00")'

logger = structlog.get_logger("clock")


class ClockRefused(Exception):
    """A person's word that cannot be taken; the text says what to do."""


class ClockWatch:
    """Owned by the event loop: `recall` before all else, then `run`; `confirm` and `told` whenever asked.

    path       what is kept over a restart of the daemon
    store      the open store, None while there is none
    on_change  what decisions rest on has changed; must not block
    """

    def __init__(
        self,
        clock: Clock,
        path: Path,
        put: PutEvent,
        *,
        store: Callable[[], Store | None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._path = path
        self._put = put
        self._store = store
        self._on_change = on_change
        self._lock = anyio.Lock()
        self._state = clock.state()
        self._since_s = clock.monotonic_s()
        self._confirmed: Mapping[str, Any] | None = None
        self._kept: Mapping[str, Any] | None = None
        self._last = (clock.now_ms(), clock.monotonic_s())

    # ------------------------------------------------------------------------------------------ loop

    def recall(self) -> None:
        """Trust the clock as it was trusted before in this boot; milliseconds.  Never raises."""
        clock = self._clock
        try:
            self._kept = saved = json.loads(self._path.read_text())
            if saved["boot_id"] != clock.boot_id:
                return
            basis, since_s, confirmed = Basis(saved["basis"]), float(saved["since_s"]), saved["confirmed"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # what cannot be understood is nobody's word
        if basis is Basis.NOTHING:
            return
        self._since_s, self._confirmed = since_s, confirmed
        clock.trust(Basis.EARLIER if basis is Basis.NETWORK else basis)
        self._state = clock.check()
        self._last = (clock.now_ms(), clock.monotonic_s())

    async def run(self) -> None:
        """Look at once, and again and again."""
        while True:
            async with self._lock:
                await self._look()
            await self._clock.sleep(CHECK_S)

    async def _look(self) -> None:
        """Go by what the clock is worth now."""
        clock, store, before = self._clock, self._store(), self._state
        state = clock.check()
        now_ms, now_s = clock.now_ms(), clock.monotonic_s()
        if state.trusted and store is not None:
            await fix_offsets(store, clock, now_ms)  # those of earlier boots as well
        if state.trusted and not before.trusted:
            if store is not None:
                store.end_log()
            self._put(
                "clock-trusted", state.value, "info", {"before": before.value, "by": clock.basis().value}
            )
        elif state is not before:
            self._put("clock-state", state.value, "info", {"before": before.value})
        last_ms, last_s = self._last
        step_ms = now_ms - last_ms - round((now_s - last_s) * 1000)
        if before.trusted and state.trusted and abs(step_ms) > STEP_MS:
            self._put("clock-stepped", state.value, "warning", {"step_ms": step_ms})
        if state is not before:
            self._since_s = now_s
            self._on_change()
        self._state, self._last = state, (now_ms, now_s)
        await self._keep()

    async def _keep(self) -> None:
        """On disk before anybody is told: what stands behind the clock, or nothing at all."""
        clock, basis = self._clock, self._clock.basis()
        if basis is not Basis.PERSON:
            self._confirmed = None
        wanted: Mapping[str, Any] | None = None
        if basis is not Basis.NOTHING:
            wanted = {
                "boot_id": clock.boot_id, "basis": basis.value, "since_s": self._since_s,
                "confirmed": self._confirmed,
            }  # fmt: skip
        if wanted == self._kept:
            return
        try:
            await anyio.to_thread.run_sync(_write, self._path, wanted)
        except OSError as error:
            logger.warning(
                "what stands behind the clock could not be kept", path=str(self._path), why=str(error)
            )
        else:
            self._kept = wanted

    # ----------------------------------------------------------------------------------------- asked

    async def confirm(self, who: Mapping[str, Any]) -> bool:
        """Take the system's clock at a person's word; False where network time disciplines it anyway.

        who  the journal's: uid, who, why

        Raises ClockRefused.
        """
        clock = self._clock
        async with self._lock:
            await self._look()
            if clock.basis() is Basis.NETWORK:
                return False
            if refusal := self._refusal(await self._past_ms()):
                raise ClockRefused(refusal)
            said_ms, guess_ms = clock.system_ms(), clock.now_ms()
            self._confirmed = {**who, "at": iso_utc(said_ms)}
            clock.trust(Basis.PERSON)
            self._put("clock-confirmed", iso_utc(said_ms), "info", {**who, "ahead_ms": said_ms - guess_ms})
            await self._look()
        return True

    async def told(self, config: Config) -> dict[str, Any]:
        """The contract of `tidewatt clock --json`, but for who is asked."""
        clock, past_ms = self._clock, await self._past_ms()
        state, basis, now_ms = clock.state(), clock.basis(), clock.now_ms()
        for_s = clock.monotonic_s() - self._since_s
        return {
            "now": iso_utc(now_ms),
            "state": state.value,
            "basis": basis.value,
            "why": WHY[basis],
            "system": iso_utc(clock.system_ms()),
            "system_ahead_s": round((clock.system_ms() - now_ms) / 1000, 3),
            "since": iso_utc(now_ms - round(for_s * 1000)) if state.trusted else None,
            "for_s": round(for_s, 1),
            "past": iso_utc(past_ms) if past_ms > EARLIEST_MS else None,
            "confirmed": self._confirmed if basis is Basis.PERSON else None,
            "refusal": "" if basis is Basis.NETWORK else self._refusal(past_ms),
            "follows": list(follows(basis, config)),
            "boot_id": clock.boot_id,
        }

    async def _past_ms(self) -> int:
        """A time that is certainly past."""
        store = self._store()
        past_ms = None if store is None else await store.known_past_ms()
        return max(past_ms or EARLIEST_MS, EARLIEST_MS)

    def _refusal(self, past_ms: int) -> str:
        """Why the system's clock cannot be right; "" where it can."""
        system_ms = self._clock.system_ms()
        if system_ms >= past_ms:
            return ""
        known = "the last commit" if past_ms > EARLIEST_MS else "this program"
        return (
            f"this machine's clock says {iso_utc(system_ms)}, which lies before {known}, {iso_utc(past_ms)}: it cannot"
            f" be right. Set it: {TO_SET}, then: tidewatt clock confirm. If what is recorded bears times of the"
            " future, only network time settles it: connect the machine once"
        )


def follows(basis: Basis, config: Config) -> Sequence[str]:
    """What the site does because its clock is worth that, for a person."""
    if basis.state is ClockState.SYNCED:
        return ("schedules run, and records are delivered with these times",)
    if basis.state is ClockState.HOLDOVER:
        return (
            "schedules run, and records are delivered with these times",
            "nothing corrects it: it drifts by seconds a day until there is network time",
        )
    found = [_policies(config)] if config.schedules else []
    if config.uplink.enabled:
        found.append("records wait for delivery until the time is known, here or from the sink")
        found.append("commands from afar are refused, but for safe and release; those given here are taken")
    found.append("what is recorded now gets its true times once the clock is known in this boot")
    found.append(f"to end this: the network, or set the clock: {TO_SET}, then: tidewatt clock confirm")
    return tuple(found)


def _policies(config: Config) -> str:
    words = [
        f"{schedule.name} {_policy(schedule.unknown, schedule.unknown_level)}"
        for schedule in config.schedules
    ]
    rest = f" and {len(words) - NAMED_MAX} more" if len(words) > NAMED_MAX else ""
    return f"schedules go by their policy: {', '.join(words[:NAMED_MAX])}{rest}"


def _policy(unknown: Unknown, level: float) -> str:
    if unknown is Unknown.HOLD:
        return "holds as last known"
    return "keeps its outputs safe" if unknown is Unknown.SAFE else f"goes to {level:g}"


def _write(path: Path, wanted: Mapping[str, Any] | None) -> None:
    if wanted is None:
        path.unlink(missing_ok=True)
    else:
        write_whole(path, json.dumps(wanted))
