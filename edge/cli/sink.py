"""`tidewatt sink`: the upstream process, and what stands in its Postgres."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.table import Column, show

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from edge.config import UpstreamConfig

T = TypeVar("T")

COMPLETENESS: Final = (
    "SELECT * FROM v1_completeness WHERE %(edge)s::text IS NULL OR edge = %(edge)s ORDER BY 1, 2, 3"
)
DEAD_LETTERS: Final = """
    SELECT edge, log, stream, seq, refused_at, reason, payload FROM v1_dead_letter
    WHERE %(edge)s::text IS NULL OR edge = %(edge)s ORDER BY refused_at DESC, edge, log, stream, seq LIMIT %(limit)s
"""
BAD_BATCHES: Final = """
    SELECT edge, stream, times, last_at, reason, hash FROM bad_batch
    WHERE %(edge)s::text IS NULL OR edge = %(edge)s ORDER BY last_at DESC LIMIT %(limit)s
"""


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt --config sink.toml sink
  tidewatt --config sink.toml sink ledger
  tidewatt --config sink.toml sink dead-letters --edge reef-1
  tidewatt --config sink.toml sink redrive

\b
Before its first start: tidewatt db migrate --upstream postgresql://owner@host/database
""",
)
@click.pass_context
def sink(ctx: click.Context) -> None:
    """Run the upstream process, from the broker into Postgres, or look at what stands there."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(run)


@sink.command()
@pass_cli
def run(cli: Cli) -> None:
    """Run until SIGTERM or Ctrl-C.  First it prints the ledger id that the edges' config has to name."""
    config = cli.upstream_config()
    with _in_words():
        anyio.run(partial(_run, config))


async def _run(config: UpstreamConfig) -> None:
    import structlog

    from edge import log
    from edge.clock import SystemClock
    from sync.postgres import UpstreamError
    from sync.sink import run_sink

    log.setup(config.log)
    logger = structlog.get_logger("sink")
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, stop)
        try:
            await run_sink(config.sink, SystemClock(), stop, logger, _tell_ledger)
        except UpstreamError as error:
            logger.error("sink-ends", why=str(error))
            raise
        finally:
            group.cancel_scope.cancel()


def _tell_ledger(ledger: str) -> None:
    click.echo(f'ledger {ledger}; in the config of each edge:  [uplink]  ledger = "{ledger}"')


async def _stop_on_signal(stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()


@sink.command()
@click.option("--edge", metavar="NAME", help="Only of this edge.")
@json_option
@pass_cli
def ledger(cli: Cli, edge: str | None, as_json: bool) -> None:
    """The ledger's id, and how complete every log of every edge is.  Exit code 1 if something is missing."""
    id_, rows = _with_postgres(cli, partial(_ledger, edge=edge))
    if as_json:
        print_json({"ledger": id_, "logs": [_plain(row) for row in rows]})
    else:
        click.echo(f"ledger {id_}")
        numbers = ("head", "stored", "refused", "gaps", "lost", "missing")
        columns = [Column(title=title) for title in ("edge", "log", "stream", "state")]
        columns += [Column(title=title, right=True) for title in numbers]
        cells = [[str(row[name]) for name in ("edge", "log", "stream", "state", *numbers)] for row in rows]
        show(columns, cells, empty="nothing was delivered yet")
    if any(row["missing"] for row in rows):
        raise click.exceptions.Exit(1)


async def _ledger(connection: AsyncConnection, *, edge: str | None) -> tuple[str, list[dict[str, Any]]]:
    found = await _rows(connection, "SELECT tidewatt_ledger() AS id", {})
    return found[0]["id"], await _rows(connection, COMPLETENESS, {"edge": edge})


@sink.command(name="dead-letters")
@click.option("--edge", metavar="NAME", help="Only of this edge.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The newest so many.")
@json_option
@pass_cli
def dead_letters(cli: Cli, edge: str | None, limit: int, as_json: bool) -> None:
    """Rows that Postgres refused for their data, and batches that could not be read, with the reason."""
    dead, bad = _with_postgres(cli, partial(_dead, edge=edge, limit=limit))
    if as_json:
        print_json({"rows": [_plain(row) for row in dead], "batches": [_plain(row) for row in bad]})
        return
    titles = ("edge", "log", "stream", "seq", "reason", "payload")
    columns = [Column(title=title, cut=title in ("reason", "payload")) for title in titles]
    show(columns, [[str(row[title]) for title in titles] for row in dead], empty="no row was refused")
    if bad:
        click.echo("\nbatches that could not be read:")
        told = ("edge", "stream", "times", "last_at", "reason")
        columns = [Column(title=title, cut=title == "reason") for title in told]
        show(columns, [[str(row[title]) for title in told] for row in bad])
    if dead:
        click.echo("\nonce the cause is gone: tidewatt sink redrive")


async def _dead(
    connection: AsyncConnection, *, edge: str | None, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    values = {"edge": edge, "limit": limit}
    return await _rows(connection, DEAD_LETTERS, values), await _rows(connection, BAD_BATCHES, values)


@sink.command()
@click.option("--edge", metavar="NAME", help="Only of this edge.")
@json_option
@pass_cli
def redrive(cli: Cli, edge: str | None, as_json: bool) -> None:
    """Try again to store the rows that were refused.  Exit code 1 if some still are."""
    config = cli.upstream_config()
    with _in_words():
        stored, refused = anyio.run(partial(_redrive, config, edge))
    if as_json:
        print_json({"stored": stored, "refused": refused})
    elif stored or refused:
        click.echo(f"stored: {stored}; still refused: {refused}")
    else:
        click.echo("nothing to do: no row was refused")
    if refused:
        raise click.exceptions.Exit(1)


async def _redrive(config: UpstreamConfig, edge: str | None) -> tuple[int, int]:
    import structlog

    from edge import log
    from edge.clock import SystemClock
    from sync.ingest import Ingest

    log.setup(config.log)
    settings = config.sink
    async with Ingest.open(
        settings.postgres.get_secret_value(),
        now_ms=SystemClock().now_ms,
        log=structlog.get_logger("sink"),
        months_behind=settings.months_behind,
        months_ahead=settings.months_ahead,
    ) as ingest:
        return await ingest.redrive(edge)


# ---------------------------------------------------------------------------------------------- shared


def _with_postgres(cli: Cli, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Do `work` with a connection to the Postgres of the config."""
    dsn = cli.upstream_config().sink.postgres.get_secret_value()

    async def connected() -> T:
        from sync import postgres

        async with postgres.connect(dsn) as connection, postgres.in_words(connection, postgres.describe(dsn)):
            return await work(connection)

    with _in_words():
        return anyio.run(connected)


@contextmanager
def _in_words() -> Iterator[None]:
    """Errors as what a person can do about them.  Raises Refused."""
    try:
        from sync.postgres import UpstreamError
    except ImportError:
        raise Refused("the upstream process needs psycopg; pip install 'tidewatt[sink]'") from None
    try:
        yield
    except UpstreamError as error:
        raise Refused(str(error)) from None
    except BaseExceptionGroup as group:
        troubles, others = group.split(UpstreamError)
        if troubles is None or others is not None:
            raise
        raise Refused("; ".join(map(str, troubles.exceptions))) from None


async def _rows(connection: AsyncConnection, query: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    from psycopg.rows import dict_row

    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Ids of 64 bits as text, times as ISO 8601."""
    shown = dict(row)
    for key, value in row.items():
        if key == "log":
            shown[key] = str(value)
        elif hasattr(value, "isoformat"):
            shown[key] = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return shown
