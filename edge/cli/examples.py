"""Examples of commands whose own file shows none: what `--help` ends with, a line or more each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "devices enable": ("devices enable tank", 'devices enable tank --why "new cable"'),
    "devices disable": ('devices disable tank --why "probe is out for cleaning"',),
    "outputs set": ("outputs set return_pump on --for 30m", "outputs set blue 0.4 --for 2h"),
    "outputs ramp": ("outputs ramp blue 0.8 --over 10m --for 2h",),
    "outputs release": ("outputs release blue",),
    "outputs confirm": ('outputs confirm heater --why "looked at the relay"',),
    "outputs safe": ("outputs safe", "outputs safe --file /var/lib/tidewatt/safe.json"),
    "sync bind": ("sync bind tw1-7dd04f3a9c1b2e60",),
    "sync ask": ("sync ask",),
    "sync resend": ("sync resend --from 2026-03-01 --to 2026-03-02 --wait 60s",),
    "nem12": ("nem12 check reads.csv", "nem12 show reads.zip"),
    "config": ("config check /boot/firmware/tidewatt.toml", "config show --changed"),
    "config show": ("config show", "config show --changed my.toml"),
    "sink run": ("sink run --config /etc/tidewatt/sink-north.toml",),
    "sink ledger": ("sink ledger", "sink ledger --edge reef-1"),
    "sink status": ("sink status", "sink status --json"),
    "sink dead-letters": ("sink dead-letters --edge reef-1 --limit 20",),
    "sink redrive": ("sink redrive --edge reef-1",),
    "sink reopen": ("sink reopen --edge reef-1 --stream readings --from 2026-03-01 --to 2026-03-02",),
    "broker": ("broker config --edge reef-1 --sinks 1 --out /etc/mosquitto/tidewatt",),
    "db": ("db status", "db backup /mnt/usb/tidewatt"),
    "db migrate": ("db migrate", "db migrate --upstream postgresql://tidewatt@db.example.org/tidewatt"),
    "db status": ("db status", "db status --upstream postgresql://tidewatt@db.example.org/tidewatt"),
    "db history": ("db history",),
}
"""Command -> what to write behind `tidewatt`."""


def add_examples(path: str, command: click.Command) -> None:
    """Give the command, and those below it, an epilog of examples where they have none."""
    if command.epilog is None and path in EXAMPLES:
        lines = "\n".join(f"  tidewatt {line}" for line in EXAMPLES[path])
        command.epilog = f"\b\nExamples:\n{lines}\n"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            add_examples(f"{path} {name}", inner)
