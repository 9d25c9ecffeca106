"""`tidewatt status`: what the daemon says of itself; without it, what its database tells."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from edge.cli.support import (
    Cli,
    Refused,
    database_errors,
    json_option,
    pass_cli,
    print_json,
    show_bytes,
    show_time,
    watch,
)
from edge.cli.table import Column, colour, pairs, show
from edge.clock import iso_utc
from edge.local import LocalUnavailable
from edge.times import show_duration


@click.command(
    epilog="""\b
Examples:
  tidewatt status
  tidewatt status --watch
  tidewatt status --json | jq .delivery.streams.readings.backlog

Exit code 0 when all is well or merely degraded, 1 when something fails or the daemon is down.
"""
)
@json_option
@click.option("--watch", "keep_watching", is_flag=True, help="Show it again every second until Ctrl-C.")
@pass_cli
def status(cli: Cli, as_json: bool, keep_watching: bool) -> int:
    """Is everything all right? What is wrong, and what to do."""
    if keep_watching and not as_json:
        watch(lambda: _print(cli.call("status"), cli.zone()))
        return 0
    try:
        state = cli.call("status")
    except LocalUnavailable as unavailable:
        return _without_daemon(cli, str(unavailable), as_json)
    if as_json:
        print_json(state)
    else:
        _print(state, cli.zone())
    return 1 if state.get("health") == "failing" else 0


# --------------------------------------------------------------------------------------- with a daemon


def _print(state: dict[str, Any], zone: tzinfo) -> None:
    health = str(state.get("health", "unknown"))
    click.echo(f"{click.style(str(state.get('site', '')), bold=True)}  {colour(health)}")
    print_problems(state.get("problems", []))
    click.echo()
    pairs(
        [
            ("running", f"{show_duration(state.get('uptime_s'))}, version {state.get('version', '?')}"),
            ("clock", _clock(state.get("clock", {}), zone)),
            ("store", _store(state.get("store", {}), zone)),
            *_budget(state.get("store", {}).get("budget")),
            ("devices", _devices(state.get("devices", {}))),
            ("delivery", delivery_line(state.get("delivery", {}), zone)),
            ("config", _config(state.get("config", {}), zone)),
        ]
    )
    print_streams(state.get("delivery", {}))


def print_problems(problems: list[str]) -> None:
    for problem in problems:
        click.echo(f"  {colour('warning', '!')} {problem}")


def _clock(clock: dict[str, Any], zone: tzinfo) -> str:
    state = str(clock.get("state", "unknown"))
    return f"{colour('warning' if state == 'unknown' else 'ok', state)}, {show_time(clock.get('now'), zone)}"


def _store(store: dict[str, Any], zone: tzinfo) -> str:
    dropped = sum(int(count) for count in store.get("dropped", {}).values())
    parts = [
        f"{store.get('readings', 0):,} readings and {store.get('events', 0):,} events in {store.get('path', '?')}",
        f"last commit {show_time(store.get('last_commit'), zone) or 'never'}",
        f"{store.get('queued', 0)} queued",
        f"{show_bytes(store.get('bytes'))} used, {show_bytes(store.get('disk_free_bytes'))} free",
    ]
    if dropped:
        parts.append(colour("warning", f"{dropped:,} dropped"))
    if events := store.get("events_dropped"):
        parts.append(colour("warning", f"{events:,} events dropped"))
    if capped := store.get("capped"):
        parts.append(f"{capped:,} values of registers left out")
    if capped := store.get("events_capped"):
        parts.append(f"{capped:,} events only counted")
    return "; ".join(parts)


def _budget(budget: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What the disk budget has cost so far; no line while it cost nothing."""
    thinned = sum((budget or {}).get("thinned_rows", {}).values())
    if not budget or not (thinned or budget["dropped_rows"]):
        return []
    words = f"{show_bytes(budget['budget_bytes'])} are used up: {thinned:,} rows became summaries"
    if budget["dropped_rows"]:
        words += colour("warning", f", {budget['dropped_rows']:,} rows were dropped")
    return [("disk budget", words)]


def _devices(devices: dict[str, Any]) -> str:
    states = ("up", "failing", "stuck", "parked", "starting", "disabled")
    counts = [f"{devices[state]} {colour(state)}" for state in states if devices.get(state)]
    return f"{devices.get('total', 0)}" + (f": {', '.join(counts)}" if counts else "")


def delivery_line(delivery: dict[str, Any], zone: tzinfo) -> str:
    """One line on the link and the ledger."""
    if not delivery.get("enabled", True):
        return "switched off; everything is kept here"
    state = str(delivery.get("state", "unknown"))
    answer = show_time(delivery.get("last_answer"), zone)
    ledger = delivery.get("ledger") or "none"
    bound = "" if delivery.get("bound") else colour("warning", " (not bound)")
    heard = f"last answer {answer}" if answer else "no answer yet"
    return f"{colour(state)} to {delivery.get('broker', '?')}; ledger {ledger}{bound}; {heard}"


