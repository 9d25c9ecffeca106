"""Which of several versions of a channel-day is the current one: one pure order, whoever asks."""

from __future__ import annotations

from typing import NamedTuple


class DayRank(NamedTuple):
    """Order of two versions of a channel-day; the greater is current. Blank is oldest; arrival means nothing.

    updated, loaded, header  the file's own stamps as digits (UpdateDateTime, MSATSLoadDateTime, header time)
    """

    updated: str
    loaded: str
    header: str
    line: int
    hash: str


def day_rank(
    *, updated: str | None, loaded: str | None, header: str | None, line: int, content_hash: str
) -> DayRank:
    """Stamps of 12 and of 14 digits compare as what they say: the shorter has no seconds."""
    return DayRank(_digits(updated), _digits(loaded), _digits(header), line, content_hash)


def _digits(stamp: str | None) -> str:
    return stamp.ljust(14, "0") if stamp else ""
