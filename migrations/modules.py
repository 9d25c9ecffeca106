"""The modules that own tables, in the order in which they are migrated, and their revisions in files.

Needs neither Alembic nor SQLAlchemy: the daemon looks at every start whether something is to be migrated.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
_ASSIGNMENT: Final = re.compile(r'^(revision|down_revision)\b[^=\n]*=\s*(?:"(\w+)"|None)\s*$', re.MULTILINE)
_DOCSTRING: Final = re.compile(r'\A\s*"""(.+?)\s*(?:\n|""")')


class MigrationError(Exception):
    """A schema cannot be brought to where it belongs; the text says what to do."""


class DatabaseNewer(MigrationError):
    """The database was migrated by a later version of tidewatt than this one."""


class WrongDatabase(MigrationError):
    """Not the database that these migrations belong into; nothing in it was touched."""


class DatabaseBusy(MigrationError):
    """Another process writes this database."""


class Side(enum.StrEnum):
    EDGE = "edge"
    UPSTREAM = "upstream"


class Home(enum.StrEnum):
    """Which database of a side a module's tables stand in."""

    MAIN = "main"
    CONTROL = "control"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One step of a module's history.

    id    of the step; `down` that of the one before it, None for the first
    title first line of its docstring
    """

    module: str
    id: str
    down: str | None
    title: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """What owns tables.

    metadata  "module:attribute" of the tables it should arrive at; empty where its SQL is written by hand
    versions  folder of its revisions, for a module of another package; None for one of tidewatt's own
    loop      "module:function" of what the daemon runs for a module of another package; see `edge.outside`
    """

    side: Side
    name: str
    home: Home
    metadata: str = ""
    versions: Path | None = None
    loop: str = ""

    @property
    def label(self) -> str:
        """Branch label of its history."""
        return f"{self.name}_core"

    @property
    def version_table(self) -> str:
        return f"alembic_version_{self.name}"

    @property
    def folder(self) -> Path:
        """Where its revisions lie."""
        return self.versions or FOLDER / self.side.value / self.name / "versions"

    @property
    def optional(self) -> bool:
        """Whether a site can do without: one of the edge's main file that nothing else stands on."""
        return self.home is Home.MAIN and self.name != "core"

    def __str__(self) -> str:
        return f"{self.side.value} {self.name}"


EDGE: Final = (
    Module(side=Side.EDGE, name="core", home=Home.MAIN, metadata="edge.store.tables:metadata"),
    Module(side=Side.EDGE, name="control", home=Home.CONTROL, metadata="edge.control.tables:metadata"),
    Module(side=Side.EDGE, name="meters", home=Home.MAIN, metadata="edge.meters.tables:metadata"),
)
UPSTREAM: Final = (
    Module(side=Side.UPSTREAM, name="core", home=Home.POSTGRES, metadata="sync.tables:core"),
    Module(side=Side.UPSTREAM, name="meters", home=Home.POSTGRES, metadata="sync.tables:meters"),
)
MODULES: Final[Mapping[Side, Sequence[Module]]] = {Side.EDGE: EDGE, Side.UPSTREAM: UPSTREAM}


def find(side: Side, name: str, others: Sequence[Module] = ()) -> Module:
    """The module of that name, of tidewatt's own and `others`.  Raises MigrationError."""
    modules = (*MODULES[side], *others)
    for module in modules:
        if module.name == name:
            return module
    known = ", ".join(module.name for module in modules)
    raise MigrationError(f"there is no {side.value} module {name!r}; the modules are {known}")


def revisions(module: Module) -> list[Revision]:
    """Its history, oldest first.  Raises MigrationError where the files are no single line."""
    found = [_read(path, module.name) for path in sorted(module.folder.glob("[!_]*.py"))]
    by_down: dict[str | None, Revision] = {}
    for revision in found:
        if revision.down in by_down:
            raise MigrationError(
                f"{module}: {by_down[revision.down].path.name} and {revision.path.name} both follow"
                f" {revision.down or 'nothing'}; a history is one line, so put one after the other"
            )
        by_down[revision.down] = revision
    line: list[Revision] = []
    at: str | None = None
    while at in by_down:
        line.append(by_down.pop(at))
        at = line[-1].id
    if by_down:
        stray = next(iter(by_down.values()))
        raise MigrationError(f"{module}: {stray.path.name} follows {stray.down}, which no file is")
    return line


def _read(path: Path, module: str) -> Revision:
    source = path.read_text(encoding="utf-8")
    found = {match[1]: match[2] for match in _ASSIGNMENT.finditer(source)}
    if not found.get("revision"):
        raise MigrationError(f'{path}: has no line `revision = "…"`; write one, as in the files beside it')
    title = _DOCSTRING.match(source)
    return Revision(
        module=module, id=found["revision"], down=found.get("down_revision"), title=title[1] if title else "",
        path=path,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleState:
    """Where a module stands in a database.

    current  its revision there, None when nothing was migrated yet
    head     the newest revision that this version of tidewatt knows, None without any
    pending  revisions yet to be run, oldest first
    """

    module: Module
    current: str | None
    head: str | None
    pending: tuple[Revision, ...]

    @property
    def newer(self) -> bool:
        """True when the database is ahead of this version of tidewatt."""
        return self.current is not None and self.current not in {r.id for r in revisions(self.module)}


def state_of(module: Module, current: str | None) -> ModuleState:
    """Compare what a version table says with the files."""
    line = revisions(module)
    ids = [revision.id for revision in line]
    done = ids.index(current) + 1 if current in ids else 0
    newer = current is not None and current not in ids
    return ModuleState(
        module=module,
        current=current,
        head=ids[-1] if ids else None,
        pending=() if newer else tuple(line[done:]),
    )


def refuse_newer(state: ModuleState, where: str) -> None:
    """Raises DatabaseNewer for a database that a later version of tidewatt has migrated."""
    if state.newer:
        raise DatabaseNewer(
            f"{where}: module {state.module.name} stands at revision {state.current}, but this version of"
            f" tidewatt knows only up to {state.head or 'nothing'}; install the version that made it (or a newer"
            " one), or put back a backup from before the upgrade"
        )


def refuse_dialect(module: Module, dialect: str) -> None:
    """Raises WrongDatabase where an edge module meets Postgres, or an upstream one SQLite."""
    wanted = "sqlite" if module.side is Side.EDGE else "postgresql"
    if dialect != wanted:
        raise WrongDatabase(
            f"the {module.side.value} modules live in {wanted}, this is {dialect}; nothing was changed"
        )