def _config(config: dict[str, Any], zone: tzinfo) -> str:
    error = config.get("error")
    told = f"{config.get('path', '?')}, loaded {show_time(config.get('loaded'), zone)}"
    return f"{told}; {colour('alarm', 'the last reload was refused')}: {error}" if error else told


def print_streams(delivery: dict[str, Any]) -> None:
    """The table of streams: how much stands here, how much of it is upstream."""
    streams = delivery.get("streams", {})
    if not streams:
        return
    columns = [
        Column(title="stream"),
        *(
            Column(title=title, right=True)
            for title in ("newest", "settled", "backlog", "waiting", "gaps", "refused")
        ),
    ]
    rows = [
        (
            name,
            f"{stream.get('head', 0):,}",
            f"{stream.get('settled', 0):,}",
            f"{stream.get('backlog', 0):,}",
            show_duration(stream.get("oldest_unsent_age_s")) if stream.get("backlog") else "",
            f"{stream.get('holes', 0):,}",
            f"{stream.get('refused', 0):,}",
        )
        for name, stream in streams.items()
    ]
    click.echo()
    show(columns, rows)


def print_lanes(delivery: dict[str, Any], zone: tzinfo) -> None:
    """How fast it goes, and what waits: both lanes, then the ranges that upstream does not hold."""
    lanes = delivery.get("lanes", {})
    if not lanes:
        return
    click.echo()
    pairs(
        [
            ("live", _live(lanes["live"])),
            ("backlog", _backlog(delivery, lanes["backlog"])),
            *(
                (f"{name} wait", _waiting(stream, zone))
                for name, stream in delivery.get("streams", {}).items()
                if stream.get("ranges")
            ),
        ]
    )


def _live(lane: dict[str, Any]) -> str:
    behind = f", {show_duration(lane['behind_s'])} behind" if lane["behind_s"] else ""
    return f"{lane['in_flight']} of {lane['limit']} in flight{behind}"


def _backlog(delivery: dict[str, Any], lane: dict[str, Any]) -> str:
    streams = delivery.get("streams", {}).values()
    rows = sum(stream["backlog"] for stream in streams)
    if not rows:
        return "nothing waits"
    ranges = sum(stream["fragments"] for stream in streams)
    parts = [f"{rows:,} rows in {ranges} range{'' if ranges == 1 else 's'}"]
    if lane["behind_s"] is not None:
        parts.append(f"oldest {show_duration(lane['behind_s'])}")
    parts.append(f"window {lane['in_flight']} of {lane['limit']} (up to {lane['limit_max']})")
    eta_s = delivery.get("eta_s")
    if eta_s is None:
        return ", ".join([*parts, "nothing moves"])
    parts += [f"{delivery['rows_s']:,.0f} rows/s, {show_bytes(delivery['bytes_s'])}/s"]
    return ", ".join([*parts, f"{show_duration(eta_s)} to drain"])


def _waiting(stream: dict[str, Any], zone: tzinfo) -> str:
    shown = ", ".join(
        f"{first:,}" if first == last else f"{first:,}-{last:,}" for first, last in stream["ranges"]
    )
    more = stream["fragments"] - len(stream["ranges"])
    since = show_time(stream.get("oldest_unsent"), zone)
    return shown + (f" and {more} more" if more > 0 else "") + (f", since {since}" if since else "")


# ------------------------------------------------------------------------------------ without a daemon


def _without_daemon(cli: Cli, why: str, as_json: bool) -> int:
    state: dict[str, Any] = {"site": cli.in_force().site.name, "health": "down", "problems": [why]}
    try:
        state["store"] = _at_rest(cli.database())
    except Refused as refused:
        state["problems"].append(str(refused))
    if as_json:
        print_json(state)
        return 1
    click.echo(f"{click.style(state['site'], bold=True)}  {colour('down')}")
    print_problems(state["problems"])
    store = state.get("store")
    if store:
        click.echo()
        pairs(
            [
                ("store", f"{store['readings']:,} readings, {store['events']:,} events in {store['path']}"),
                ("newest reading", show_time(store["newest"], cli.zone())),
                ("not delivered", f"{store['backlog']:,} readings"),
                ("size", show_bytes(store["bytes"])),
            ]
        )
    return 1


def _at_rest(database: Path) -> dict[str, Any]:
    with (
        database_errors(database),
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        newest = _number(db, "SELECT ts FROM reading ORDER BY seq DESC LIMIT 1")
        settled = _number(
            db,
            "SELECT coalesce(sum(last - max(first, low) + 1), 0) FROM settled,"
            " (SELECT coalesce(min(seq), 0) AS low FROM reading) WHERE stream = 'readings' AND last >= low",
        )
        kept = _number(db, "SELECT max(seq) - min(seq) + 1 FROM reading") or 0
        return {
            "path": str(database),
            "readings": kept,
            "events": _number(db, "SELECT count(*) FROM event") or 0,
            "newest": None if newest is None else iso_utc(newest),
            "backlog": max(0, kept - (settled or 0)),
            "bytes": database.stat().st_size,
        }


def _number(db: sqlite3.Connection, sql: str) -> int | None:
    row = db.execute(sql).fetchone()
    return None if row is None else row[0]
