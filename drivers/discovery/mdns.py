"""Services on the local network, asked for by mDNS.

Source: RFC 6762 (one-shot queries, section 5.1; their answers come back to the port that asked) and RFC 1035.  One
question goes to 224.0.0.251; nobody's settings are touched.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from drivers.base import Clock

GROUP: Final = ("224.0.0.251", 5353)
SHELLY: Final = "_shelly._tcp.local"
HTTP: Final = "_http._tcp.local"
ESPHOME: Final = "_esphomelib._tcp.local"
SERVICES: Final = (SHELLY, HTTP, ESPHOME)
LISTEN_S: Final = 3.0
PACKET_BYTES_MAX: Final = 9000
PACKETS_MAX: Final = 500
RECORDS_MAX: Final = 200
SERVICES_MAX: Final = 200
NAME_BYTES_MAX: Final = 255
JUMPS_MAX: Final = 32
A, PTR, SRV = 1, 12, 33
UNICAST: Final = 0x8001  # class IN; "answer me alone"
RESPONSE: Final = 0x8000
HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One that answered.  name: its instance; kind: one of SERVICES; address: IPv4; host: its name, "" if unsaid."""

    name: str
    kind: str
    address: str
    port: int
    host: str = ""


def listen(clock: Clock, *, group: tuple[str, int] = GROUP, listen_s: float = LISTEN_S) -> list[Service]:
    """Every service that is offered.  Raises OSError where there is no network."""
    services: dict[Service, None] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        asker.bind(("", 0))
        _ask(asker, group)
        ends_s = clock.monotonic_s() + listen_s
        for _ in range(PACKETS_MAX):
            left_s = ends_s - clock.monotonic_s()
            if left_s <= 0:
                break
            asker.settimeout(left_s)
            try:
                packet, sender = asker.recvfrom(PACKET_BYTES_MAX)
            except TimeoutError:
                break
            services |= dict.fromkeys(services_in(packet, sender[0]))
    return list(services)[:SERVICES_MAX]


def _ask(asker: socket.socket, group: tuple[str, int]) -> None:
    """The question, on each interface.  Raises OSError where none takes it."""
    if not ipaddress.ip_address(group[0]).is_multicast:
        asker.sendto(question(), group)
        return
    failure: OSError | None = OSError(0, "no interface")
    for index, name in socket.if_nameindex():
        if name == "lo":
            continue
        try:
            asker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@iii", 0, 0, index))
            asker.sendto(question(), group)
            failure = None
        except OSError as error:
            failure = failure and error
    if failure is not None:
        raise failure


def question() -> bytes:
    """One packet that asks for all SERVICES."""
    asked = b"".join(_encoded(name) + struct.pack(">HH", PTR, UNICAST) for name in SERVICES)
    return struct.pack(">6H", 0, 0, len(SERVICES), 0, 0, 0) + asked


def _encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def services_in(packet: bytes, sender: str) -> list[Service]:
    """What one answer offers; nothing for a packet that is broken or something else."""
    try:
        records = list(_records(packet))
    except (IndexError, ValueError, struct.error):
        return []
    places = {name: value for name, kind, value in records if kind == SRV and isinstance(value, tuple)}
    addresses = {name: value for name, kind, value in records if kind == A and isinstance(value, str)}
    services = []
    for kind, record, instance in records:
        if record != PTR or kind.lower() not in SERVICES or not isinstance(instance, str):
            continue
        host, port = places.get(instance, ("", 80))
        address = addresses.get(host, sender)
        # An answer must not make us call just anybody: only addresses of local networks count.
        address = address if ipaddress.ip_address(address).is_private else sender
        name = instance.removesuffix(f".{kind}")
        service = Service(name=name, kind=kind.lower(), address=address, port=port or 80,
                          host=host if HOST.fullmatch(host) else "")  # fmt: skip
        services.append(service)
    return services


def _records(packet: bytes) -> Iterator[tuple[str, int, str | tuple[str, int]]]:
    """Name, type and content of each A, PTR and SRV record.  Raises IndexError, ValueError, struct.error."""
    _, flags, questions, *counts = struct.unpack_from(">6H", packet)
    if not flags & RESPONSE:
        return
    at = 12
    for _ in range(min(questions, RECORDS_MAX)):
        _, at = _name(packet, at)
        at += 4
    for _ in range(min(sum(counts), RECORDS_MAX)):
        name, at = _name(packet, at)
        kind, _, _, length = struct.unpack_from(">HHIH", packet, at)
        at += 10
        if kind == PTR:
            yield name, PTR, _name(packet, at)[0]
        elif kind == SRV:
            yield name, SRV, (_name(packet, at + 6)[0], struct.unpack_from(">H", packet, at + 4)[0])
        elif kind == A and length == 4:
            yield name, A, str(ipaddress.IPv4Address(packet[at : at + 4]))
        at += length


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """A name, and where what follows it begins."""
    labels: list[str] = []
    after = -1
    jumps = size = 0
    while length := packet[at]:
        if length >= 0xC0:
            after = at + 2 if after < 0 else after
            at = (length & 0x3F) << 8 | packet[at + 1]
            jumps += 1
        else:
            labels.append(packet[at + 1 : at + 1 + length].decode("utf-8", "replace"))
            at += 1 + length
            size += 1 + length
        if jumps > JUMPS_MAX or size > NAME_BYTES_MAX:
            raise ValueError("a name without an end")
    return ".".join(labels), (at + 1 if after < 0 else after)


def one_each(services: list[Service]) -> list[Service]:
    """A device that offers several services is one; its most telling service counts."""
    best: dict[tuple[str, int], Service] = {}
    for service in sorted(services, key=lambda one: (SERVICES.index(one.kind), one.name)):
        best.setdefault((service.address, service.port), service)
    return sorted(best.values(), key=lambda one: ipaddress.ip_address(one.address))
