"""Puts a point's calibration into a config text: the few characters that say it, and nothing else.

A library that keeps comments (tomlkit 0.15) moved the comment above the next table to another device, and mixed line
ends; here everything that is not the value stays by construction, and `with_calibration` proves the rest by reading
the result again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge.poll.calibration import Calibration
from edge.tomllines import Finder, KeyPath

LINE_END: Final = re.compile(r"\r?\n|\Z")
KEYS: Final = ("points", "offset")
KEY_BEFORE_LAST: Final = re.compile(r"^(?P<stem>.*\.)\s*[A-Za-z0-9_\"'-]+\s*=")


class CannotEdit(ValueError):
    """The text is written in a way that cannot be changed safely; a person has to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an edit does, for a person.  line: from 1, where it begins; old, new: the lines, without their ends."""

    line: int
    old: tuple[str, ...]
    new: tuple[str, ...]


class _Places(Finder):
    """Also where the values stand, and where headings end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.values: dict[KeyPath, tuple[int, int]] = {}
        self.headings: dict[KeyPath, int] = {}
        self.find()

    def _value(self, path: KeyPath) -> None:
        begin = self._at
        super()._value(path)
        self.values[path] = (begin, begin + len(self.text[begin : self._at].rstrip()))

    def _header(self, brackets: int) -> KeyPath:
        path = super()._header(brackets)
        self.headings[path] = self._at
        return path

    def is_inline(self, path: KeyPath) -> bool:
        place = self.values.get(path)
        return place is not None and self.text[place[0]] == "{"

    def end_of_line(self, at: int) -> int:
        found = LINE_END.search(self.text, at)
        return len(self.text) if found is None else found.start()


def settings_of(calibration: Calibration) -> dict[str, Any]:
    """The option that says it, as the config has it."""
    if len(calibration.pairs) > 1:
        return {"points": [list(pair) for pair in calibration.pairs]}
    return {"offset": calibration.pairs[0][1] if calibration.pairs else 0.0}


def as_toml(value: float | list[list[float]]) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(f"[{raw!r}, {true!r}]" for raw, true in value) + "]"
    return repr(value)


def with_calibration(text: str, device: str, point: str, calibration: Calibration) -> str:
    """The config with this calibration of the point and not one character else changed.

    Raises CannotEdit where the text is no TOML, where the device is not in it (it may come from the environment), or
    where what came out says anything else than was meant.
    """
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotEdit(f"it is no TOML any more ({error})") from None
    tables = before.get("devices")
    places = [
        index
        for index, table in enumerate(tables if isinstance(tables, list) else ())
        if isinstance(table, dict) and table.get("name") == device
    ]
    if len(places) != 1:
        raise CannotEdit(f"there is no table of device {device} in it")
    settings = settings_of(calibration)
    (key, value), index = next(iter(settings.items())), places[0]
    edited = _put(text, index, point, key, as_toml(value))
    other = KEYS[1 - KEYS.index(key)]
    settings_before = before["devices"][index].get("points", {}).get(point, {})
    neutral: dict[str, Any] = {}
    if settings_before.get(other):
        neutral = {other: [] if other == "points" else 0.0}
        edited = _put(edited, index, point, other, as_toml(neutral[other]))
    wanted = tomllib.loads(text)
    wanted["devices"][index].setdefault("points", {}).setdefault(point, {}).update(settings | neutral)
    _prove(edited, wanted)
    return edited


def _prove(edited: str, wanted: Mapping[str, Any]) -> None:
    try:
        same = tomllib.loads(edited) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise CannotEdit("the way its device is written leaves no safe place for it")


def _put(text: str, index: int, point: str, key: str, value: str) -> str:
    """The text with that one option of the point: where it stands, or where it belongs."""
    places = _Places(text)
    device: KeyPath = ("devices", index)
    points, table = (*device, "points"), (*device, "points", point)
    line_end = "\r\n" if "\r\n" in text else "\n"
    if (*table, key) in places.values:
        begin, end = places.values[*table, key]
        return text[:begin] + value + text[end:]
    if places.is_inline(table):
        return _into_inline(places, table, f"{key} = {value}")
    other = (*table, KEYS[1 - KEYS.index(key)])  # both together say how it is calibrated
    if table in places.headings:
        end = places.values[other][1] if other in places.values else places.headings[table]
        return _below(text, places.end_of_line(end), f"{key} = {value}", line_end)
    siblings = [path for path in places.values if path[: len(table)] == table]
    if siblings:
        beside = other if other in siblings else siblings[-1]
        return _beside_dotted(places, beside, f"{key} = {value}", line_end)
    if places.is_inline(points):
        return _into_inline(places, points, f"{point} = {{ {key} = {value} }}")
    if places.is_inline(device):
        return _into_inline(places, device, f"points = {{ {point} = {{ {key} = {value} }} }}")
    ends = [end for path, (_, end) in places.values.items() if path[:2] == device]
    ends += [end for path, end in places.headings.items() if path[:2] == device]
    heading = f"{line_end}[devices.points.{point}]{line_end}{key} = {value}"
    return _below(text, places.end_of_line(max(ends)), heading, line_end)


def _into_inline(places: _Places, path: KeyPath, what: str) -> str:
    """Before the brace that ends the inline table at `path`."""
    begin, end = places.values[path]
    inner = places.text[begin + 1 : end - 1]
    said = inner.rstrip()
    tail = inner[len(said) :] or " "
    comma = ", " if said.strip() else " "
    return places.text[: begin + 1] + said + comma + what + tail + places.text[end - 1 :]


def _below(text: str, at: int, what: str, line_end: str) -> str:
    """As a line of its own behind the one that ends at `at`."""
    return text[:at] + line_end + what + (text[at:] or line_end)


def _beside_dotted(places: _Places, sibling: KeyPath, what: str, line_end: str) -> str:
    """Below `points.ph.low = 7`, and with as much before it."""
    begin, end = places.values[sibling]
    line = places.text[places.text.rfind("\n", 0, begin) + 1 : begin]
    stem = KEY_BEFORE_LAST.match(line)
    if stem is None:
        raise CannotEdit("the point's settings are written in a way that leaves no safe place for it")
    return _below(places.text, places.end_of_line(end), stem["stem"] + what, line_end)


def change_of(before: str, after: str) -> Change:
    """The lines that an edit takes away and puts in their place."""
    old, new = before.splitlines(), after.splitlines()
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return Change(
        line=head + 1,
        old=tuple(old[head : len(old) - tail]),
        new=tuple(new[head : len(new) - tail]),
    )
