"""Does an output work when it is on, and only then?  Pure; times in powered seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edge.control.model import Watch
from edge.control.rules import Effect, Kind, OutputRule

FULL_SHARE: Final = 0.95
"""An effect is expected from this share of the greatest level on."""


def watched(
    rule: OutputRule,
    watch: Watch,
    level: float,
    value: float | None,
    now_s: float,
    *,
    masked: bool,
    balanced: Watch | None = None,
) -> Watch:
    """What the watch says after another look.

    level     what stood until now
    masked    the output's effect cannot be told apart now: another output moves the same series, or its cut-off is open
    balanced  what the heat balance says of it, which is better than `on_change`; None where that cannot tell
    """
    effect = rule.effect
    if balanced is not None:
        watch = balanced
    if effect is None:
        return watch
    on = level > 0.0
    if on is not watch.on or not watch.since_s:
        return replace(watch, since_s=now_s + effect.settle_s, on=on, value=None)
    if value is None or masked or (on and level < FULL_SHARE * rule.envelope.level_max):
        return replace(watch, since_s=now_s + effect.settle_s, value=None)
    if now_s < watch.since_s:
        return watch
    if watch.value is None:
        watch = replace(watch, since_s=now_s, value=value)
    sign = -1.0 if rule.kind is Kind.CHILLER and not effect.absolute else 1.0
    if not on:
        return _off(effect, watch, value, now_s, sign)
    return _on(effect, watch, value, now_s, sign) if balanced is None else watch


def _on(effect: Effect, watch: Watch, value: float, now_s: float, sign: float) -> Watch:
    """On: after its time the effect must be there."""
    if effect.on_change is None:
        return watch
    waited = now_s - watch.since_s >= effect.within_s
    if effect.absolute:
        seen = value >= effect.on_change
        if seen:
            return replace(watch, no_effect=False) if watch.no_effect else watch
        return replace(watch, no_effect=True) if waited and not watch.no_effect else watch
    if not waited:
        return watch
    assert watch.value is not None
    seen = sign * (value - watch.value) >= sign * effect.on_change
    return replace(watch, since_s=now_s, value=value, no_effect=not seen)


def _off(effect: Effect, watch: Watch, value: float, now_s: float, sign: float) -> Watch:
    """Off: a rise from the lowest value since says that it still works."""
    if effect.off_change is None:
        return watch
    waited = now_s - watch.since_s >= effect.within_s
    if effect.absolute:
        still = value >= effect.off_change
        if still is watch.still_effect:
            return watch
        return replace(watch, still_effect=still) if waited or not still else watch
    assert watch.value is not None
    moved = sign * (value - watch.value)
    if moved >= sign * effect.off_change:
        return replace(watch, since_s=now_s, value=value, still_effect=True)
    if waited:
        return replace(watch, since_s=now_s, value=value, still_effect=False)
    return replace(watch, since_s=now_s, value=value) if moved < 0.0 else watch
