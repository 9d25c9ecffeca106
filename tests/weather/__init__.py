"""Another package's module, as one would write it: tables, a history and a loop; see `tests.outside_package`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from migrations.modules import Home, Module, Side

MODULE: Final = Module(
    side=Side.EDGE,
    name="weather",
    home=Home.MAIN,
    metadata=f"{__name__}.tables:metadata",
    versions=Path(__file__).parent / "versions",
    loop=f"{__name__}.loop:run",
)
