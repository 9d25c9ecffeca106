"""What the verbs share: the config they work on, the way to the daemon and to the database, times, output."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from edge.cli.waiting import waiting
from edge.times import parse_time

if TYPE_CHECKING:
    from edge.config import Config, UpstreamConfig
    from edge.store.history import History

WATCH_INTERVAL_S: Final = 1.0
CONFIG_BEHIND: Final = "tidewatt.config"
"""Where a context notes the `--config` behind a verb: completion knows no Cli."""

Command = TypeVar("Command", bound=Callable[..., Any])


class Refused(Exception):
    """What was asked for cannot be done; the text says why and what to do."""

    def __init__(self, text: str, *, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(slots=True)
class Cli:
    """What every verb works on; the config is loaded when it is first needed."""

    config_path: Path
    _config: Config | None = field(default=None, repr=False)
    _in_force: Config | None = field(default=None, repr=False)

    def config(self) -> Config:
        """What the file says now, for what acts on its content.  Raises ConfigInvalid."""
        if self._config is None:
            with waiting("reading the config"):
                from edge.config import Config
                from edge.settings import load

                self._config, _ = load(self.config_path, Config)
        return self._config

    def in_force(self) -> Config:
        """What a daemon goes by: the file, or its last good one while that has a mistake, which is told.

        For what asks the daemon or reads its database.  Raises ConfigInvalid where there is no last good one.
        """
        if self._in_force is None:
            with waiting("reading the config"):
                from edge.config import Config
                from edge.control.lastgood import in_force, last_good_path

                self._in_force, refused = in_force(self.config_path, Config)
                last = last_good_path(self._in_force.store.control_database)
            if refused is None:
                self._config = self._in_force
            else:
                first, *others = refused.mistakes
                more = f", and {len(others)} more (tidewatt config check)" if others else ""
                click.echo(f"warning: {first}{more}; going by the last good config, {last}", err=True)
        return self._in_force

    def upstream_config(self) -> UpstreamConfig:
        """The upstream process's config, from the same kind of file.  Raises ConfigInvalid."""
        from edge.config import UpstreamConfig
        from edge.settings import load

        return load(self.config_path, UpstreamConfig)[0]

    def database(self) -> Path:
        return self.in_force().store.database

    def socket(self) -> Path:
        from edge.local import socket_path

        return socket_path(self.in_force().local, self.database())

    def call(self, verb: str, **args: Any) -> Any:
        """Ask the running daemon.  Raises LocalUnavailable, LocalRefused."""
        from edge.local import call

        socket = self.socket()
        with waiting("asking the daemon"):
            return call(socket, verb, args)

    def zone(self) -> tzinfo:
        """The site's time zone."""
        import zoneinfo

        name = self.in_force().site.timezone
        return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


pass_cli = click.make_pass_decorator(Cli)


def accept_config(command: click.Command) -> None:
    """Let `--config FILE` stand behind the verb too; a verb with an option of that name keeps its own."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            accept_config(inner)
    if any("--config" in parameter.opts for parameter in command.params):
        return
    option = click.Option(
        ["--config"],
        type=click.Path(path_type=Path, readable=False),  # what is wrong with it, `load` says better
        metavar="FILE",
        expose_value=False,
        help="The config file.",
        callback=_take_config,
    )
    command.params.append(option)


def _take_config(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    cli = ctx.find_object(Cli)
    if value is not None:
        ctx.meta[CONFIG_BEHIND] = value
    if value is not None and cli is not None:
        cli.config_path = value


def json_option(command: Command) -> Command:
    """`--json` for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def why_option(command: Command) -> Command:
    """`--why` of every write."""
    return click.option("--why", default="", help="What for; it stands in the journal.")(command)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def tell_cut(limit: int, limit_max: int, of: str = "") -> None:
    """Say that --limit cut something off; on standard error, as the rest may be a program's."""
    advice = "--limit N for more" if limit < limit_max else "the most there can be: narrow the choice"
    click.echo(f"only the newest {limit:,}{of or ' of more'} are shown; {advice}", err=True)


# ------------------------------------------------------------------------------------------- history


@contextmanager
def open_history(database: Path) -> Iterator[History]:
    """What was recorded, read-only, whether the daemon runs or not; the block must not print.  Raises Refused."""
    from edge.store import history

    with database_errors(database), waiting("reading the database"), history.opened(database) as found:
        yield found


@contextmanager
def database_errors(database: Path) -> Iterator[None]:
    """SQLite's errors in words.  Raises Refused."""
    import sqlite3

    if not database.exists():
        raise Refused(f"there is no database at {database}; start the daemon, or name its config: --config")
    try:
        yield
    except sqlite3.Error as error:
        raise Refused(f"{database}: {error}; {_database_advice(str(error))}") from error


def _database_advice(words: str) -> str:
    if "no such table" in words or "no such column" in words:
        return "its schema is another version's; run tidewatt db status"
    if "unable to open" in words or "readonly" in words:
        return "add the user to the group tidewatt, or use sudo"
    if "not a database" in words or "malformed" in words:
        return "start the daemon, which sets it aside, or restore a backup"
    return "run tidewatt db status"


def watch(draw: Callable[[], None], *, every_s: float = WATCH_INTERVAL_S) -> None:
    """Draw again and again on a cleared screen until Ctrl-C."""
    try:
        while True:
            click.clear()
            draw()
            time.sleep(every_s)
    except KeyboardInterrupt:
        click.echo()


# --------------------------------------------------------------------------------------------- times


def now_ms() -> int:
    from edge.clock import SystemClock

    return SystemClock().now_ms()


def when_option(name: str, text: str, now: int, zone: tzinfo) -> int:
    """UTC milliseconds of a time from the command line.  Raises click.BadParameter.

    zone  of a time that is written without one
    """
    try:
        return parse_time(text, now, zone)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(str(error), param_hint=f"--{name}") from error


def show_time(iso_text: str | None, zone: tzinfo) -> str:
    """An ISO time as the site's clock shows it, to the second; "" for none."""
    if not iso_text:
        return ""
    return datetime.fromisoformat(iso_text).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def show_bytes(count: float | None) -> str:
    """1.2 kB, 34 MB: powers of 1000."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def show_value(value: float | None, decimals: int | None = None, *, digits: int = 15) -> str:
    """A number as it was stored: no more decimals than it has; "—" for none.

    digits  so many are significant, where `decimals` does not say how many stand behind the point
    """
    if value is None:
        return "—"
    return f"{value:.{digits}g}" if decimals is None else f"{value:.{decimals}f}"


def show_level(level: float) -> str:
    """on, off, 40%, 12.5%."""
    return "on" if level >= 1.0 else "off" if level <= 0.0 else f"{level:.1%}".replace(".0%", "%")
