"""Devices on the network: a responder of our own answers on the loopback, well or badly."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from drivers.discovery import lan
from drivers.discovery.found import Search
from edge.clock import SystemClock
from tests.drivers.fakes import FakeShelly, shelly

PATIENCE_S = 30.0
SHELLY = "shellyplus1-aabb"


def name(text: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"


def record(owner: bytes, kind: int, content: bytes) -> bytes:
    return owner + struct.pack(">HHIH", kind, 0x8001, 120, len(content)) + content


def answer(
    service: str, instance: str, port: int, address: str = "127.0.0.1", host: str = "a.local"
) -> bytes:
    """PTR with SRV and A beside it; the SRV's owner is a pointer into the packet, as real ones are."""
    header = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 2)
    kind = name(service)
    ptr = record(kind, 12, bytes([len(instance)]) + instance.encode() + b"\xc0\x0c")
    at = 12 + len(kind) + 10
    srv = record(struct.pack(">H", 0xC000 | at), 33, struct.pack(">HHH", 0, 0, port) + name(host))
    return header + ptr + srv + record(name(host), 1, socket.inet_aton(address))


@contextlib.contextmanager
def responder(*answers: bytes) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """Answers the first question it hears with all of these."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)

        def serve() -> None:
            question, asker = server.recvfrom(2000)
            heard.append(question)
            for packet in answers:
                server.sendto(packet, asker)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname(), heard
        thread.join()


def asked(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> tuple[Search, list[bytes]]:
    """What comes of these answers, and the questions; the search ends when the last has come."""
    monkeypatch.setattr(lan, "PACKETS_MAX", len(answers))
    with responder(*answers) as (group, heard):
        return lan.search(SystemClock(), group=group, listen_s=PATIENCE_S), heard


@pytest.fixture
def plug() -> Iterator[FakeShelly]:
    with shelly(2) as fake:
        yield fake


def test_a_shelly_is_found_and_only_asked_who_it_is(
    plug: FakeShelly, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = answer("_shelly._tcp.local", SHELLY, plug.port), answer("_http._tcp.local", SHELLY, plug.port)
    result, heard = asked(monkeypatch, *told)
    (one,) = result.found
    assert (one.what, one.sure, one.table) == ("Shelly SNSW-001X16EU", True, "outputs")
    assert one.options["host"] == "127.0.0.1"
    assert one.options["port"] == plug.port
    assert set(one.keys) == {f"{host}:{plug.port}" for host in ("127.0.0.1", "a.local", "a")}
    assert plug.asked == ["/shelly"]
    assert plug.clicks == 0
    assert heard == [lan.question()]
    assert all(name(service) in heard[0] for service in lan.SERVICES)


def test_an_old_shelly_and_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    with shelly(1, password="secret") as old:
        told = (
            answer("_http._tcp.local", "shelly1pm-AABB", old.port),
            answer("_esphomelib._tcp.local", "sump", 6053),
            answer("_http._tcp.local", "printer", 8631),
        )
        found = asked(monkeypatch, *told)[0].found
    by_port = {one.where.rpartition(":")[2]: one for one in found}
    assert by_port[str(old.port)].what == "Shelly SHPLG-S"
    assert "password" in by_port[str(old.port)].note
    assert by_port["6053"].what == "an ESPHome device"
    assert by_port["8631"].what == "something with a web page"
    assert [by_port[port].table for port in ("6053", "8631")] == ["", ""]


def test_one_that_does_not_answer_the_second_question_is_still_told(
    plug: FakeShelly, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug.mood = "garbage"
    (one,) = asked(monkeypatch, answer("_shelly._tcp.local", SHELLY, plug.port))[0].found
    assert (one.what, one.table) == ("a Shelly", "")
    assert "no Shelly" in one.evidence


def test_nobody_answers() -> None:
    with responder() as (group, _):
        result = lan.search(SystemClock(), group=group, listen_s=0.1)
    assert result.found == []
    assert "one network" in result.looks[0].todo


def test_an_answer_cannot_send_us_to_the_internet() -> None:
    (one,) = lan.services_in(answer("_shelly._tcp.local", SHELLY, 80, address="8.8.8.8"), "192.168.1.7")
    assert one.address == "192.168.1.7"


def test_broken_packets_are_nothing() -> None:
    good = answer("_shelly._tcp.local", SHELLY, 80)
    assert len(lan.services_in(good, "192.168.1.7")) == 1
    for length in range(len(good) - 1):
        lan.services_in(good[:length], "192.168.1.7")
    for at in range(len(good)):
        for value in (0x00, 0x3F, 0x80, 0xC0, 0xFF):
            lan.services_in(good[:at] + bytes([value]) + good[at + 1 :], "192.168.1.7")
    loop = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\xc0\x0c" + bytes(10)
    assert lan.services_in(loop, "192.168.1.7") == []
    assert lan.services_in(lan.question(), "192.168.1.7") == []
