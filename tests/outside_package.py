"""Installs `tests/weather` as a package of somebody else's would be: a folder on the path with its metadata."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

PACKAGE: Final = "tidewatt_weather"
SOURCE: Final = Path(__file__).parent / "weather"


def install(folder: Path, *, value: str = f"{PACKAGE}:MODULE", name: str = "weather") -> Path:
    """Make `folder` bring the module as an entry point, once it is on the path; returns the package's folder."""
    package = folder / PACKAGE
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / f"{PACKAGE}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidewatt-weather\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[tidewatt.modules]\n{name} = {value}\n")
    return package
