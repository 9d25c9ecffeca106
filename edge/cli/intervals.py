"""`tidewatt intervals`: what a meter counted, interval by interval, or as totals of days and months."""

from __future__ import annotations

import csv
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

import click

from edge.cli import complete
from edge.cli.support import (
    Cli,
    Refused,
    database_errors,
    json_option,
    now_ms,
    pass_cli,
    print_json,
    when_option,
)
from edge.cli.table import Column, show
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from edge.meters.queries import Interval, Intervals

LIMIT_MAX: Final = 1_000_000
COLUMNS: Final = (
    Column(title="from"),
    Column(title="to"),
    Column(title="value", right=True),
    Column(title="unit"),
    Column(title="quality"),
    Column(title="of"),
)
QUALITIES: Final = "good, estimated, bad, or a flag of the file such as A, S14"


@click.command(
    epilog="""\b
Examples:
  tidewatt intervals 6102000001 E1 --from 2026-01-01 --to 2026-02-01
  tidewatt intervals 6102000001 E1 --resolution P1M
  tidewatt intervals 6102000001 B1 --resolution PT1H --quality estimated
  tidewatt intervals 6102000001 E1 --from -365d --limit 1000000 --format csv > e1.csv

\b
Times without a zone are the meter's own: market time, UTC+10 the whole year, unless [[meters.nmi]] says otherwise.
"""
)
@click.argument("nmi", shell_complete=complete.nmis)
@click.argument("suffix", shell_complete=complete.suffixes)
@click.option("--from", "from_text", default="1970-01-01", help="Oldest time; all there is when not given.")
@click.option("--to", "to_text", default="9999-01-01", help="Time before which it ends.")
@click.option(
    "--resolution",
    type=click.Choice(["raw", "PT5M", "PT10M", "PT15M", "PT30M", "PT1H", "P1D", "P1M"]),
    default="raw",
    show_default=True,
    help="The file's own intervals, or exact totals of so long.",
)
@click.option("--quality", default="", metavar="QUALITY", help=f"Only these: {QUALITIES}.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=100, show_default=True, help="So many.")
@click.option(
    "--offset", type=click.IntRange(0), default=0, show_default=True, help="After so many, oldest first."
)
@click.option(
    "--format", "shape", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@json_option
@pass_cli
def intervals(
    cli: Cli,
    nmi: str,
    suffix: str,
    from_text: str,
    to_text: str,
    resolution: str,
    quality: str,
    limit: int,
    offset: int,
    shape: str,
    as_json: bool,
) -> None:
    """Intervals of a meter's channel, such as 6102000001 E1 (tidewatt meters lists them).

    Of days that came more than once the newest version counts.  Values are the file's digits, totals are exact.
    """
    from edge.meters import queries

    now = now_ms()
    with (
        database_errors(cli.database()),
        waiting("reading the database"),
        queries.opened(cli.database()) as history,
    ):
        zone = timezone(timedelta(minutes=history.offset_min(nmi)))
        from_ms, to_ms = when_option("from", from_text, now, zone), when_option("to", to_text, now, zone)
        if from_ms >= to_ms:
            raise click.BadParameter("is not before --to; swap them", param_hint="--from")
        try:
            found = history.intervals(
                nmi, suffix, from_ms=from_ms, to_ms=to_ms, resolution=resolution, quality=quality, limit=limit,
                offset=offset,
            )  # fmt: skip
        except (queries.NoSuchChannel, queries.BadResolution) as error:
            raise Refused(str(error), exit_code=2) from None
    if as_json or shape == "json":
        print_json(queries.intervals_json(found))
    elif shape == "csv":
        _print_csv(found)
    else:
        _print_table(found, zone)
    shown = offset + len(found.rows)
    if shown < found.total:
        more = f"{len(found.rows)} of {found.total:,}; --offset {shown} goes on, or raise --limit"
        click.echo(more, err=True)


def _print_csv(found: Intervals) -> None:
    from edge.meters.queries import intervals_json

    writer = csv.writer(sys.stdout, lineterminator="\n")
    keys = ("start", "end", "value", "quality", "flag", "method", "reason", "count", "expected")
    writer.writerow(("nmi", "suffix", "unit", *keys))
    for row in intervals_json(found)["intervals"]:
        writer.writerow((found.nmi, found.suffix, found.unit, *(row[key] for key in keys)))


def _print_table(found: Intervals, zone: timezone) -> None:
    show(
        COLUMNS,
        [_cells(row, found, zone) for row in found.rows],
        empty="there are no such intervals; tidewatt meters shows which days there are",
    )


def _cells(row: Interval, found: Intervals, zone: timezone) -> tuple[str, ...]:
    pattern = "%Y-%m-%d" if found.resolution in ("P1D", "P1M") else "%Y-%m-%d %H:%M"
    begin, end = (
        datetime.fromtimestamp(ms / 1000, zone).strftime(pattern) for ms in (row.start_ms, row.end_ms)
    )
    flag = f"{row.quality} {row.flag}{row.method}".rstrip()
    told = f"{flag}: {row.reason}" if row.reason else flag
    of = f"{row.count}/{row.expected}" if found.resolution != "raw" else ""
    return begin, end, row.value if row.value is not None else "—", found.unit, told, of
