"""The last good config: kept beside the control database at every valid start, used when the next one is invalid.

A site whose config was spoilt from afar must not stand still; but it says loudly that it runs by an old one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from edge.control.safefile import write_whole
from edge.mistakes import ConfigInvalid, read_toml
from edge.settings import CONFIG_BYTES_MAX, load

FILE_NAME: Final = "last-good.toml"
DEFAULT_DATABASE: Final = Path("/var/lib/tidewatt/tidewatt.db")
PATH_VARIABLE: Final = "TIDEWATT_STORE__PATH"
CONTROL_VARIABLE: Final = "TIDEWATT_STORE__CONTROL_PATH"

ModelT = TypeVar("ModelT", bound=BaseModel)


def last_good_path(control_database: Path) -> Path:
    return control_database.with_name(FILE_NAME)


def keep(config_file: Path, control_database: Path) -> None:
    """Keep the text of a config that was found valid.  Raises OSError."""
    text = _text(config_file)
    path = last_good_path(control_database)
    if not path.exists() or _text(path) != text:
        write_whole(path, text)


def load_or_last_good(config_file: Path, model: type[ModelT]) -> tuple[ModelT, ConfigInvalid | None]:
    """The config; or the last good one, and why the present one is not used.

    Raises ConfigInvalid, the present config's, where there is no last good one or that is invalid too.
    """
    try:
        return load(config_file, model)[0], None
    except ConfigInvalid as refused:
        path = last_good_path(control_database_of(config_file))
        if not path.is_file():
            raise
        try:
            return load(path, model)[0], refused
        except ConfigInvalid:
            raise refused from None


def control_database_of(config_file: Path) -> Path:
    """Where the control database of a config lies, as far as even an invalid one tells; never raises."""
    try:
        store: Any = read_toml(_text(config_file), str(config_file))[0].get("store")
    except OSError:
        store = None
    store = store if isinstance(store, dict) else {}

    def said(variable: str, key: str) -> str:
        value = os.environ.get(variable) or store.get(key)
        return value if isinstance(value, str) else ""

    database = Path(said(PATH_VARIABLE, "path") or DEFAULT_DATABASE)
    control = said(CONTROL_VARIABLE, "control_path")
    return Path(control) if control else database.with_name("control.db")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(CONFIG_BYTES_MAX).decode("utf-8-sig", errors="replace")
