"""The one file that reads time.  UTC milliseconds for what is stored, monotonic seconds for durations.

Until the clock can be trusted, time runs on the monotonic clock from the guess that stood at the start: no step
of the system's clock bends it, so that one offset, found later, corrects everything that was written meanwhile.
"""

from __future__ import annotations

import ctypes
import enum
import heapq
import itertools
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import anyio

TIMESYNC_FLAG: Final = Path("/run/systemd/timesync/synchronized")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
RTC: Final = Path("/sys/class/rtc/rtc0/hctosys")
RTC_BEHIND_MAX_MS: Final = 1000
EARLIEST_MS: Final = 1_767_225_600_000
"""2026: this program is not older.  A clock before it stopped, or never ran."""
TIME_ERROR: Final = 5
STA_UNSYNC: Final = 0x0040


class ClockState(enum.StrEnum):
    """synced: disciplined now; holdover: right earlier in this boot, by an RTC or a person's word; unknown: a guess."""

    SYNCED = "synced"
    HOLDOVER = "holdover"
    UNKNOWN = "unknown"

    @property
    def trusted(self) -> bool:
        return self is not ClockState.UNKNOWN


class Basis(enum.StrEnum):
    """What stands behind the time of day; `earlier` is network time that this boot has had."""

    NETWORK = "network"
    EARLIER = "earlier"
    RTC = "rtc"
    PERSON = "person"
    NOTHING = "nothing"

    @property
    def state(self) -> ClockState:
        if self is Basis.NETWORK:
            return ClockState.SYNCED
        return ClockState.UNKNOWN if self is Basis.NOTHING else ClockState.HOLDOVER


class Clock(Protocol):
    """What every loop is given.  `drivers.base.Clock` is its first half."""

    boot_id: str
    trusted_since: tuple[int, float] | None
    """(UTC milliseconds, monotonic seconds) of the moment in this run when the clock became trusted."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970; a guess that no step bends while the clock is not trusted."""

    def monotonic_s(self) -> float:
        """Seconds since boot, suspend included."""

    def system_ms(self) -> int:
        """The system's clock, whatever it is worth: UTC in milliseconds."""

    def state(self) -> ClockState:
        """What `now_ms` is worth."""

    def basis(self) -> Basis:
        """What stands behind `now_ms`."""

    def trust(self, basis: Basis) -> None:
        """From the next `check` on the system's clock is right, for this boot: somebody knows."""

    def check(self) -> ClockState:
        """Look again at what the clock is worth, and go by it from now on."""

    def not_before(self, past_ms: int) -> None:
        """Learn of a time that is certainly past (the last commit)."""

    async def sleep(self, seconds: float) -> None:
        """Pause for a duration."""


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2); only `modes` and `status` are read, the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    )


def _kernel_synced() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()
    answer = libc.adjtimex(ctypes.byref(timex))
    return answer not in (-1, TIME_ERROR) and not timex.status & STA_UNSYNC


class SystemClock:
    """The machine's clock.  Only `check` looks at its state, so that it changes at one place and moment."""

    def __init__(self) -> None:
        self.boot_id = BOOT_ID.read_text().strip() if BOOT_ID.exists() else "unknown"
        self.trusted_since: tuple[int, float] | None = None
        self._basis = Basis.NOTHING
        self._word: Basis | None = None
        self._guess: tuple[int, float] = (max(self.system_ms(), EARLIEST_MS), self.monotonic_s())
        self.check()

    def monotonic_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def system_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def now_ms(self) -> int:
        return self.system_ms() if self.state().trusted else self._guess_ms()

    def _guess_ms(self) -> int:
        wall_ms, monotonic_s = self._guess
        return wall_ms + round((self.monotonic_s() - monotonic_s) * 1000)

    def state(self) -> ClockState:
        return self._basis.state

    def basis(self) -> Basis:
        return self._basis

    def trust(self, basis: Basis) -> None:
        self._word = basis

    def check(self) -> ClockState:
        """Look again at what the clock is worth, and go by it from now on."""
        was_trusted = self.state().trusted
        self._basis = self._look()
        if self._basis is Basis.NETWORK:
            self._word = None  # which is better than anybody's
        if self.state().trusted and not was_trusted:
            self.trusted_since = (self.now_ms(), self.monotonic_s())
        return self.state()

    def not_before(self, past_ms: int) -> None:
        """Learn of a time that is certainly past (the last commit): a clock behind it is a guess, and moved there."""
        if self.now_ms() >= past_ms:
            return
        if self.state() is ClockState.HOLDOVER:
            self._basis, self._word = Basis.NOTHING, None
            self.trusted_since = None
        self._guess = (past_ms, self.monotonic_s())

    def _look(self) -> Basis:
        if self._is_synced():
            return Basis.NETWORK
        if self._word is not None:
            return self._word
        if self._basis is Basis.NETWORK:
            return Basis.EARLIER
        if self.state().trusted:
            return self._basis
        rtc_holds = self._has_rtc() and self.system_ms() >= self._guess_ms() - RTC_BEHIND_MAX_MS
        return Basis.RTC if rtc_holds else Basis.NOTHING

    def _is_synced(self) -> bool:
        """Whether network time disciplines it."""
        return TIMESYNC_FLAG.exists() or _kernel_synced()

    def _has_rtc(self) -> bool:
        """Whether a real-time clock set it when the machine started."""
        try:
            return RTC.read_text().strip() == "1"
        except OSError:
            return False

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


