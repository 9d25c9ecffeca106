"""Only edge/clock.py reads time: everything else is given a clock, and can be tested on another one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.unit import source

ALLOWED: Final = frozenset({Path("edge/clock.py")})
TIME: Final = frozenset(
    f"time.{name}{suffix}"
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime")
    for suffix in ("", "_ns")
)
CALENDAR: Final = frozenset({"time.localtime", "time.gmtime", "time.ctime", "time.strftime", "time.asctime"})
DATETIME: Final = frozenset(
    {
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "anyio.current_time",
    }
)


def readings_of_time(parsed: ast.Module) -> Iterator[str]:
    """Every use of a name that reads time, with its line; aliases are followed."""
    names: dict[str, str] = {}
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            names.update((alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Attribute | ast.Name):
            full = _full_name(node, names)
            if full in TIME | CALENDAR | DATETIME:
                yield f"line {node.lineno}: {full}"


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return ""


@pytest.mark.parametrize("path", [path for path in source.files() if path not in ALLOWED], ids=str)
def test_no_file_but_the_clock_reads_time(path: Path) -> None:
    assert list(readings_of_time(source.tree(path))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "import time as t\nx = t.monotonic_ns",
        "from time import perf_counter as now\nnow()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now(datetime.UTC)",
        "import datetime as dt\ndt.date.today()",
    ],
)
def test_a_reading_of_time_is_noticed(code: str) -> None:
    assert list(readings_of_time(ast.parse(code)))


def test_the_clock_itself_reads_time() -> None:
    assert list(readings_of_time(source.tree(Path("edge/clock.py"))))
