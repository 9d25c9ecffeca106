"""Installs the handbook's module `weather` as a package of somebody else's: a folder on the path with its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.handbook import lay_out

TOPIC: Final = "write-a-module"
PACKAGE: Final = "tidewatt_weather"
#: What a test's site has, and how long it waits, for what the chapter says.
CHANGED: Final = {"outside.temperature": "waves.wave0", "EVERY_S: Final = 60.0": "EVERY_S: Final = 0.1"}


def install(folder: Path, *, value: str = f"{PACKAGE}:MODULE", name: str = "weather") -> Path:
    """Make `folder` bring the module as an entry point, once it is on the path; returns the package's folder."""
    package = lay_out(TOPIC, folder) / PACKAGE
    loop = package / "loop.py"
    source = loop.read_text()
    for old, new in CHANGED.items():
        assert old in source
        source = source.replace(old, new)
    loop.write_text(source)
    info = folder / f"{PACKAGE}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidewatt-weather\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[tidewatt.modules]\n{name} = {value}\n")
    return package
