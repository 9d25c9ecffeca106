"""Bytes that a process's TCP connections carried, as the kernel counts them: payload of TCP, without its headers.

Source: sock_diag(7), linux/inet_diag.h and linux/tcp.h (the fields of `tcp_info` never move).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.processes import family

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
REQUEST_DUMP: Final = 0x301
TCP_INFO_ASKED: Final = 1 << (2 - 1)
ESTABLISHED: Final = 1 << 1
HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")
TCP_INFO: Final = 2
PORTS: Final = struct.Struct("!HH")
PORTS_AT, INODE_AT, ATTRIBUTES_AT = 4, 68, 72
COUNTS: Final = struct.Struct("=QQ")
COUNTS_AT: Final = 120
"""Of `tcpi_bytes_acked` and `tcpi_bytes_received` in `tcp_info`."""
ANSWER_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that left and that came.  What left counts once the other side has confirmed it."""

    sent: int = 0
    received: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(sent=self.sent + other.sent, received=self.received + other.received)

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(sent=self.sent - other.sent, received=self.received - other.received)


def traffic(pid: int, port: int) -> Traffic:
    """Of the connections that the process and its descendants have open to that port of any host (IPv4)."""
    inodes = {inode for member in family(pid) for inode in _inodes(member)}
    found = (each for to, inode, each in _connections() if to == port and inode in inodes)
    return sum(found, start=Traffic())


def traffic_of(connection: socket.socket) -> Traffic:
    """Of a connection of one's own."""
    return _counts(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, COUNTS_AT + COUNTS.size))


def _inodes(pid: int) -> Iterator[int]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield int(target.removeprefix("socket:[").removesuffix("]"))


def _connections() -> Iterator[tuple[int, int, Traffic]]:
    """Of every open TCP connection: the port it leads to, its inode, and what it carried."""
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, TCP_INFO_ASKED, ESTABLISHED) + bytes(
        48
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(
            HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0) + request
        )
        while True:
            answer, at = kernel.recv(ANSWER_BYTES), 0
            while at < len(answer):
                length, kind, *_ = HEADER.unpack_from(answer, at)
                if kind == NLMSG_DONE:
                    return
                body = answer[at + HEADER.size : at + length]
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, f"sock_diag: {os.strerror(number)}")
                yield from parse(body)
                at += -(-length // 4) * 4


def parse(body: bytes) -> Iterator[tuple[int, int, Traffic]]:
    """One `inet_diag_msg` with its attributes; nothing where the kernel told no `tcp_info`."""
    _, to = PORTS.unpack_from(body, PORTS_AT)
    inode = struct.unpack_from("=I", body, INODE_AT)[0]
    at = ATTRIBUTES_AT
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if kind == TCP_INFO:
            yield to, inode, _counts(body[at + ATTRIBUTE.size : at + length])
        at += -(-length // 4) * 4


def _counts(info: bytes) -> Traffic:
    acked, received = COUNTS.unpack_from(info, COUNTS_AT)
    return Traffic(sent=acked, received=received)
