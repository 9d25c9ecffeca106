"""What has become of other packages' drivers on the disk since this process loaded them: Python loads code once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """Entry points as (group, name, value), and files that were loaded for them, with the driver's name and a hash."""

    entries: frozenset[tuple[str, str, str]] = frozenset()
    files: Mapping[Path, tuple[str, str]] = field(default_factory=dict)


def taken(found: Iterable[EntryPoint]) -> Stamps:
    """What these entry points are now; to be called when they have just been loaded."""
    entries = list(found)
    files = {path: (entry.name, _hash(path)) for entry in entries for path in _files_of(entry)}
    return Stamps(entries=frozenset(map(_key, entries)), files=files)


def changes(then: Stamps, found: Iterable[EntryPoint]) -> list[str]:
    """What is not as it was, a clause for each driver: "driver battery was changed (tidewatt_battery.py)"."""
    now = frozenset(map(_key, found))
    touched: dict[str, list[str]] = {}
    for path, (name, before) in then.files.items():
        if _hash(path) != before:
            touched.setdefault(name, []).append(path.name)
    told = {
        name: f"driver {name} was changed ({', '.join(sorted(names))})" for name, names in touched.items()
    }
    gone, new = ({name for _, name, _ in some} for some in (then.entries - now, now - then.entries))
    for name in gone | new:
        what = "changed" if name in gone & new else "removed" if name in gone else "installed"
        told.setdefault(name, f"driver {name} was {what}")
    return [told[name] for name in sorted(told)]


def _key(entry: EntryPoint) -> tuple[str, str, str]:
    return entry.group, entry.name, entry.value


def _files_of(entry: EntryPoint) -> list[Path]:
    """The sources of the package that an entry point names, as far as they were loaded."""
    top = entry.value.partition(":")[0].partition(".")[0].strip()
    names = [name for name in list(sys.modules) if name == top or name.startswith(f"{top}.")]
    files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    return [Path(file) for file in files if file]


def _hash(path: Path) -> str:
    """Of its content; "" where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
