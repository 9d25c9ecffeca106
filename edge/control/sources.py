"""Which probes are behind a series: what is derived of one, or falls back to one, is no second opinion on it."""

from __future__ import annotations

from typing import Final

from drivers import derived
from drivers.derived import Derive, How
from edge.control.parts import Parts

VOTERS_MIN: Final = 3
"""With fewer a median is a mean."""


def probes_of(parts: Parts, series: str) -> frozenset[str]:
    """What is read to make it."""
    derive = _derive(parts, series)
    if derive is None:
        return frozenset({series})
    return frozenset().union(*(probes_of(parts, each) for each in derive.of if each != series))


def leans_on(parts: Parts, series: str) -> frozenset[str]:
    """The probes each of which, reading wrong, makes it wrong all alone; none for a vote."""
    derive = _derive(parts, series)
    if derive is None:
        return frozenset({series})
    if derive.how is How.MEDIAN and len(derive.of) >= VOTERS_MIN:
        return frozenset()
    decide = derive.of[:1] if derive.how is How.FIRST else derive.of
    return frozenset().union(*(leans_on(parts, each) for each in decide if each != series))


def fallback_of(parts: Parts, series: str) -> str:
    """Who stands in for it by its device's settings, "" for nobody."""
    name, _, point = series.partition(".")
    device = parts.device(name)
    settings = None if device is None else device.points.get(point)
    return "" if settings is None else settings.fallback


def _derive(parts: Parts, series: str) -> Derive | None:
    name, _, point = series.partition(".")
    device = parts.device(name)
    if device is None or device.driver != derived.NAME:
        return None
    return derived.tables_of(device).get(point)
