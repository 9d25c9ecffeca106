"""`tidewatt`: the group of all verbs, and how errors reach a person.

Exit codes: 0 done, 1 it did not work (or something is wrong), 2 wrong use of the command line; 130 by Ctrl-C, and 141
where whoever reads its output had enough before the end (`| head`), as with any command of the shell.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from edge.cli.examples import add_examples
from edge.cli.support import Cli, accept_config

PROGRAM: Final = "tidewatt"
COMPLETE_VARIABLE: Final = "_TIDEWATT_COMPLETE"
DEFAULT_CONFIG: Final = "/etc/tidewatt/config.toml"
EXIT_INTERRUPTED: Final = 130
EXIT_UNREAD: Final = 141

#: verb -> where its command is, and what the overview says of it (so that the overview imports nothing)
VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "status": ("edge.cli.status:status", "Is everything all right? What is wrong, and what to do."),
    "devices": ("edge.cli.devices:devices", "Devices with their newest values and last errors."),
    "outputs": ("edge.cli.outputs:outputs", "What is on and why; overrides; everything to safe."),
    "why": ("edge.cli.why:why", "Why an output is as it is, and its last changes."),
    "series": ("edge.cli.series:series", "What is recorded, with the newest value of each series."),
    "readings": ("edge.cli.readings:readings", "Recorded values: a table, CSV or JSON."),
    "events": ("edge.cli.events:events", "What happened: faults, recoveries, changes."),
    "ingest": ("edge.cli.ingest:ingest", "Take meter files in: NEM12, NEM13, zips of them."),
    "files": ("edge.cli.files:files", "Meter files that came, their states, counts and problems."),
    "meters": ("edge.cli.meters:meters", "Meters that files told of, their channels and reads."),
    "intervals": (
        "edge.cli.intervals:intervals",
        "What a meter counted: intervals, daily and monthly totals.",
    ),
    "sync": ("edge.cli.sync:sync", "How far the delivery to Postgres is; bind its ledger."),
    "scan": ("edge.cli.scan:scan", "Look what is connected to this machine; prints config to paste."),
    "test": ("edge.cli.test:test", "Read a device once and show what it says."),
    "calibrate": (
        "edge.cli.calibrate:calibrate",
        "Calibrate a probe by buffers, ice water or weights; step by step.",
    ),
    "clock": ("edge.cli.clock:clock", "What the time of day is worth here; say that it is right."),
    "doctor": ("edge.cli.doctor:doctor", "Is everything there that this site stands on? What to do."),
    "selftest": (
        "edge.cli.selftest:selftest",
        "Break every part of this site in simulation: does it end safe?",
    ),
    "nem12": ("edge.cli.nem12:nem12", "Look into meter files (NEM12, NEM13) and check them."),
    "drivers": ("edge.cli.drivers:drivers", "What can be connected, with every option."),
    "config": ("edge.cli.config:config", "Check a config file, show what is in force, print the schema."),
    "run": ("edge.cli.run:run", "Run the daemon."),
    "sink": ("edge.cli.sink:sink", "Run the upstream process, from the broker into Postgres."),
    "broker": ("edge.cli.broker:broker", "Files for the mosquitto of a fleet: logins and their rights."),
    "db": ("edge.cli.db:db", "Migrate, copy, seed and look at the databases."),
    "demo": ("edge.cli.demo:demo", "The whole thing on this machine, without any hardware."),
    "help": ("edge.cli.help:help_", "The handbook's chapters, one of them, or a command's help."),
    "completion": ("edge.cli.completion:completion", "Print the completion script for bash, zsh or fish."),
}

#: Errors whose text tells a person what to do, by name: looking for them must import nothing.
SPEAKING: Final = frozenset(
    {
        "edge.cli.support.Refused",
        "edge.mistakes.ConfigInvalid",
        "edge.local.LocalRefused",
        "edge.local.LocalUnavailable",
        "edge.store.database.StoreError",
        "migrations.modules.MigrationError",
        "drivers.base.DriverError",
    }
)

EPILOG: Final = """\b
Examples:
  tidewatt config check /etc/tidewatt/config.toml
  tidewatt status
  tidewatt readings tank.temperature --from -6h --csv
  tidewatt --config .demo/config.toml devices

\b
The config file is --config FILE, else TIDEWATT_CONFIG, else /etc/tidewatt/config.toml.
"""


class _ReaderGone(Exception):
    """A BrokenPipeError by a name that click, which makes it an exit code of 1, does not know."""


class LazyGroup(click.Group):
    """Imports a verb's module when the verb is used; `--help` needs none of them."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        accept_config(command)
        add_examples(cmd_name, command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = get_close_matches(args[0], VERBS, n=1)
            guess = f"did you mean {near[0]}?" if near else f"see {PROGRAM} --help"
            ctx.fail(f"there is no command {args[0]!r}; {guess}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Verbs from the table, without importing them all for their help."""
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(name, help=summary)
            for name, (_, summary) in VERBS.items()
            if name.startswith(incomplete)
        ]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from edge.version import version

        click.echo(f"{PROGRAM} {version()}")
        ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),
    envvar="TIDEWATT_CONFIG",
    default=DEFAULT_CONFIG,
    metavar="FILE",
    help="The config file (also after the command).",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print it."
)
@click.pass_context
def cli(ctx: click.Context, config_path: Path) -> None:
    """tidewatt runs a site: it polls its sensors, keeps every value and delivers it to Postgres."""
    ctx.obj = Cli(config_path=config_path)
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False  # click takes every colour and shade out of what is printed


def config_path(context: click.Context) -> Path:
    """The config file this command works on."""
    found = context.find_object(Cli)
    return found.config_path if found is not None else Path(DEFAULT_CONFIG)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs the command and ends the process with its exit code."""
    leave(run(arguments))


def leave(code: int) -> NoReturn:
    """End the process; a call that never came back from a device or a name server does not hold it."""
    main_thread = threading.main_thread()
    if all(thread.daemon for thread in threading.enumerate() if thread is not main_thread):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every error becomes one clear message on standard error and an exit code."""
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name=PROGRAM,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
        )
        sys.stdout.flush()
        return result if isinstance(result, int) and not isinstance(result, bool) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        _say(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except _ReaderGone:
        _reader_has_gone()
        return EXIT_UNREAD
    except BrokenPipeError:
        _reader_has_gone()
        return 0
    except Exception as error:  # noqa: BLE001 - the last place where an error can be put into words
        return _explain(error)


def _say(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)  # the help, which was asked for by saying nothing
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    told = error.format_message()
    if isinstance(error, click.MissingParameter):
        from edge.cli.missing import advice

        told = f"{told} {advice(error)}".rstrip()
    click.echo(f"{PROGRAM}: {told}", err=True)


def _reader_has_gone() -> None:
    """`tidewatt series | head`: the reader has enough.  Python must not fail on its last flush either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> int:
    """Errors that know what to do speak for themselves; anything else is a bug of ours and says so."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if kinds & SPEAKING:
        told = str(error)
        click.echo(told if "edge.mistakes.ConfigInvalid" in kinds else f"{PROGRAM}: {told}", err=True)
        return int(getattr(error, "exit_code", 1))
    if os.environ.get("TIDEWATT_DEBUG") or "INVOCATION_ID" in os.environ:
        traceback.print_exception(error)
    hint = "" if os.environ.get("TIDEWATT_DEBUG") else "; TIDEWATT_DEBUG=1 shows where, please report it"
    click.echo(f"{PROGRAM}: {type(error).__name__}: {error}{hint}", err=True)
    return 1


if __name__ == "__main__":
    main()
