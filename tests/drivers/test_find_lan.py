"""Devices on the network: a responder of our own answers on the loopback, well or badly."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from drivers.catalog import catalog, output_catalog
from drivers.discovery import kasas, lan, mdns
from drivers.discovery.found import DEVICES, OUTPUTS, Found, Search
from edge.clock import SystemClock
from tests.drivers.kasa_models import kasa
from tests.drivers.shelly_models import FakeShelly, shelly

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
    monkeypatch.setattr(mdns, "PACKETS_MAX", len(answers))
    with responder(*answers) as (group, heard):
        return lan.search_mdns(SystemClock(), group=group, listen_s=PATIENCE_S), heard


def of_table(result: Search, table: str) -> list[Found]:
    return [one for one in result.found if one.table == table]


@pytest.fixture
def plug() -> Iterator[FakeShelly]:
    with shelly(2) as fake:
        yield fake


def test_a_shelly_is_found_and_only_asked_who_it_is(
    plug: FakeShelly, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = answer("_shelly._tcp.local", SHELLY, plug.port), answer("_http._tcp.local", SHELLY, plug.port)
    result, heard = asked(monkeypatch, *told)
    outlets, meters = of_table(result, OUTPUTS), of_table(result, DEVICES)
    (one,) = outlets
    assert (one.what, one.sure) == ("Shelly SNSW-001X16EU, switch 0", True)
    assert one.options["host"] == "127.0.0.1"
    assert one.options["port"] == plug.port
    assert set(one.keys) == {
        f"switch 0 of the Shelly {host}:{plug.port}" for host in ("127.0.0.1", "a.local", "a")
    }
    assert [(meter.options.get("channel", 0), meter.options["reads"]) for meter in meters] == [
        (0, ["power", "energy", "voltage", "current", "temperature", "input"]),
        (1, ["power", "energy", "returned", "current"]),
    ]
    assert plug.asked == ["/shelly", "/rpc/Shelly.GetStatus"]
    assert plug.clicks == 0
    assert heard == [mdns.question()]
    assert all(name(service) in heard[0] for service in mdns.SERVICES)


def test_an_old_shelly_and_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    with shelly(1, password="secret") as old:
        told = (
            answer("_http._tcp.local", "shelly1pm-AABB", old.port),
            answer("_esphomelib._tcp.local", "sump", 6053),
            answer("_http._tcp.local", "printer", 8631),
        )
        found = asked(monkeypatch, *told)[0].found
    by_port = {one.where.rpartition(":")[2]: one for one in found}
    assert len(by_port) == len(found), "what is locked tells no meters"
    assert by_port[str(old.port)].what == "Shelly SHPLG-S, switch 0"
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
        result = lan.search_mdns(SystemClock(), group=group, listen_s=0.1)
    assert result.found == []
    assert "one network" in result.looks[0].todo


def test_an_answer_cannot_send_us_to_the_internet() -> None:
    (one,) = mdns.services_in(answer("_shelly._tcp.local", SHELLY, 80, address="8.8.8.8"), "192.168.1.7")
    assert one.address == "192.168.1.7"


def test_broken_packets_are_nothing() -> None:
    good = answer("_shelly._tcp.local", SHELLY, 80)
    assert len(mdns.services_in(good, "192.168.1.7")) == 1
    for length in range(len(good) - 1):
        mdns.services_in(good[:length], "192.168.1.7")
    for at in range(len(good)):
        for value in (0x00, 0x3F, 0x80, 0xC0, 0xFF):
            mdns.services_in(good[:at] + bytes([value]) + good[at + 1 :], "192.168.1.7")
    loop = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\xc0\x0c" + bytes(10)
    assert mdns.services_in(loop, "192.168.1.7") == []
    assert mdns.services_in(mdns.question(), "192.168.1.7") == []


def test_an_open_shelly_of_the_first_generation_tells_relays_and_meters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with shelly(1) as old:
        result, _ = asked(monkeypatch, answer("_http._tcp.local", "shellyem-AABB", old.port))
    assert [one.options.get("channel", 0) for one in of_table(result, OUTPUTS)] == [0]
    assert [one.options["reads"] for one in of_table(result, DEVICES)] == [
        ["power", "energy", "returned", "voltage", "temperature", "input"],
        ["power", "energy", "input"],
    ]


def test_what_is_found_is_what_a_config_with_it_claims(
    plug: FakeShelly, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kasa("HS300(US)") as strip:
        result, _ = asked(monkeypatch, answer("_shelly._tcp.local", SHELLY, plug.port))
        result.add([kasas.search(PATIENCE_S, target="127.0.0.1", port=strip.port)])
    assert len(result.found) == 3 + 12
    for one in result.found:
        drivers = output_catalog() if one.table == OUTPUTS else catalog()
        kind = drivers[str(one.options["driver"])]
        own = {key: value for key, value in one.options.items() if key in kind.options.model_fields}
        assert kind.claims is not None
        (claim,) = kind.claims(kind.options.model_validate(own))
        assert claim.what in one.keys


@pytest.mark.parametrize(
    ("model", "outlets", "meters"), [("HS110(EU)", 1, 1), ("HS103(US)", 1, 0), ("HS300(US)", 6, 6)]
)
def test_a_kasa_is_found_and_only_asked_who_it_is(model: str, outlets: int, meters: int) -> None:
    with kasa(model) as fake:
        result = kasas.search(PATIENCE_S, target="127.0.0.1", port=fake.port)
        assert {method for request in fake.heard for methods in request.values() for method in methods} == {
            "get_sysinfo"
        }
    assert len(of_table(result, OUTPUTS)) == outlets
    assert len(of_table(result, DEVICES)) == meters
    assert {one.what.partition(",")[0] for one in result.found} == {f"Kasa {model}"}
    assert all(one.name for one in result.found)
    assert "1 Kasa or Tapo answered" in result.looks[0].said


def test_newer_firmware_is_told_with_what_it_wants() -> None:
    (one,) = kasas._found("192.168.1.9", 20002, 9999, {"result": {"device_model": "P110(EU)"}})
    assert (one.what, one.table) == ("Kasa or Tapo P110(EU)", "")
    assert "username and password" in one.note
    for nonsense in (
        {},
        {"result": 3},
        {"system": {"get_sysinfo": 3}},
        {"system": {"get_sysinfo": {"children": 3}}},
    ):
        for port in (20002, 9999):
            assert len(list(kasas._found("192.168.1.9", port, 9999, nonsense))) == 1


def test_without_the_extra_kasas_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kasas, "find_spec", lambda _name: None)
    result = kasas.search(30.0, target="127.0.0.1", port=9)
    assert "pip install 'tidewatt[kasa]'" in result.looks[0].said
    assert result.found == []


def test_nobody_of_kasa_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        result = kasas.search(1.0, target="127.0.0.1", port=silent.getsockname()[1])
    assert result.found == []
    assert "0 Kasa or Tapo answered" in result.looks[0].said
