"""Answers that stay away: of everything, or of one stream while others are answered.

A broker's access list refuses in silence: what it drops it confirms all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import structlog

from edge.clock import Clock
from edge.store.database import Store
from edge.supervisor import Problems
from sync.messages import Topics

ALL: Final = ""
"""Stands for the whole link, among the streams."""

logger = structlog.get_logger("uplink")


class Silence:
    """Owner of who is waited for since when.

    patience_s  without an answer for so long a person is told
    """

    def __init__(
        self, *, patience_s: float, topics: Topics, store: Store, clock: Clock, problems: Problems
    ) -> None:
        self._patience_s = patience_s
        self._topics = topics
        self._store = store
        self._clock = clock
        self._problems = problems
        self._since_s: dict[str, float] = {}
        self._told: set[str] = set()

    def expect(self, *streams: str) -> None:
        """Something was sent that deserves an answer; streams: of which it told."""
        now_s = self._clock.monotonic_s()
        for stream in (ALL, *streams):
            self._since_s.setdefault(stream, now_s)

    def link_down(self) -> None:
        """Without a link nobody can answer."""
        self._since_s.clear()

    def heard(self, streams: Collection[str]) -> None:
        """The sink spoke; streams: whose batches it answered, or asked to wait."""
        for stream in (ALL, *streams):
            self._end(stream)

    def _end(self, stream: str) -> None:
        self._since_s.pop(stream, None)
        if stream in self._told:
            self._told.discard(stream)
            self._problems.clear(_key(stream))
            logger.info("the sink answers again", stream=stream or "all")

    async def look(self, waits: Callable[[str], object]) -> None:
        """Tell of who has been silent for too long.

        waits  whether a stream has anything unsettled: an answer to an ask may have settled it
        """
        now_s = self._clock.monotonic_s()
        late = [stream for stream, since_s in self._since_s.items() if now_s - since_s >= self._patience_s]
        if ALL in late:
            late = [ALL]  # one stream's silence says nothing while nobody answers at all
        for stream in late:
            if stream != ALL and not waits(stream):
                self._end(stream)
            elif stream not in self._told:
                await self._tell(stream)

    async def _tell(self, stream: str) -> None:
        self._told.add(stream)
        text, kind = self._words(stream), "topic-refused" if stream else "no-answer"
        logger.warning("no answer", why=text)
        self._problems.set(_key(stream), text, severity="alarm")
        async with self._store.write() as tx:
            await tx.emit(
                kind=kind, subject=stream or self._topics.edge, severity="alarm", body={"why": text}
            )

    def _words(self, stream: str) -> str:
        topics, edge = self._topics, self._topics.edge
        if stream:
            return (
                f"the sink answers, but never to {stream}: may {edge!r} publish to {topics.batch(stream)}, and every"
                " sink read it? (A broker's ACL refuses in silence; tidewatt broker config writes one that fits.)"
            )
        return (
            f"the broker takes what {edge!r} sends, but no sink answers: is `tidewatt sink` running with prefix"
            f" {topics.prefix!r}, and may this login publish to {topics.batch('+')} and {topics.ask} and read"
            f" {topics.held}? (A broker's ACL refuses in silence.)"
        )


def _key(stream: str) -> str:
    return f"uplink.silence.{stream}" if stream else "uplink.silence"
