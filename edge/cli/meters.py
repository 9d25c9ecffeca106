"""`tidewatt meters`: the meters that files told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge.cli import complete
from edge.cli.support import Cli, Refused, database_errors, json_option, pass_cli, print_json
from edge.cli.table import Column, show
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from edge.meters.queries import Meter

CHANNEL_COLUMNS = (
    Column(title="meter"),
    Column(title="suffix"),
    Column(title="unit"),
    Column(title="interval", right=True),
    Column(title="first day"),
    Column(title="last day"),
    Column(title="days", right=True),
    Column(title="missing", right=True),
    Column(title="replaced", right=True),
)
READ_COLUMNS = (
    Column(title="meter"),
    Column(title="suffix"),
    Column(title="register"),
    Column(title="from"),
    Column(title="to"),
    Column(title="read", right=True),
    Column(title="quantity", right=True),
    Column(title="unit"),
    Column(title="quality"),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt meters
  tidewatt meters 6102000001 --json
"""
)
@click.argument("nmi", required=False, shell_complete=complete.nmis)
@json_option
@pass_cli
def meters(cli: Cli, nmi: str | None, as_json: bool) -> None:
    """The meters that files told of, their channels and reads; one of them with NMI.

    Days are the market's, from midnight of UTC+10 unless [[meters.nmi]] says otherwise; replaced are channel-days
    of which a newer version came.
    """
    from edge.meters import queries

    with (
        database_errors(cli.database()),
        waiting("reading the database"),
        queries.opened(cli.database()) as history,
    ):
        found = history.meters()
    if nmi is not None:
        known = [meter.nmi for meter in found]
        found = [meter for meter in found if meter.nmi == nmi]
        if not found:
            raise Refused(f"no file told of a meter {nmi!r}; there are: {', '.join(known) or 'none'}")
    if as_json:
        print_json({"meters": [queries.meter_json(meter) for meter in found]})
        return
    _print(found)


def _print(found: list[Meter]) -> None:
    channels = [
        (
            meter.nmi, channel.suffix, channel.unit, f"{channel.interval_min} min", channel.first.isoformat(),
            channel.last.isoformat(), str(channel.days), str(channel.missing), str(channel.replaced),
        )
        for meter in found
        for channel in meter.channels
    ]  # fmt: skip
    reads = [
        (
            meter.nmi, read.suffix, read.register, _day(read.from_at), _day(read.to_at), read.current_read,
            read.quantity, read.unit, read.quality,
        )
        for meter in found
        for read in meter.reads
    ]  # fmt: skip
    if channels or not reads:
        show(CHANNEL_COLUMNS, channels, empty="no meter file came yet; tidewatt ingest FILE takes one in")
    if reads:
        if channels:
            click.echo()
        show(READ_COLUMNS, reads)


def _day(stamp: str) -> Any:
    """Of a file's digits the day, as people write it."""
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}" if len(stamp) >= 8 else stamp
