"""`tidewatt sync`: how far the delivery is, and which Postgres it goes to."""

from __future__ import annotations

from typing import Any, Final

import click

from edge.cli.outputs import Duration
from edge.cli.status import delivery_line, print_lanes, print_streams
from edge.cli.support import (
    Cli,
    json_option,
    now_ms,
    pass_cli,
    print_json,
    show_time,
    when_option,
    why_option,
)
from edge.cli.table import colour

STREAMS: Final = ("readings", "summaries", "events", "channel_days", "register_reads")
WAIT_S_MAX: Final = 100.0
"""The daemon answers within two minutes, or not at all (edge/local.py)."""


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt sync
  tidewatt sync bind tw1-7dd0-4f3a
  tidewatt sync ask
  tidewatt sync resend --from 2026-03-01 --to 2026-03-02 --wait 60s
""",
)
@json_option
@pass_cli
@click.pass_context
def sync(ctx: click.Context, cli: Cli, as_json: bool) -> None:
    """How far the delivery to Postgres is, stream by stream."""
    if ctx.invoked_subcommand is not None:
        return
    delivery = cli.call("status").get("delivery", {})
    if as_json:
        print_json(delivery)
        return
    click.echo(delivery_line(delivery, cli.zone()))
    if delivery.get("advice"):
        click.echo(f"  {colour('warning', '!')} {delivery['advice']}")
    print_streams(delivery)
    print_lanes(delivery, cli.zone())


@sync.command()
@click.argument("ledger")
@why_option
@json_option
@pass_cli
def bind(cli: Cli, ledger: str, why: str, as_json: bool) -> None:
    """Deliver to the Postgres whose ledger id is LEDGER (tidewatt sink prints it).

    Until this is said once, or ledger stands under [uplink], nothing is counted as delivered and all is kept.
    """
    answer = cli.call("sync.bind", ledger=ledger, why=why)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"bound to {ledger}")


@sync.command()
@why_option
@json_option
@pass_cli
def ask(cli: Cli, why: str, as_json: bool) -> None:
    """Ask upstream now what it holds, instead of within the hour."""
    answer = cli.call("sync.ask", why=why)
    if as_json:
        print_json(answer)
    else:
        click.echo("asked; see tidewatt sync for the answer")


@sync.command()
@click.option(
    "--from", "from_", required=True, metavar="TIME", help="From then on: -6h, 2026-03-01, an ISO time."
)
@click.option("--to", default="now", show_default=True, metavar="TIME", help="Until then.")
@click.option("--stream", type=click.Choice(STREAMS), default=None, help="Only this stream.  [default: all]")
@click.option(
    "--wait",
    "wait_s",
    type=Duration(),
    default=None,
    help="Wait so long at most for upstream to confirm: 60s.",
)
@why_option
@json_option
@pass_cli
def resend(
    cli: Cli, from_: str, to: str, stream: str | None, wait_s: float | None, why: str, as_json: bool
) -> int:
    """Send again what was recorded in a stretch of time, however often it was delivered.

    Upstream drops what it holds.  Rows that were deleted there it still counts as held: there, `tidewatt sink
    reopen` comes first.  Of meter files, it is when the file came that counts.

    Exit code 1 if rows of that time left undelivered, or if upstream did not confirm all of it within --wait.
    """
    if wait_s is not None and wait_s > WAIT_S_MAX:
        raise click.BadParameter(
            f"{WAIT_S_MAX:.0f}s at most; then ask again: tidewatt sync", param_hint="--wait"
        )
    now, zone = now_ms(), cli.zone()
    answer = cli.call(
        "sync.resend", stream=stream, from_ms=when_option("from", from_, now, zone),
        to_ms=when_option("to", to, now, zone), wait_s=wait_s or 0.0, why=why,
    )  # fmt: skip
    parts: dict[str, dict[str, Any]] = answer["streams"]
    if as_json:
        print_json({"connected": answer["connected"], "streams": parts})
    else:
        told = {name: part for name, part in parts.items() if part["sent"] or part["gone"] or part["oldest"]}
        for name, part in told.items():
            click.echo(_resent(cli, name, part, waited=wait_s is not None))
        if not told:
            click.echo("nothing was recorded in that stretch of time")
        if not answer["connected"]:
            click.echo(f"{colour('warning', '!')} there is no connection; they go when it is back")
    unconfirmed = wait_s is not None and any(part["stored"] < part["sent"] for part in parts.values())
    return int(unconfirmed or any(part["gone"] for part in parts.values()))


def _resent(cli: Cli, name: str, part: dict[str, Any], *, waited: bool) -> str:
    words = f"{name}: {part['sent']:,} go again, {part['held']:,} of them were held already"
    if waited:
        words += f"; {part['stored']:,} are confirmed"
    if part["oldest"]:
        words += f"; what is older than {show_time(part['oldest'], cli.zone())} has left after its delivery"
    if part["gone"]:
        words += colour("warning", f"; {part['gone']:,} are no longer here and were never delivered")
    return words
