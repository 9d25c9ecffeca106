"""`tidewatt sink`: the upstream process, and what stands in its Postgres."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import click

from edge.cli.loop import run_unwaited
from edge.cli.support import Cli, Refused, json_option, now_ms, pass_cli, print_json, when_option
from edge.cli.table import Column, show
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from edge.config import UpstreamConfig
    from sync.ingest import Ingest

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
DEAD_COUNTS: Final = """
    SELECT (SELECT count(*) FROM v1_dead_letter WHERE %(edge)s::text IS NULL OR edge = %(edge)s) AS rows,
        (SELECT count(*) FROM bad_batch WHERE %(edge)s::text IS NULL OR edge = %(edge)s) AS batches
"""


ORPHANED: Final = (
    "\norphaned: the edge asks about this log no more; what is missing of it was on a card that is gone, or is in a"
    " database that was set aside"
)
EDGES: Final = """
    SELECT e.edge, e.asked_at AS asked, coalesce(sum(c.missing), 0)::int8 AS missing,
        coalesce(sum(c.refused), 0)::int8 AS refused, coalesce(sum(c.gaps), 0)::int8 AS gaps,
        coalesce(sum(c.lost), 0)::int8 AS lost, e.clone_seen_at AS clone_seen
    FROM v1_edge e LEFT JOIN v1_completeness c ON c.edge = e.edge
    GROUP BY e.edge, e.asked_at, e.clone_seen_at ORDER BY 1
