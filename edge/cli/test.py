"""`tidewatt test DEVICE`: read it once and show what it says."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from edge.cli import complete
from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json, show_value
from edge.cli.table import Column, show
from edge.cli.waiting import waiting
from edge.local import LocalUnavailable
from edge.options import nearest
from edge.times import show_duration

BAD = "bad"
COLUMNS = (
    Column(title="point"),
    Column(title="value", right=True),
    Column(title="unit"),
    Column(title="quality"),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt test tank
  tidewatt test tank --json
"""
)
@click.argument("device", shell_complete=complete.devices)
@json_option
@pass_cli
def test(cli: Cli, device: str, as_json: bool) -> int:
    """Read DEVICE once and show what it says.

    The running daemon does it on the device's own bus, else this process does.  Nothing is recorded.
    It ends with 1 where the device does not answer, or no value of it is usable.
    """
    outcome = _test(cli, device)
    if as_json:
        print_json(outcome)
    elif outcome["ok"]:
        click.echo(f"{device} answered in {show_duration(outcome['took_s'])} ({outcome['driver']})\n")
        show(COLUMNS, [_row(point) for point in outcome["points"]], empty="it had nothing to say")
    else:
        raise Refused(f"{device} ({outcome['driver']}) failed: {outcome['error']}")
    points = outcome["points"]
    usable = not points or any(point["quality"] != BAD for point in points)
    return 0 if outcome["ok"] and usable else 1


def _test(cli: Cli, name: str) -> dict[str, Any]:
    try:
        outcome: dict[str, Any] = cli.call("test", device=name)
    except LocalUnavailable:
        known = {device.name: device for device in cli.in_force().devices}
        if name not in known:
            near = nearest(name, known)
            guess = f"did you mean {near}?" if near else f"there are {', '.join(known) or 'none'}"
            raise Refused(f"there is no device {name!r} in {cli.config_path}; {guess}") from None
        from edge.clock import SystemClock
        from edge.poll.poller import try_device

        with waiting(f"reading {name}"):
            outcome = asyncio.run(try_device(known[name], SystemClock()))
    return outcome


def _row(point: dict[str, Any]) -> tuple[str, str, str, str]:
    said = point.get("hint") or point.get("reason")
    reason = f": {said}" if said else ""
    return (point["point"], show_value(point["value"]), point["unit"], f"{point['quality']}{reason}")
