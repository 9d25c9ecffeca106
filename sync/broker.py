"""The files that make a mosquitto the broker of a fleet: who may log in, and which topics each login may use.

A login is a client id too, or one site could take over another's connection by naming itself like it.  Pure text.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sync.messages import Topics

Role = Literal["edge", "sink", "consumer"]
CONFIG_NAME: Final = "tidewatt.conf"
ACL_NAME: Final = "tidewatt.acl"
PASSWORDS_NAME: Final = "tidewatt.passwords"
KEEPALIVE_MAX_S: Final = 3600
PASSWORD_BYTES: Final = 18
HASH_ROUNDS: Final = 101
"""As many as mosquitto's own tool takes: these passwords are random, so nobody tries them out one by one."""
MADE_BY: Final = "# Made by `tidewatt broker config`: make it again rather than change it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who talks to the broker, and how.

    logins             name -> role, all names different
    host               address to listen on; empty: all
    message_bytes_max  larger payloads are refused by the broker, in silence
    ca_file            who must have signed the clients' certificates; empty: they need none
    cert_file, key_file  of the broker; empty: no TLS
    """

    logins: Mapping[str, Role]
    prefix: str
    port: int
    message_bytes_max: int
    host: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


def config_text(fleet: Fleet, folder: Path) -> str:
    """mosquitto's config file; the other two lie in `folder`."""
    lines = [
        MADE_BY,
        f"listener {fleet.port} {fleet.host}".rstrip(),
        "use_username_as_clientid true",
    ]
    if fleet.cert_file:
        lines += ["tls_version tlsv1.2", f"certfile {fleet.cert_file}", f"keyfile {fleet.key_file}"]
    if fleet.ca_file:
        lines += [f"cafile {fleet.ca_file}", "require_certificate true"]
    lines += [
        "allow_anonymous false",
        f"password_file {folder / PASSWORDS_NAME}",
        f"acl_file {folder / ACL_NAME}",
        f"message_size_limit {fleet.message_bytes_max}",
        f"max_keepalive {KEEPALIVE_MAX_S}",
        "set_tcp_nodelay true",
        "persistence false",
    ]
    return "\n".join(lines) + "\n"


def acl_text(fleet: Fleet) -> str:
    """mosquitto's access list: what is not named is refused."""
    lines = [MADE_BY]
    for name, role in fleet.logins.items():
        lines += ["", f"user {name}"]
        lines += (f"topic {right} {topic}" for right, topic in _rights(fleet.prefix, name, role))
    return "\n".join(lines) + "\n"


def _rights(prefix: str, name: str, role: Role) -> Iterator[tuple[str, str]]:
    every = Topics(prefix, "+")
    if role == "edge":
        mine = Topics(prefix, name)
        for topic in (mine.batch("+"), mine.ask, mine.event, f"{prefix}/{name}/result"):
            yield "write", topic
        for topic in (mine.state("+"), mine.status):  # what it says there it listens for: it may be refused
            yield "readwrite", topic
        for topic in (mine.held, f"{prefix}/{name}/command"):
            yield "read", topic
    elif role == "sink":
        yield "read", every.batch("+")
        yield "read", every.ask
        yield "write", every.held
    else:
        for topic in (every.state("+"), every.status, every.event):
            yield "read", topic


def passwords_text(hashes: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in hashes)


def read_hashes(text: str) -> dict[str, str]:
    """Login -> its line in an existing password file."""
    return {line.partition(":")[0]: line for line in text.splitlines() if ":" in line}


def new_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def hash_line(name: str, password: str, salt: bytes | None = None) -> str:
    """A line of mosquitto's password file: PBKDF2 with SHA-512 (its type 7)."""
    salt = secrets.token_bytes(12) if salt is None else salt
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ROUNDS)
    return f"{name}:$7${HASH_ROUNDS}${_text(salt)}${_text(key)}"


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
