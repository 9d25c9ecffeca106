"""Names of this site for the shell's completion: read from the config file and the database as they are.

Every press of a key starts a process, so nothing of ours is loaded that takes time; what cannot be read completes to
nothing, without a word.
"""

from __future__ import annotations

import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

DATABASE: Final = "/var/lib/tidewatt/tidewatt.db"
BUSY_TIMEOUT_S: Final = 0.5
NAMES_MAX: Final = 10_000

Names = Callable[[click.Context, click.Parameter, str], list[str]]


def _table(kind: str) -> Names:
    """The names of all `[[kind]]` of the config."""

    def names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        found = _config(ctx).get(kind)
        entries = found if isinstance(found, list) else []
        return _begun(begun, (entry.get("name") for entry in entries if isinstance(entry, dict)))

    return names


def _column(query: str) -> Names:
    """What a query finds in the database; `:argument` in it are the arguments before this one."""

    def names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        store = _config(ctx).get("store")
        path = Path(store.get("path", DATABASE) if isinstance(store, dict) else DATABASE)
        values = {name: value for name, value in ctx.params.items() if isinstance(value, str)}
        try:
            address = f"{path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S)) as connection:
                return _begun(begun, (name for (name,) in connection.execute(query, values)))
        except (sqlite3.Error, ValueError):
            return []

    return names


devices: Final = _table("devices")
outputs: Final = _table("outputs")
series: Final = _column("SELECT DISTINCT name FROM series ORDER BY name")
nmis: Final = _column("SELECT DISTINCT nmi FROM channel ORDER BY nmi")
suffixes: Final = _column("SELECT DISTINCT suffix FROM channel WHERE nmi = :nmi ORDER BY suffix")


def heads(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The histories that `tidewatt db generate` continues."""
    from migrations.outside import edge_modules

    return _begun(begun, (f"{module.label}@head" for module in edge_modules()))


def modules(_ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """What `tidewatt db detach` can remove."""
    from migrations.outside import edge_modules

    return _begun(begun, (module.name for module in edge_modules() if module.optional))


def _config(ctx: click.Context) -> Mapping[str, Any]:
    from edge.cli.support import CONFIG_BEHIND

    path = ctx.meta.get(CONFIG_BEHIND) or ctx.find_root().params.get("config_path")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}


def _begun(begun: str, names: Iterable[object]) -> list[str]:
    fitting = (name for name in names if isinstance(name, str) and name.startswith(begun))
    return [name for name, _ in zip(fitting, range(NAMES_MAX), strict=False)]
