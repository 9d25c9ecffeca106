"""What a running process can say of drivers whose packages were changed under it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from drivers.catalog import ENTRY_POINT_GROUP, OUTPUT_ENTRY_POINT_GROUP
from drivers.stamps import Stamps, changes, taken

PUMP = EntryPoint("pump", "stamped_pump.driver:DRIVER", ENTRY_POINT_GROUP)
VALVE = EntryPoint("valve", "stamped_valve:DRIVER", OUTPUT_ENTRY_POINT_GROUP)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a driver that uses another file of its own; both are loaded."""
    folder = tmp_path / "stamped_pump"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "words.py").write_text("WORDS = ('on', 'off')\n")
    (folder / "unused.py").write_text("")
    (folder / "driver.py").write_text("from stamped_pump.words import WORDS\nDRIVER = WORDS\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    PUMP.load()
    yield folder
    for name in [name for name in sys.modules if name.startswith("stamped_pump")]:
        del sys.modules[name]


def test_nothing_is_told_while_all_is_as_it_was(package: Path) -> None:
    then = taken([PUMP])
    (package / "unused.py").write_text("never_loaded = True\n")
    (package / "words.py").touch()
    assert changes(then, [PUMP]) == []
    assert changes(Stamps(), []) == []


def test_each_changed_file_is_named_with_its_driver(package: Path) -> None:
    then = taken([PUMP])
    (package / "words.py").write_text("WORDS = ('off', 'on')\n")
    assert changes(then, [PUMP]) == ["driver pump was changed (words.py)"]
    (package / "driver.py").unlink()
    assert changes(then, [PUMP]) == ["driver pump was changed (driver.py, words.py)"]


def test_what_came_and_went_is_told(package: Path) -> None:
    then = taken([PUMP])
    assert changes(then, [VALVE]) == ["driver pump was removed", "driver valve was installed"]
    renamed = EntryPoint("pump", "stamped_pump.other:DRIVER", ENTRY_POINT_GROUP)
    assert changes(then, [renamed]) == ["driver pump was changed"]