"""


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt --config sink.toml sink
  tidewatt --config sink.toml sink ledger
  tidewatt --config sink.toml sink dead-letters --edge reef-1
  tidewatt --config sink.toml sink status
  tidewatt --config sink.toml sink redrive
  tidewatt --config sink.toml sink reopen --edge reef-1 --from 2026-03-01 --to 2026-03-02

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
        run_unwaited(partial(_run, config))


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
        if any(row["missing"] and row["state"] == "orphaned" for row in rows):
            click.echo(ORPHANED)
    if any(row["missing"] for row in rows):
        raise click.exceptions.Exit(1)


async def _ledger(connection: AsyncConnection, *, edge: str | None) -> tuple[str, list[dict[str, Any]]]:
    found = await _rows(connection, "SELECT tidewatt_ledger() AS id", {})
    return found[0]["id"], await _rows(connection, COMPLETENESS, {"edge": edge})


@sink.command()
@json_option
@pass_cli
def status(cli: Cli, as_json: bool) -> None:
    """Every edge: when it last asked, and what of it is missing, refused, given up or lost.  Needs no running sink."""
    rows = _with_postgres(cli, lambda connection: _rows(connection, EDGES, {}))
    if as_json:
        print_json({"edges": [_plain(row) for row in rows]})
        return
    numbers = ("missing", "refused", "gaps", "lost")
    columns = [Column(title="edge"), Column(title="asked")]
    columns += [Column(title=title, right=True) for title in numbers]
    columns.append(Column(title="clone seen"))
    cells = [[_plain(row)[name] for name in ("edge", "asked", *numbers, "clone_seen")] for row in rows]
    show(
        columns,
        [["" if cell is None else str(cell) for cell in row] for row in cells],
        empty="no edge was heard of",
    )


@sink.command(name="dead-letters")
@click.option("--edge", metavar="NAME", help="Only of this edge.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="The newest so many.")
@json_option
@pass_cli
def dead_letters(cli: Cli, edge: str | None, limit: int, as_json: bool) -> None:
    """Rows that Postgres refused for their data, and batches that could not be read, with the reason."""
    dead, bad, all_ = _with_postgres(cli, partial(_dead, edge=edge, limit=limit))
    more = {"rows": max(0, all_["rows"] - len(dead)), "batches": max(0, all_["batches"] - len(bad))}
    if as_json:
        shown = {"rows": [_plain(row) for row in dead], "batches": [_plain(row) for row in bad]}
        print_json({**shown, "cut": any(more.values()), "more": more})
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
    if any(more.values()):
        words = " and ".join(f"{count:,} more of the {what}" for what, count in more.items() if count)
        click.echo(f"{words} are not shown; --limit N for more", err=True)


async def _dead(
    connection: AsyncConnection, *, edge: str | None, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
    """The newest of both kinds, and how many of each there are."""
    values = {"edge": edge, "limit": limit}
    dead, bad = await _rows(connection, DEAD_LETTERS, values), await _rows(connection, BAD_BATCHES, values)
    (counts,) = await _rows(connection, DEAD_COUNTS, values)
    return dead, bad, counts


@sink.command()
@click.option("--edge", metavar="NAME", help="Only of this edge.")
@json_option
@pass_cli
def redrive(cli: Cli, edge: str | None, as_json: bool) -> None:
    """Try again to store the rows that were refused.  Exit code 1 if some still are."""
    config = cli.upstream_config()
    with _in_words(), waiting("storing them again"):
        stored, refused = run_unwaited(partial(_redrive, config, edge))
    if as_json:
        print_json({"stored": stored, "refused": refused})
    elif stored or refused:
        click.echo(f"stored: {stored}; still refused: {refused}")
    else:
        click.echo("nothing to do: no row was refused")
    if refused:
        raise click.exceptions.Exit(1)


async def _redrive(config: UpstreamConfig, edge: str | None) -> tuple[int, int]:
    async with _ingest(config) as ingest:
        return await ingest.redrive(edge)


@sink.command()
@click.option("--edge", metavar="NAME", required=True, help="Of this edge.")
@click.option(
    "--stream",
    default="readings",
    show_default=True,
    type=click.Choice(["readings", "summaries", "events", "channel_days", "register_reads"]),
    help="Of this stream.",
)
@click.option(
    "--from", "from_text", required=True, metavar="TIME", help="From then on: 2026-03-01, -2d; in UTC."
)
@click.option("--to", "to_text", default="now", show_default=True, metavar="TIME", help="Until then.")
@json_option
@pass_cli
def reopen(cli: Cli, edge: str, stream: str, from_text: str, to_text: str, as_json: bool) -> None:
    """Ask for rows again that were stored and are gone, say by a DELETE too many; what still stands stays.

    Of meter files (channel_days, register_reads) everything is asked for that was sent until then.

    The edge hears of it when it next asks (hourly, or when it connects), and sends what it still has.
    """
    now = now_ms()
    from_ms, to_ms = when_option("from", from_text, now, UTC), when_option("to", to_text, now, UTC)
    if from_ms >= to_ms:
        raise click.BadParameter("is not before --to; swap them", param_hint="--from")
    config = cli.upstream_config()
    with _in_words(), waiting("looking what is gone"):
        count = run_unwaited(partial(_reopen, config, edge, stream, from_ms, to_ms))
    if as_json:
        print_json({"edge": edge, "stream": stream, "reopened": count})
    else:
        click.echo(f"{count} of {stream} are asked for again" if count else "nothing is gone that was stored")


async def _reopen(config: UpstreamConfig, edge: str, stream: str, from_ms: int, to_ms: int) -> int:
    async with _ingest(config) as ingest:
        return await ingest.reopen_between(edge, stream, from_ms, to_ms)


# ---------------------------------------------------------------------------------------------- shared


def _ingest(config: UpstreamConfig) -> AbstractAsyncContextManager[Ingest]:
    import structlog

    from edge import log
    from edge.clock import SystemClock
    from sync.ingest import Ingest

    log.setup(config.log)
    settings = config.sink
    return Ingest.open(
        settings.postgres.get_secret_value(),
        now_ms=SystemClock().now_ms,
        log=structlog.get_logger("sink"),
        months_behind=settings.months_behind,
        months_ahead=settings.months_ahead,
    )


def _with_postgres(cli: Cli, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Do `work` with a connection to the Postgres of the config."""
    dsn = cli.upstream_config().sink.postgres.get_secret_value()

    async def connected() -> T:
        from sync import postgres

        async with postgres.connect(dsn) as connection, postgres.in_words(connection, postgres.describe(dsn)):
            return await work(connection)

    with _in_words(), waiting("asking Postgres"):
        return run_unwaited(connected)


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
