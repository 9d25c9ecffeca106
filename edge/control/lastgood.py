"""The last good config: kept beside the control database at every valid start, used when the next one is invalid.

A site whose config was spoilt from afar must not stand still; but it says loudly that it runs by an old one.  Where
the control database lies cannot be asked of a config that is no TOML any more, nor of one whose [store] was spoilt:
the state directory of the service (systemd's $STATE_DIRECTORY, else /var/lib/tidewatt) remembers it by config file.

Its last line, a comment, names the config file that it is of.  In the place of another file, or of one that names
another site, it is never run: what is wired there is not known.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from edge.control.safefile import write_whole
from edge.mistakes import ConfigInvalid
from edge.settings import CONFIG_BYTES_MAX, load
from edge.tomlsyntax import read_toml

FILE_NAME: Final = "last-good.toml"
DEFAULT_DATABASE: Final = Path("/var/lib/tidewatt/tidewatt.db")
PLACE_NAME: Final = "place.json"
STATE_VARIABLE: Final = "STATE_DIRECTORY"
ORIGIN: Final = "# kept by tidewatt, from "
HEADING: Final = re.compile(r"^[ \t]*\[", re.MULTILINE)
PATH_VARIABLE: Final = "TIDEWATT_STORE__PATH"
CONTROL_VARIABLE: Final = "TIDEWATT_STORE__CONTROL_PATH"

ModelT = TypeVar("ModelT", bound=BaseModel)


def last_good_path(control_database: Path) -> Path:
    return control_database.with_name(FILE_NAME)


def keep(config_file: Path, control_database: Path) -> None:
    """Keep the text of a config that was found valid, and whose it is.  Raises OSError."""
    path = last_good_path(control_database)
    if _same_file(path, config_file):
        return  # run on purpose; it stays what it is
    text = f"{_text(config_file).rstrip()}\n{ORIGIN}{json.dumps(str(config_file.absolute()))}\n"
    if not path.exists() or _text(path) != text:
        write_whole(path, text, _mode(config_file))
    if os.environ.get(STATE_VARIABLE):
        _keep_place(config_file, control_database)


def _mode(config_file: Path) -> int:
    """The daemon's group may read the last good config where it may read the config: it asks by it."""
    found = config_file.stat()
    group = found.st_mode & stat.S_IRGRP and found.st_gid == os.getegid()
    return 0o640 if group or found.st_mode & stat.S_IROTH else 0o600


def _keep_place(config_file: Path, control_database: Path) -> None:
    path = place_path()
    places = _places(path) | {str(config_file.absolute()): str(control_database.absolute())}
    if places != _places(path):
        write_whole(path, json.dumps(places, indent=1))


def place_path() -> Path:
    """What remembers where each config's control database lies."""
    state = os.environ.get(STATE_VARIABLE, "").split(":")[0]
    return (Path(state) if state else DEFAULT_DATABASE.parent) / PLACE_NAME


def _places(path: Path) -> dict[str, str]:
    """Config file to control database; empty where nothing usable is remembered."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def load_or_last_good(config_file: Path, model: type[ModelT]) -> tuple[ModelT, ConfigInvalid | None]:
    """The config; or the last good one of the same file, and why the present one is not used.

    Raises ConfigInvalid, the present config's, where there is no last good one or that is invalid too or another's.
    """
    try:
        return load(config_file, model)[0], None
    except ConfigInvalid as refused:
        path = last_good_path(control_database_of(config_file))
        try:
            kept = load(path, model)[0]
        except ConfigInvalid:
            raise refused from None
        if whose := _another(config_file, path, refused):
            advice = f"the last good config, {path}, is not taken instead: it is that of {whose}"
            raise ConfigInvalid(refused.mistakes, advice) from None
        return kept, refused


def in_force(config_file: Path, model: type[ModelT]) -> tuple[ModelT, ConfigInvalid | None]:
    """`load_or_last_good` for a command: a file that is not there was mistyped.  Raises ConfigInvalid."""
    config, refused = load_or_last_good(config_file, model)
    if refused is not None and not os.path.exists(config_file):  # noqa: PTH110 - Path.exists raises in a closed folder
        raise refused
    return config, refused


def _another(config_file: Path, kept: Path, refused: ConfigInvalid) -> str:
    """Whose the last good config is, where not this file's: another file's, or of a site of another name; else ""."""
    origin = _origin(kept)
    if origin and not _same_file(Path(origin), config_file):
        return origin
    said, site = (_section(path, "site").get("name") for path in (config_file, kept))
    mistaken = any(mistake.key in ("site", "site.name") for mistake in refused.mistakes)
    return f"the site {site}" if isinstance(said, str) and said != site and not mistaken else ""


def _origin(kept: Path) -> str:
    """The config file that a last good one is of; "" where it was kept before that was written down."""
    _, mark, said = _text(kept).rpartition(f"\n{ORIGIN}")
    try:
        return str(json.loads(said)) if mark else ""
    except ValueError:
        return ""


def _same_file(one: Path, other: Path) -> bool:
    """Also by another name, and where neither is there any more."""
    return one.absolute() == other.absolute() or os.path.realpath(one) == os.path.realpath(other)


def control_database_of(config_file: Path) -> Path:
    """Where the control database of a config lies, be it spoilt: as remembered, else as it says; never raises."""
    remembered = _places(place_path()).get(str(config_file.absolute()))
    if remembered is not None and Path(remembered).parent.is_dir():
        return Path(remembered)
    store = _section(config_file, "store")

    def said(variable: str, key: str) -> str:
        value = os.environ.get(variable) or store.get(key)
        return value if isinstance(value, str) else ""

    database = Path(said(PATH_VARIABLE, "path") or DEFAULT_DATABASE)
    control = said(CONTROL_VARIABLE, "control_path")
    return Path(control) if control else database.with_name("control.db")


def _section(config_file: Path, name: str) -> dict[str, Any]:
    """The options under [name], also where the rest of the file cannot be read."""
    here = re.compile(rf"^[ \t]*\[[ \t]*{name}[ \t]*\][ \t]*(?:#.*)?$", re.MULTILINE)
    try:
        text = _text(config_file)
        values, _, judgeable = read_toml(text, str(config_file))
        if not judgeable and (heading := here.search(text)):
            following = HEADING.search(text, heading.end())
            values = tomllib.loads(text[heading.start() : following.start() if following else None])
    except (OSError, ValueError):
        return {}
    section: Any = values.get(name)
    return section if isinstance(section, dict) else {}


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(CONFIG_BYTES_MAX).decode("utf-8-sig", errors="replace")
