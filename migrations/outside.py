"""Modules of other packages: tables, a history and a loop of their own, found by entry point.

A package names a `Module` in the group `tidewatt.modules`, under the module's name.  Its tables stand in the edge's
main file and their names begin with the module's name and an underscore, so that nobody's tables can be mixed up.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from drivers.faults import Unusable, load_entry
from migrations.modules import EDGE, UPSTREAM, Home, Module, Side

ENTRY_POINT_GROUP: Final = "tidewatt.modules"
NAME: Final = re.compile(r"[a-z][a-z0-9]{1,29}")
RESERVED: Final = frozenset(
    {"energy", "alerts", "alembic", "sqlite"}
    | {"channel", "control", "file", "log", "meter", "register", "set"}
    | {"day", "meta", "read", "ix"}
)
"""Names of modules to come, and words that tables and indexes of tidewatt's own begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """modules: what is usable, by name; problems: what is not, and why."""

    modules: tuple[Module, ...]
    problems: tuple[str, ...]


def load(found: Iterable[EntryPoint]) -> Installed:
    """The modules that `found` name; a broken one becomes a problem, never an exception."""
    modules: dict[str, Module] = {}
    problems: list[str] = []
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        module = _loaded(entry, modules)
        if isinstance(module, Module):
            modules[module.name] = module
        else:
            problems.append(f"module {entry.name!r} ({entry.value}): {module}")
    return Installed(modules=tuple(modules.values()), problems=tuple(problems))


@functools.cache
def installed() -> Installed:
    """What this installation has, read once."""
    return load(entry_points(group=ENTRY_POINT_GROUP))


def edge_modules() -> Sequence[Module]:
    """Tidewatt's own in their fixed order, then those of other packages."""
    return (*EDGE, *installed().modules)


def owns(name: str, table: str) -> bool:
    """Whether a table, index or view belongs to the other package's module `name`."""
    return table.startswith((f"{name}_", f"ix_{name}_")) or table == f"alembic_version_{name}"


def _loaded(entry: EntryPoint, known: Iterable[str]) -> Module | str:
    """The module, or what is wrong with it."""
    taken = {module.name for module in (*EDGE, *UPSTREAM)} | RESERVED | set(known)
    if entry.name in taken:
        return "the name is taken; rename the entry point and its module"
    if not NAME.fullmatch(entry.name):
        return "give it a name of 2 to 30 small letters and digits, a letter first: its tables begin with it"
    try:
        module = load_entry(entry)
    except Unusable as error:
        return str(error)
    if not isinstance(module, Module):
        return "is no migrations.modules.Module; point the entry point at one"
    if module.name != entry.name:
        return f"calls itself {module.name!r}; give entry point and module the same name"
    if module.side is not Side.EDGE or module.home is not Home.MAIN:
        return "its tables belong into the main database of the edge; set side=Side.EDGE, home=Home.MAIN"
    if module.versions is None or not module.versions.is_dir():
        return f"versions is no folder ({module.versions}); name the one that its revisions lie in"
    return module
