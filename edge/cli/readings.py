"""`tidewatt readings`: recorded values as a table, CSV or JSON, and live ones with --follow."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any, Final

import click

from edge.cli import complete
from edge.cli.series import choose
from edge.cli.support import (
    WATCH_INTERVAL_S,
    Cli,
    Refused,
    json_option,
    now_ms,
    open_history,
    pass_cli,
    print_json,
    show_time,
    show_value,
    tell_cut,
    when_option,
)
from edge.cli.table import Column, show
from edge.store.shapes import readings_json

LIMIT_MAX: Final = 1_000_000
MEAN_DIGITS: Final = 8
"""Of a mean, which has as many digits as one likes."""

RESOLUTIONS: Final = {"raw": 0, "1m": 60, "PT1M": 60, "1h": 3600, "PT1H": 3600}
CLOCKS_RIGHT: Final = ("", "synced", "holdover")
"""What a person need not be told: CSV and JSON have the word."""
RAW_COLUMNS: Final = (
    Column(title="time"),
    Column(title="series"),
    Column(title="value", right=True),
    Column(title="unit"),
    Column(title="quality"),
    Column(title="clock"),
)
MEAN_COLUMNS: Final = (
    Column(title="time"),
    Column(title="series"),
    Column(title="mean", right=True),
    Column(title="min", right=True),
    Column(title="max", right=True),
    Column(title="unit"),
    Column(title="n", right=True),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt readings tank.temperature --from -1h
  tidewatt readings 'tank.*' --from 2026-03-01 --to 2026-03-02 --resolution 1h
  tidewatt readings tank.temperature --from -30d --limit 1000000 --csv > tank.csv
  tidewatt readings 'tank.*' --follow

\b
Times: now, today, yesterday, -90m, -6h, -7d, 2026-03-01, 2026-03-01T08:00 (the site's time zone), or
2026-03-01T08:00Z.
"""
)
@click.argument("names", nargs=-1, required=True, metavar="SERIES...", shell_complete=complete.series)
@click.option(
    "--from", "from_text", default="-1h", show_default=True, help="Oldest time: -6h, -7d, today, 2026-03-01."
)
@click.option("--to", "to_text", default="now", show_default=True, help="Time before which it ends.")
@click.option(
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    default=100,
    show_default=True,
    help="The newest so many of each series.",
)
@click.option(
    "--resolution",
    type=click.Choice(list(RESOLUTIONS)),
    default="raw",
    show_default=True,
    help="Means of a minute or an hour.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, times in UTC.")
@click.option("--follow", is_flag=True, help="Go on with what the running daemon reads, until Ctrl-C.")
@json_option
@pass_cli
def readings(
    cli: Cli,
    names: tuple[str, ...],
    from_text: str,
    to_text: str,
    limit: int,
    resolution: str,
    as_csv: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Recorded values of SERIES (patterns such as 'tank.*' pick several)."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other; give one of them")
    if follow:
        if resolution != "raw":
            raise Refused("--follow shows values as they come; leave out --resolution", exit_code=2)
        _follow(cli, names, as_csv=as_csv, as_json=as_json)
        return
    now = now_ms()
    zone = cli.zone()
    from_ms, to_ms = when_option("from", from_text, now, zone), when_option("to", to_text, now, zone)
    if from_ms >= to_ms:
        raise click.BadParameter("is not before --to; swap them", param_hint="--from")
    with open_history(cli.database()) as history:
        chosen = choose([info.name for info in history.series()], names)
        found = readings_json(history.readings(chosen, from_ms, to_ms, limit + 1, RESOLUTIONS[resolution]))
    cut = _cut(found, limit)
    if as_json:
        print_json({"readings": found, "cut": cut})
    elif as_csv:
        _print_csv(found, means=resolution != "raw")
    else:
        _print_table(found, zone, means=resolution != "raw")
    if cut:
        tell_cut(limit, LIMIT_MAX, " of each series")


def _cut(found: list[dict[str, Any]], limit: int) -> bool:
    """Leave the newest `limit` of each piece; whether that took any away."""
    long = [piece for piece in found if len(piece["readings"]) > limit]
    for piece in long:
        piece["readings"] = piece["readings"][-limit:]
    return bool(long)


def _flat(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The readings of all series in the order of their times."""
    rows = [
        {"series": piece["series"], "unit": piece["unit"], **reading}
        for piece in found
        for reading in piece["readings"]
    ]
    return iter(sorted(rows, key=lambda row: (row["ts"], row["series"])))


def _print_csv(found: list[dict[str, Any]], *, means: bool) -> None:
    keys = ["ts", "series", "unit", "value"]
    keys += ["min", "max", "n"] if means else ["quality", "reason", "clock"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows([row.get(key) for key in keys] for row in _flat(found))


def _print_table(found: list[dict[str, Any]], zone: tzinfo, *, means: bool) -> None:
    empty = "no readings in this time; widen it with --from -7d"
    if means:
        rows = [
            (
                show_time(row["ts"], zone),
                row["series"],
                show_value(row["value"], digits=MEAN_DIGITS),
                show_value(row["min"]),
                show_value(row["max"]),
                row["unit"],
                str(row["n"]),
            )
            for row in _flat(found)
        ]
        show(MEAN_COLUMNS, rows, empty=empty)
    else:
        show(RAW_COLUMNS, [raw_row(row, zone) for row in _flat(found)], empty=empty)


def raw_row(row: dict[str, Any], zone: tzinfo) -> tuple[str, ...]:
    reason = f": {row['reason']}" if row.get("reason") else ""
    clock = row.get("clock", "")
    return (
        show_time(row["ts"], zone),
        row["series"],
        show_value(row["value"]),
        row["unit"],
        f"{row['quality']}{reason}",
        "" if clock in CLOCKS_RIGHT else str(clock),
    )


# ---------------------------------------------------------------------------------------------- live


def _follow(cli: Cli, names: tuple[str, ...], *, as_csv: bool, as_json: bool) -> None:
    """Print each new reading, a line each, as the daemon's devices show it."""
    zone = cli.zone()
    chosen = set(choose([row["series"] for row in _live(cli)], names))
    seen: dict[str, str] = {}
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        writer.writerow(["ts", "series", "unit", "value", "quality", "reason"])
    while True:
        for row in _live(cli):
            if row["series"] in chosen and row["ts"] and seen.get(row["series"]) != row["ts"]:
                seen[row["series"]] = row["ts"]
                if as_csv:
                    writer.writerow(
                        [row[key] for key in ("ts", "series", "unit", "value", "quality", "reason")]
                    )
                elif as_json:
                    click.echo(json.dumps(row, ensure_ascii=False))
                else:
                    click.echo("  ".join(part for part in raw_row(row, zone) if part))
        sys.stdout.flush()
        time.sleep(WATCH_INTERVAL_S)


def _live(cli: Cli) -> list[dict[str, Any]]:
    return [point for device in cli.call("devices")["devices"] for point in device["points"]]