def iso_utc(ms: int) -> str:
    """UTC milliseconds as ISO 8601 with milliseconds and `Z`."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


class FakeClock:
    """Time that a test or a simulation moves.  Sleepers wake in order as `advance` passes their time."""

    def __init__(self, *, now_ms: int = 1_767_225_600_000, state: ClockState = ClockState.SYNCED) -> None:
        self.boot_id = "fake-boot"
        self.trusted_since: tuple[int, float] | None = None
        self._now_ms = float(now_ms)
        self._monotonic_s = 1000.0
        self._state = state
        self._next_state = state
        self._word = Basis.RTC
        self._next_ms: float | None = None
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._order = itertools.count()
        if state.trusted:
            self.trusted_since = (now_ms, self._monotonic_s)

    def now_ms(self) -> int:
        return round(self._now_ms)

    def system_ms(self) -> int:
        return round(self._now_ms if self._next_ms is None else self._next_ms)

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def state(self) -> ClockState:
        return self._state

    def basis(self) -> Basis:
        """Its holdover is a real-time clock's, unless somebody said otherwise."""
        known = {ClockState.SYNCED: Basis.NETWORK, ClockState.UNKNOWN: Basis.NOTHING}
        return known.get(self._state, self._word)

    def trust(self, basis: Basis) -> None:
        self._word = basis
        if self._next_state is not ClockState.SYNCED:
            self._next_state = ClockState.HOLDOVER

    def set_state(self, state: ClockState, *, true_ms: int | None = None) -> None:
        """What the next `check` will find, and the time it will then be."""
        self._next_state, self._next_ms = state, None if true_ms is None else float(true_ms)

    def check(self) -> ClockState:
        was_trusted = self._state.trusted
        self._state = self._next_state
        if self._state.trusted and not was_trusted:
            if self._next_ms is not None:
                self._now_ms = self._next_ms
            self.trusted_since = (self.now_ms(), self._monotonic_s)
        return self._state

    def not_before(self, past_ms: int) -> None:
        if not self._state.trusted:
            self._now_ms = max(self._now_ms, float(past_ms))

    def step(self, milliseconds: int) -> None:
        """Step the wall clock; the monotonic clock does not notice."""
        self._now_ms += milliseconds

    def pass_s(self, seconds: float) -> None:
        """Let time pass for code that never sleeps."""
        self._now_ms += seconds * 1000
        self._monotonic_s += seconds

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        entry = (self._monotonic_s + max(0.0, seconds), next(self._order), event)
        heapq.heappush(self._sleepers, entry)
        try:
            await event.wait()
        finally:
            if entry in self._sleepers:  # cancelled: it no longer sleeps
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    async def until_sleeping(self, loops: int = 1) -> None:
        """Wait until so many loops sleep on this clock (real threads may still be at work meanwhile)."""
        while len(self._sleepers) < loops:  # noqa: ASYNC110 - threads, too, bring loops to their sleep
            await anyio.sleep(0.0005)

    async def advance(self, seconds: float, *, loops: int = 1) -> None:
        """Let time pass, waking each sleeper at its moment and waiting until `loops` sleep again."""
        end = self._monotonic_s + seconds
        await self.until_sleeping(loops)
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, event = heapq.heappop(self._sleepers)
            self.pass_s(max(0.0, due - self._monotonic_s))
            event.set()
            await self.until_sleeping(loops)
        self.pass_s(max(0.0, end - self._monotonic_s))
