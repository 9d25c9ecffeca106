"""The import law: who may know whom.  It is read from the source, so that it cannot be broken unnoticed."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from tests.unit import source

SLICES: Final = frozenset({"alerts", "control", "energy", "meters", "poll", "uplink", "web"})
#: The composition root and what stands around it; nobody imports these.
TOP: Final = frozenset(
    {"app", "cli", "clockwatch", "config", "demo", "doctor", "ground", "outside", "status", "verbs"}
)
PURE: Final = tuple(
    f"sync/{name}.py" for name in ("broker", "ledger", "pace", "planner", "ranges", "rank", "window", "wire")
)
IMPURE: Final = frozenset(
    {"aiomqtt", "aiosqlite", "anyio", "asyncio", "psycopg", "socket", "sqlalchemy", "sqlite3"}
)
#: Installed with the demo or the development tools only: no part of the daemon may need them.
FOREIGN: Final = frozenset({"amqtt", "httpx", "psutil", "pytest", "requests", "rich", "typer", "yaml"})


def parts(module: str) -> tuple[str, str]:
    """Package, and for `edge` the part of it: `edge.store.log` -> ("edge", "store")."""
    names = module.split(".")
    return names[0], names[1] if len(names) > 1 else ""


def offences(module: str, imported: Iterable[str]) -> list[str]:
    """What `module` imports against the law."""
    ours = {name for name in imported if name.split(".")[0] in source.PACKAGES}
    return [f"{module} imports {name}" for name in sorted(ours) if not _allowed(module, name)]


def _allowed(module: str, name: str) -> bool:
    package, part = parts(module)
    other, other_part = parts(name)
    if package in ("drivers", "sync"):
        return other == package
    if package == "migrations":
        return ".versions." not in module or other == "sqlalchemy"
    if part in TOP:
        return True
    if other == "edge" and other_part in ("", *TOP):
        return module == name or other_part == ""
    if part in SLICES:
        return _allowed_in_slice(part, name)
    return (
        name in ("drivers", "drivers.base")
        or name.startswith("drivers.base.")
        or (other == "edge" and other_part not in SLICES)
    )


def _allowed_in_slice(part: str, name: str) -> bool:
    other, other_part = parts(name)
    if other in ("drivers", "sync"):
        return True
    if other != "edge":
        return False
    if other_part not in SLICES or other_part == part:
        return True
    return part != "web" and (name.split(".")[2:3] == ["queries"] or name == f"edge.{other_part}")


@pytest.mark.parametrize("path", source.files(), ids=str)
def test_a_file_imports_only_what_the_law_allows(path: Path) -> None:
    assert offences(source.module_name(path), source.imports(path, source.tree(path))) == []


@pytest.mark.parametrize("path", [path for path in source.files() if path.parts[1] != "demo"], ids=str)
def test_no_file_needs_what_only_the_demo_or_a_developer_installs(path: Path) -> None:
    needed = {name.split(".")[0] for name in source.imports(path, source.tree(path))}
    assert not needed & FOREIGN


@pytest.mark.parametrize("name", PURE)
def test_the_protocols_core_does_no_io(name: str) -> None:
    path = Path(name)
    assert not {module.split(".")[0] for module in source.imports(path, source.tree(path))} & IMPURE


def test_slices_know_each_other_without_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in source.files():
        package, part = parts(source.module_name(path))
        if package != "edge" or part not in SLICES:
            continue
        for name in source.imports(path, source.tree(path)):
            if name.startswith("edge.") and parts(name)[1] in SLICES - {part}:
                graph.setdefault(part, set()).add(parts(name)[1])
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_only_one_file_of_sync_speaks_mqtt() -> None:
    speakers = [
        str(path)
        for path in source.files()
        if path.parts[0] == "sync" and "aiomqtt" in set(source.imports(path, source.tree(path)))
    ]
    assert speakers == ["sync/link.py"]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("drivers.sim", "from edge.clock import Clock"),
        ("sync.sink", "import edge.log"),
        ("edge.store.recorder", "from sync.wire import Batch"),
        ("edge.clock", "from drivers.sim import Tank"),
        ("edge.log", "from edge.poll.runner import Runner"),
        ("edge.supervisor", "from edge import app"),
        ("edge.uplink.publisher", "from edge.poll.runner import Runner"),
        ("edge.web.api", "from edge.uplink.queries import depth"),
        ("edge.poll.runner", "from edge import config"),
        ("edge.poll.runner", "import migrations.env"),
        ("migrations.edge.core.versions.r0001", "from edge.store.tables import reading"),
    ],
)
def test_the_law_notices_a_breach(module: str, code: str) -> None:
    path = Path(*module.split(".")).with_suffix(".py")
    assert offences(module, source.imports(path, ast.parse(code)))


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("edge.uplink.outbox", "from sync.wire import Batch\nfrom edge.store.database import Store"),
        ("edge.alerts.engine", "from edge.poll import queries"),
        ("edge.app", "from edge.web.server import serve\nfrom edge import config"),
        ("edge.image", "from drivers.base import Quality"),
        ("migrations.env", "from edge.store.tables import metadata"),
    ],
)
def test_the_law_allows_what_it_should(module: str, code: str) -> None:
    path = Path(*module.split(".")).with_suffix(".py")
    assert offences(module, source.imports(path, ast.parse(code))) == []
