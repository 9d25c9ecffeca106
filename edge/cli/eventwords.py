"""An event's body as a person reads it; the page's panels.js says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge.cli.support import show_level
from edge.control.journal import KIND
from edge.times import show_duration

MACHINE: Final = frozenset({"change", "hash", "id", "uid", "old", "new"})
"""For programs: they join records by these."""
PLAIN: Final = frozenset({"text", "error", "name"})
"""Values that need no name before them."""


def words(kind: str, body: Mapping[str, Any]) -> str:
    """What happened in a few words; "" for nothing more than its kind says."""
    if kind == KIND:
        return _switched(body)
    if body.get("ended") is True:
        return f"not over: {body['still']}" if body.get("still") else f"over: {body.get('text', '')}"
    person = {"who", "why"} if body.get("who") else frozenset[str]()
    parts = [_part(key, value) for key, value in body.items() if key not in person | MACHINE]
    return " · ".join(filter(None, [*parts, _by(body)]))


def _switched(body: Mapping[str, Any]) -> str:
    before, after = body.get("from"), body.get("to")
    start = "at the start" if before is None else show_level(before)
    levels = f"{start} → {'' if after is None else show_level(after)}"
    became = {"pending": "on its way", "failed": "failed"}.get(str(body.get("state")), "")
    because = body.get("text") or body.get("cause") or body.get("layer")
    return " · ".join(filter(None, [levels, became, because, _by(body), body.get("error")]))


def _by(body: Mapping[str, Any]) -> str:
    if not body.get("who"):
        return ""
    return f"by {body['who']}" + (f" ({body['why']})" if body.get("why") else "")


def _part(key: str, value: Any) -> str:
    """One entry; "" for what is not so, is not there, or takes no time."""
    if value is None or value is False or value in ("", [], {}):
        return ""
    name = key.replace("_", " ")
    if value is True:
        return name
    if key in PLAIN:
        return str(value)
    if key == "level":
        return show_level(value)
    if key.endswith(("_s", "_ms")) and isinstance(value, int | float):
        seconds = value / (1000 if key.endswith("_ms") else 1)
        length = ("-" if seconds < 0 else "") + show_duration(abs(seconds))
        return f"{name.rpartition(' ')[0]} {length}" if seconds else ""
    return f"{name}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        pairs = all(isinstance(each, list | tuple) for each in value)
        return ", ".join(" → ".join(map(str, each)) if pairs else _plain(each) for each in value)
    return str(value)
