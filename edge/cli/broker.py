"""`tidewatt broker`: files for the mosquitto of a fleet."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from edge.cli.support import Refused, json_option, print_json
from edge.cli.table import Column, show

if TYPE_CHECKING:
    from sync.broker import Role

LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
PREFIX: Final = re.compile(r"[!-~]+")
SINKS_MAX: Final = 64
LOOPBACK: Final = "127.0.0.1"
CERTIFICATES: Final = Path("/etc/mosquitto/certs")


@click.group()
def broker() -> None:
    """Files for the mosquitto of a fleet."""


@broker.command(
    epilog="""\b
Example:
  sudo tidewatt broker config --edge reef-1 --edge reef-2 --sinks 2 --consumer grafana --out /etc/mosquitto/tidewatt

\b
Then `include_dir /etc/mosquitto/tidewatt` in mosquitto.conf, and in each site's config:
  [uplink]
  host = "broker.example.org"
  port = 8883
  tls = true
  username = "reef-1"
"""
)
@click.option(
    "--edge", "edges", multiple=True, required=True, metavar="NAME", help="A site, by its [site] name."
)
@click.option(
    "--sinks", type=click.IntRange(0, SINKS_MAX), default=1, show_default=True, help="How many sinks."
)
@click.option(
    "--consumer", "consumers", multiple=True, metavar="NAME", help="A login that only reads values."
)
@click.option("--prefix", default="tidewatt/v1", show_default=True, help="What every topic begins with.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8883, show_default=True, help="Port to listen on."
)
@click.option(
    "--certfile",
    type=click.Path(path_type=Path),
    default=CERTIFICATES / "server.crt",
    show_default=True,
    help="The broker's certificate.",
)
@click.option(
    "--keyfile",
    type=click.Path(path_type=Path),
    default=CERTIFICATES / "server.key",
    show_default=True,
    help="Its key.",
)
@click.option(
    "--cafile",
    type=click.Path(path_type=Path),
    help="Clients need a certificate signed by this authority, too.",
)
@click.option("--no-tls", is_flag=True, help=f"Plain MQTT, on {LOOPBACK} only: for a trial on one machine.")
@click.option(
    "--message-size-limit",
    "message_bytes_max",
    type=click.IntRange(1, 268_435_455),
    default=1_000_000,
    show_default=True,
    metavar="BYTES",
    help="The broker drops larger messages in silence.",
)
@click.option(
    "--out", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where to write."
)
@json_option
def config(
    *,
    edges: Sequence[str],
    sinks: int,
    consumers: Sequence[str],
    prefix: str,
    port: int,
    certfile: Path,
    keyfile: Path,
    cafile: Path | None,
    no_tls: bool,
    message_bytes_max: int,
    folder: Path,
    as_json: bool,
) -> None:
    """Write a config, an access list and passwords, so that no site can read or write another's topics.

    Run it again to add or remove a login: the passwords of those that stay are kept.
    """
    from sync import broker as files

    if no_tls and cafile:
        raise click.UsageError("--cafile has no effect with --no-tls; leave one of them out")
    _check(prefix, message_bytes_max)
    logins = _logins(edges, sinks, consumers)
    folder = folder.absolute()
    tls = {} if no_tls else {"cert_file": str(certfile.absolute()), "key_file": str(keyfile.absolute())}
    fleet = files.Fleet(
        logins=logins, prefix=prefix, port=port, host=LOOPBACK if no_tls else "",
        message_bytes_max=message_bytes_max, ca_file=str(cafile.absolute()) if cafile else "", **tls,
    )  # fmt: skip
    paths = [folder / name for name in (files.CONFIG_NAME, files.ACL_NAME, files.PASSWORDS_NAME)]
    try:
        known = files.read_hashes(paths[2].read_text()) if paths[2].exists() else {}
        passwords = {name: files.new_password() for name in logins if name not in known}
        hashes = [
            files.hash_line(name, passwords[name]) if name in passwords else known[name] for name in logins
        ]
        folder.mkdir(parents=True, exist_ok=True)
        texts = (files.config_text(fleet, folder), files.acl_text(fleet), files.passwords_text(hashes))
        for path, text in zip(paths, texts, strict=True):
            _write_private(path, text)
    except OSError as error:
        raise Refused(f"cannot write into {folder}: {error.strerror}; name another folder by --out") from None
    rows = [{"name": name, "role": role, "password": passwords.get(name)} for name, role in logins.items()]
    if as_json:
        print_json({"files": [str(path) for path in paths], "logins": rows})
        return
    table = [[name, role, passwords.get(name, "as before")] for name, role in logins.items()]
    show([Column(title=title) for title in ("login", "role", "password")], table)
    if passwords:
        click.echo("\nThe passwords are shown this once: they stand in the files as hashes only.")
    click.echo(f"\nFor a new password, take a login's line out of {paths[2]} and say this again.")
    click.echo("mosquitto has to read the files:")
    click.echo(f"  sudo chown mosquitto: {' '.join(map(str, paths))}")


def _check(prefix: str, message_bytes_max: int) -> None:
    from edge.uplink.config import UplinkConfig

    if not PREFIX.fullmatch(prefix) or set(prefix) & set("+#$") or prefix[0] == "/" or prefix[-1] == "/":
        raise Refused(
            f"{prefix!r} is no prefix for topics; take words with / between them, such as tidewatt/v1"
        )
    least = 2 * UplinkConfig.model_fields["batch_bytes_max"].default
    if message_bytes_max < least:
        raise Refused(
            f"--message-size-limit {message_bytes_max} is too small: a batch may have {least // 2} bytes, and answers"
            f" need room too; take at least {least}"
        )


def _logins(edges: Sequence[str], sinks: int, consumers: Sequence[str]) -> dict[str, Role]:
    """Who may log in, sites first.  Raises Refused."""
    wanted: list[tuple[str, Role]] = [
        *((name, "edge") for name in edges),
        *((f"sink-{number}", "sink") for number in range(1, sinks + 1)),
        *((name, "consumer") for name in consumers),
    ]
    logins: dict[str, Role] = {}
    for name, role in wanted:
        if not LOGIN.fullmatch(name):
            raise Refused(f"{name!r} is no login: small letters, digits, - and _, as a [site] name")
        if name in logins:
            raise Refused(
                f"{name!r} is there twice (as {logins[name]} and {role}); each login needs its own name"
            )
        logins[name] = role
    return logins


def _write_private(path: Path, text: str) -> None:
    """In place, so that the file stays its owner's; nobody else may read it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, 0o600)
        file.write(text)
