"""`tidewatt sync`: how far the delivery is, and which Postgres it goes to."""

from __future__ import annotations

from typing import Any

import click

from edge.cli.status import delivery_line, print_streams
from edge.cli.support import Cli, json_option, pass_cli, print_json
from edge.cli.table import colour


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  tidewatt sync
  tidewatt sync bind tw1-7dd0-4f3a
  tidewatt sync ask
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


@sync.command()
@click.argument("ledger")
@pass_cli
def bind(cli: Cli, ledger: str) -> None:
    """Deliver to the Postgres whose ledger id is LEDGER (tidewatt sink prints it).

    Until this is said once, or ledger stands under [uplink], nothing is counted as delivered and all is kept.
    """
    answer = cli.call("sync.bind", ledger=ledger)
    click.echo(_told(answer) or f"bound to {ledger}")


@sync.command()
@pass_cli
def ask(cli: Cli) -> None:
    """Ask upstream now what it holds, instead of within the hour."""
    answer = cli.call("sync.ask")
    click.echo(_told(answer) or "asked; see tidewatt sync for the answer")


def _told(answer: Any) -> str:
    return answer if isinstance(answer, str) else ""
