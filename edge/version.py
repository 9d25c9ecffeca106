"""Which version this is."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def version() -> str:
    """The installed version; in a source tree that is not installed, the one it would be."""
    try:
        return metadata.version("tidewatt")
    except metadata.PackageNotFoundError:
        source = Path(__file__).parent.parent / "pyproject.toml"
        if source.is_file():
            return str(tomllib.loads(source.read_text("utf-8"))["project"]["version"])
        return "unknown"
