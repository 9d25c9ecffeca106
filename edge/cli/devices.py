"""`tidewatt devices`: what is polled, live; enable and disable without a restart."""

from __future__ import annotations

from typing import Any

import click

from edge.cli import complete
from edge.cli.support import Cli, json_option, pass_cli, print_json, show_value, watch, why_option
from edge.cli.table import Column, show
from edge.times import show_duration

COLUMNS = (
    Column(title="device"),
    Column(title="driver"),
    Column(title="state"),
    Column(title="point"),
    Column(title="value", right=True),
    Column(title="unit"),
    Column(title="quality"),
    Column(title="age", right=True),
    Column(title="polls", right=True),
    Column(title="errors", right=True),
    Column(title="last error", cut=True),
)


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt devices
  tidewatt devices --watch
  tidewatt devices disable sump
""",
)
@json_option
@click.option("--watch", "keep_watching", is_flag=True, help="Show it again every second until Ctrl-C.")
@pass_cli
@click.pass_context
def devices(ctx: click.Context, cli: Cli, as_json: bool, keep_watching: bool) -> None:
    """Devices with their newest values and last errors, from the running daemon."""
    if ctx.invoked_subcommand is not None:
        return
    if keep_watching and not as_json:
        watch(lambda: _print(cli.call("devices")))
    elif as_json:
        print_json(cli.call("devices"))
    else:
        _print(cli.call("devices"))


@devices.command()
@click.argument("name", shell_complete=complete.devices)
@why_option
@json_option
@pass_cli
def enable(cli: Cli, name: str, why: str, as_json: bool) -> None:
    """Poll the device NAME again."""
    cli.call("device.enable", device=name, why=why)
    if as_json:
        print_json({"device": name, "enabled": True})
    else:
        click.echo(f"{name} is enabled")


@devices.command()
@click.argument("name", shell_complete=complete.devices)
@why_option
@json_option
@pass_cli
def disable(cli: Cli, name: str, why: str, as_json: bool) -> None:
    """Stop polling the device NAME until it is enabled or the daemon starts anew."""
    cli.call("device.disable", device=name, why=why)
    if as_json:
        print_json({"device": name, "enabled": False})
    else:
        click.echo(f"{name} is disabled; for good: enabled = false in the config")


def _print(answer: dict[str, Any]) -> None:
    rows = [row for device in answer.get("devices", []) for row in rows_of(device)]
    show(COLUMNS, rows, empty="no devices; add [[devices]] to the config (tidewatt drivers lists the kinds)")


def rows_of(device: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each point; what belongs to the device stands in the first."""
    head = (str(device.get("name", "")), str(device.get("driver", "")), str(device.get("state", "")))
    error = str(device.get("last_error") or "")
    if error and device.get("next_retry_s"):
        error = f"{error} (again in {show_duration(device['next_retry_s'])})"
    tail = (f"{device.get('polls', 0):,}", f"{device.get('errors', 0):,}", error)
    points = device.get("points") or [{}]
    return [
        (*(head if first else ("", "", "")), *_point(point), *(tail if first else ("", "", "")))
        for first, point in ((index == 0, point) for index, point in enumerate(points))
    ]


def _point(point: dict[str, Any]) -> tuple[str, str, str, str, str]:
    if not point:
        return ("", "", "", "", "")
    quality, reason = str(point.get("quality") or ""), str(point.get("reason") or "")
    return (
        str(point.get("series", "")).partition(".")[2],
        show_value(point.get("value"), point.get("decimals")),
        str(point.get("unit", "")),
        f"{quality}: {reason}" if reason else quality,
        show_duration(point.get("age_s")),
    )
