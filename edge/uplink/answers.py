"""What the sink's answers mean for this site: whose they are, and what they settle."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import structlog

from edge.clock import Clock
from edge.store.database import Store
from edge.store.log import estimate_offsets, offsets_by_evidence
from edge.supervisor import Problems
from edge.uplink.config import UplinkConfig
from edge.uplink.outbox import Outbox
from edge.uplink.silence import Silence
from sync.messages import PRUNED, Held, Topics
from sync.ranges import Range, Ranges
from sync.settlement import heeds
from sync.window import SendWindow

LEDGER_ID: Final = re.compile(r"tw1-[0-9a-f]{16}")
FORK_INTERVAL_S: Final = 3600.0
FOREIGN_INTERVAL_S: Final = 3600.0
OFFSET_NOISE_MS: Final = 2000
"""A clock that differs less from the sink's is right: the difference is the way of the message."""

logger = structlog.get_logger("uplink")


class Answers:
    """Owner of what is known of the other side.

    candidate       the first ledger that answered while none is bound: believed in memory, never for letting go
    last_answer_ms  when an answer of ours came last, None before the first
    """

    def __init__(
        self,
        *,
        config: UplinkConfig,
        topics: Topics,
        store: Store,
        outbox: Outbox,
        window: SendWindow,
        clock: Clock,
        problems: Problems,
    ) -> None:
        self.candidate = ""
        self.last_answer_ms: int | None = None
        self.count = 0
        self.silence = Silence(
            patience_s=config.silence_alarm_s, topics=topics, store=store, clock=clock, problems=problems
        )
        self._config = config
        self._topics = topics
        self._store = store
        self._outbox = outbox
        self._window = window
        self._clock = clock
        self._problems = problems
        self._last_fork_s = float("-inf")
        self._last_foreign_s = float("-inf")
        self._born_ms = 0
        self._told: tuple[int, float] | None = None
        self._told_first_s: float | None = None

    async def believe(self, held: Held) -> bool:
        """Take in an answer; True if the sink has to be asked again."""
        if not await self._is_ours(held):
            return False
        now_s = self._clock.monotonic_s()
        self.last_answer_ms = self._clock.now_ms()
        self.count += 1
        self._window.heard(now_s)
        for stream, why in held.hold.items():
            self._window.hold(stream, now_s)
            self._problems.set(
                f"uplink.hold.{stream}", f"the sink cannot take {stream}: {why}", severity="alarm"
            )
            logger.warning("the sink asks to wait", stream=stream, why=why)
        result = await self._outbox.take(held)
        if result.lost:
            await self._give_up(result.lost)
        heard = set(held.hold)
        for stream, log, first, last in result.answered:
            if self._window.answered(stream, log, first, last, now_s):
                heard.add(stream)
                self._problems.clear(f"uplink.hold.{stream}")
        self.silence.heard(heard)
        if not self._outbox.bound_ledger:
            return False  # an unconfirmed sink may neither set times nor tell of forks
        for log, (offset_ms, estimated) in result.offsets.items():
            await self._store.set_offset(log, offset_ms, estimated=estimated, adopt=True)
        self._told = (held.now_ms, now_s)
        if self._told_first_s is None:
            self._told_first_s = now_s
        await self._find_offsets()
        reborn = self._is_reborn(held.born_ms)
        return (result.fork and await self._leave_fork(held.newest)) or reborn

    # --------------------------------------------------------------------------------------- ledger

    async def _is_ours(self, held: Held) -> bool:
        bound = self._outbox.bound_ledger
        if not bound:
            self.candidate = self.candidate or held.ledger
            self._problems.set("uplink.ledger", self.advice(), severity="warning")
            return held.ledger == self.candidate
        if heeds(bound, held):
            self._problems.clear("uplink.ledger")
            return True
        now_s = self._clock.monotonic_s()
        if now_s - self._last_foreign_s >= FOREIGN_INTERVAL_S:
            self._last_foreign_s = now_s
            await self._tell_foreign(held.ledger, bound)
        return False

    async def _tell_foreign(self, foreign: str, bound: str) -> None:
        logger.warning("a foreign ledger answers and is ignored", ledger=foreign, bound=bound)
        self._problems.set(
            "uplink.ledger",
            f"a sink with the foreign ledger {foreign} answers and is ignored. If the upstream database was moved on"
            f" purpose, set [uplink] ledger to it, or run `tidewatt sync bind {foreign}`",
            severity="alarm",
        )
        async with self._store.write() as tx:
            await tx.emit(kind="ledger-foreign", subject=foreign, severity="alarm", body={"bound": bound})

    def advice(self) -> str:
        """What a person has to do so that delivered records may be let go; empty when nothing."""
        if self._outbox.bound_ledger:
            return ""
        if not self.candidate:
            return (
                "this site is not bound to a ledger yet, so everything is kept here: set [uplink] ledger to the id"
                " that `tidewatt sink` prints"
            )
        return (
            f"ledger {self.candidate} answers but nobody confirmed it, so everything is kept here: if it is yours,"
            f" run `tidewatt sync bind {self.candidate}` or set it as [uplink] ledger"
        )

    async def bind(self, ledger: str, who: str, why: str = "") -> None:
        """Confirm a ledger for good.  Raises ValueError where the config names another."""
        if not LEDGER_ID.fullmatch(ledger):
            raise ValueError(
                f"{ledger!r} is no ledger id; take the one that `tidewatt sink` prints (tw1- and 16 digits)"
            )
        wanted = self._config.ledger
        if wanted and wanted != ledger:
            raise ValueError(f"the config binds this site to {wanted}; change [uplink] ledger there instead")
        before = self._outbox.bound_ledger
        if before == ledger:
            return
        async with self._store.write() as tx:
            await self._outbox.bind(tx, ledger, who, said=before or self.candidate)
            await tx.emit(
                kind="ledger-bound", subject=ledger, body={"who": who, "why": why, "before": before}
            )
        self._problems.clear("uplink.ledger")

    # -------------------------------------------------------------------------- times, losses, forks

    async def _find_offsets(self) -> None:
        """Fix the times of logs written on an untrusted clock: by ours once it is trusted, at last by the sink's.

        Network time may come a little later than the sink's answer, and times are final once they are fixed; but where
        the sink agrees with our guess, there is nothing to wait for.
        """
        if self._clock.state().trusted:
            await fix_offsets(self._store, self._clock, self._clock.now_ms())
            return
        if self._told is None or self._told_first_s is None:
            return
        now_s = self._clock.monotonic_s()
        told_ms, told_s = self._told
        true_ms = told_ms + round((now_s - told_s) * 1000)
        waited = now_s - self._told_first_s >= self._config.clock_wait_s
        if waited or abs(true_ms - self._clock.now_ms()) < OFFSET_NOISE_MS:
            await fix_offsets(self._store, self._clock, true_ms)

    def _is_reborn(self, born_ms: int) -> bool:
        """Whether another Postgres came up under a sink that stayed: perhaps yesterday's, with less in it."""
        before, self._born_ms = self._born_ms, born_ms or self._born_ms
        return before not in (0, self._born_ms)

    async def _give_up(self, lost: tuple[tuple[str, Range], ...]) -> None:
        async with self._store.write() as tx:
            for stream, span in lost:
                logger.warning(
                    "upstream lacks rows that are no longer here", stream=stream, first=span[0], last=span[1]
                )
                await self._outbox.give_up(tx, stream, Ranges((span,)), PRUNED)
                body = {"first": span[0], "last": span[1]}
                await tx.emit(kind="rows-pruned", subject=stream, severity="alarm", body=body)

    async def _leave_fork(self, newest: int) -> bool:
        """Upstream knows a newer log in this site's name than this file does: begin one above it."""
        now_s = self._clock.monotonic_s()
        if now_s - self._last_fork_s < FORK_INTERVAL_S:
            return False
        self._last_fork_s = now_s
        left = self._store.log
        logger.warning("upstream knows a newer log of this site; one above it is begun", newest=newest)
        self._store.end_log(above=newest)
        async with self._store.write() as tx:
            body = {"newest": str(newest), "left": str(left.id) if left else ""}
            await tx.emit(kind="fork", subject=self._topics.edge, severity="alarm", body=body)
        return True

    # ----------------------------------------------------------------------------- the passing of time

    async def look(self) -> None:
        """What comes by waiting alone: call it every second or so."""
        await self._find_offsets()
        await self.silence.look(self._outbox.waiting)


async def fix_offsets(store: Store, clock: Clock, true_ms: int) -> None:
    """Fix the times of the logs that wait for it, now that the true time is known; each is fixed once.

    One of an earlier boot, of which nothing is known, is laid before the log that follows it, and goes as estimated;
    while none follows, it waits.
    """
    if all(log.offset_ms is not None for log in store.logs):
        return
    found = offsets_by_evidence(
        store.logs, boot_id=clock.boot_id, now_ms=true_ms, monotonic_ms=round(clock.monotonic_s() * 1000)
    )
    found = {log: 0 if abs(offset) < OFFSET_NOISE_MS else offset for log, offset in found.items()}
    known = [replace(log, offset_ms=found.get(log.id, log.offset_ms)) for log in store.logs]
    laid = estimate_offsets(known, await store.ends_ms())
    for log, offset_ms in sorted((found | laid).items()):
        estimated = log in laid
        await store.set_offset(log, offset_ms, estimated=estimated)
        logger.info("the times of a log are final", log=log, offset_ms=offset_ms, estimated=estimated)
