"""What `tidewatt broker config` writes, tried against a real mosquitto: who gets at what, and whom TLS lets in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from edge.cli.main import cli
from edge.demo.broker import Broker, find_mosquitto
from sync.link import LinkConfig, LinkDown, MqttSession, connect
from tests.services import free_port

pytestmark = pytest.mark.anyio

EDGES = ("reef-1", "reef-2")
SINKS = ("sink-1", "sink-2")
CONSUMER = "grafana"
LOGINS = (*EDGES, *SINKS, CONSUMER)
PREFIX = "tidewatt/v1"
END = b"end"
FILTERS = ("#", f"{PREFIX}/#", "$share/all/#", f"{PREFIX}/+/held", f"{PREFIX}/+/+/+")

#: Written out, and not taken from the code: who may publish to a topic of `reef-1`, and who reads it.
RIGHTS = {
    "batch/readings": (["reef-1"], ["sink-1", "sink-2"]),
    "batch/summaries": (["reef-1"], ["sink-1", "sink-2"]),
    "ask": (["reef-1"], ["sink-1", "sink-2"]),
    "held": (["sink-1", "sink-2"], ["reef-1"]),
    "status": (["reef-1"], ["reef-1", "grafana"]),
    "state/tank.ph": (["reef-1"], ["reef-1", "grafana"]),
    "event": (["reef-1"], ["grafana"]),
    "result": (["reef-1"], []),
    "command": ([], ["reef-1"]),
    "nonsense": ([], []),
}


class FleetBroker(Broker):
    """A mosquitto that includes the folder which the command wrote."""

    def _command(self) -> Sequence[str]:
        main = self.folder / "main.conf"
        user = ["user root"] if os.geteuid() == 0 else []  # else it gives up its rights and cannot read them
        main.write_text("\n".join([*user, "log_dest stdout", f"include_dir {self.folder / 'fleet'}"]) + "\n")
        return [find_mosquitto(), "-c", str(main)]


def made(folder: Path, *options: str) -> dict[str, Any]:
    """Run the command; returns its JSON."""
    edges = [word for edge in EDGES for word in ("--edge", edge)]
    words = ["broker", "config", *edges, "--sinks", "2", "--consumer", CONSUMER, "--json", *options]
    result = CliRunner().invoke(cli, [*words, "--out", str(folder)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


class Site:
    """The running broker and the passwords of its logins."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        told = made(folder / "fleet", "--port", str(self.port), *options)
        self.passwords = {login["name"]: login["password"] for login in told["logins"]}
        self.broker = FleetBroker("mosquitto", folder, port=self.port)
        self.broker.start()

    def link(self, name: str, **changes: Any) -> LinkConfig:
        values: dict[str, Any] = {
            "host": "127.0.0.1", "port": self.port, "client_id": name, "username": name,
            "password": self.passwords.get(name, ""),
        }  # fmt: skip
        return LinkConfig(**(values | changes))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("broker"), "--no-tls")
    yield site
    site.broker.stop()


class Ear:
    """A login that subscribes to all it can think of, and what it is given."""

    def __init__(self, name: str, session: MqttSession) -> None:
        self.name = name
        self.session = session
        self.heard: set[tuple[str, bytes]] = set()
        self.ended = anyio.Event()

    async def listen(self) -> None:
        async for message in self.session.messages():
            if message.payload == END:
                self.ended.set()
            else:
                self.heard.add((message.topic, message.payload))


@asynccontextmanager
async def ears(site: Site, names: Sequence[str] = LOGINS) -> AsyncIterator[dict[str, Ear]]:
    """All of them, listening."""
    open_: dict[str, Ear] = {}
    ready, done = anyio.Event(), anyio.Event()

    async def hold(name: str) -> None:
        async with connect(site.link(name)) as session:
            await session.subscribe(*FILTERS)
            open_[name] = Ear(name, session)
            listening.start_soon(open_[name].listen)
            if len(open_) == len(names):
                ready.set()
            await done.wait()

    async with anyio.create_task_group() as listening, anyio.create_task_group() as links:
        for name in names:
            links.start_soon(hold, name)
        with anyio.fail_after(60):
            await ready.wait()
        yield open_
        listening.cancel_scope.cancel()
        done.set()


async def quiet(open_: dict[str, Ear]) -> None:
    """Return when all has arrived that was confirmed before: each then hears an end, in a topic of its own."""
    for topic in ("batch/readings", "status"):
        await open_[EDGES[0]].session.publish(f"{PREFIX}/{EDGES[0]}/{topic}", END, qos=1)
    for edge in EDGES:
        await open_[SINKS[0]].session.publish(f"{PREFIX}/{edge}/held", END, qos=1)
    with anyio.fail_after(60):
        for ear in open_.values():
            await ear.ended.wait()


def expected(listener: str) -> set[tuple[str, bytes]]:
    """What a login may hear when everybody publishes to everything."""
    heard = set()
    for edge, other in (EDGES, reversed(EDGES)):
        swap = {EDGES[0]: edge, EDGES[1]: other}
        for topic, (writers, readers) in RIGHTS.items():
            if listener in [swap.get(reader, reader) for reader in readers]:
                for writer in writers:
                    heard.add((f"{PREFIX}/{edge}/{topic}", swap.get(writer, writer).encode()))
    return heard


async def test_no_login_reads_or_writes_what_is_not_its_own(site: Site) -> None:
    """Everybody publishes to every topic of both sites, and listens to everything."""
    async with ears(site) as open_:
        for ear in open_.values():
            for edge in EDGES:
                for topic in RIGHTS:
                    await ear.session.publish(f"{PREFIX}/{edge}/{topic}", ear.name.encode(), qos=1)
        await quiet(open_)
        for name, ear in open_.items():
            assert ear.heard == expected(name), name


async def test_nothing_that_is_retained_gets_through(site: Site) -> None:
    async with ears(site) as open_:
        for ear in open_.values():
            for edge in EDGES:
                for topic in RIGHTS:
                    payload = b"kept by " + ear.name.encode()
                    await ear.session.publish(f"{PREFIX}/{edge}/{topic}", payload, qos=1, retain=True)
        await quiet(open_)
    async with ears(site) as open_:
        await quiet(open_)
        for name, ear in open_.items():
            allowed = {(topic, b"kept by " + payload) for topic, payload in expected(name)}
            assert ear.heard <= allowed, name
        assert (f"{PREFIX}/reef-2/status", b"kept by reef-2") in open_[CONSUMER].heard


async def test_no_will_speaks_for_another_site(site: Site) -> None:
    async with ears(site, (*SINKS, CONSUMER, "reef-2")) as open_:
        for topic in (
            f"{PREFIX}/reef-2/status",
            f"{PREFIX}/reef-2/batch/readings",
            f"{PREFIX}/reef-1/status",
        ):
            link = site.link("reef-1", will=(topic, b"the will"))
            try:
                async with connect(link) as session:
                    drop(session)
                    with pytest.raises(LinkDown):
                        async for _ in session.messages():
                            pass
            except LinkDown:
                pass  # it may be refused at once
        await open_["sink-1"].session.publish(f"{PREFIX}/reef-2/held", END, qos=1)
        with anyio.fail_after(60):
            await open_["reef-2"].ended.wait()
            while (f"{PREFIX}/reef-1/status", b"the will") not in open_[CONSUMER].heard:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        told = {topic for ear in open_.values() for topic, payload in ear.heard if payload == b"the will"}
        assert told == {f"{PREFIX}/reef-1/status"}


def drop(session: MqttSession) -> None:
    """Break the connection without a word."""
    raw = session._client._client.socket()
    assert isinstance(raw, socket.socket)
    raw.shutdown(socket.SHUT_RDWR)


async def test_a_client_id_takes_nobodys_connection_over(site: Site) -> None:
    thief = site.link("reef-1", client_id="reef-2")
    async with ears(site, ("reef-2", "sink-1")) as open_, connect(thief) as session:
        await session.publish(f"{PREFIX}/reef-1/ask", b"still reef-1", qos=1)
        await open_["sink-1"].session.publish(f"{PREFIX}/reef-2/held", END, qos=1)
        with anyio.fail_after(60):
            await open_["reef-2"].ended.wait()


async def test_nobody_logs_in_without_a_right_password(site: Site) -> None:
    for link in (
        site.link("reef-1", password="wrong"),
        site.link("reef-1", username="", password=""),
        site.link("reef-1", password=site.passwords["reef-2"]),
        site.link("root", password=""),
    ):
        with pytest.raises(LinkDown, match="refuses the login"):
            async with connect(link):
                pass


async def test_another_run_keeps_passwords_and_drops_logins(site: Site, tmp_path: Path) -> None:
    first = made(tmp_path / "b", "--no-tls")
    again = made(tmp_path / "b", "--no-tls", "--consumer", "more")
    fresh = {login["name"]: login["password"] for login in again["logins"]}
    assert all(login["password"] for login in first["logins"])
    assert [name for name, password in fresh.items() if password] == ["more"]
    hashes = (tmp_path / "b" / "tidewatt.passwords").read_text()
    assert not any(login["password"] in hashes for login in first["logins"])
    for name in again["files"]:
        assert Path(name).stat().st_mode & 0o777 == 0o600


# -------------------------------------------------------------------------------------------------- TLS

CA_CONFIG = """
[ca]
default_ca = one
[one]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""
LONG_AGO, BEFORE, LATER = "20200101000000Z", "20200201000000Z", "20490101000000Z"


class Authority:
    """Certificates made by openssl, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "ca.cnf").write_text(CA_CONFIG)
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        subject = ["-subj", f"/CN={name}", "-days", "3650"]
        self._openssl("req", "-x509", *self._new_key("ca.key"), "-out", "ca.crt", *subject)

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def sign(self, name: str, alternative: str, until: str = LATER) -> tuple[Path, Path]:
        """A certificate and its key."""
        key, request, certificate = f"{name}.key", f"{name}.csr", f"{name}.crt"
        (self.folder / "ext").write_text(f"subjectAltName={alternative}\n")
        self._openssl("req", "-new", *self._new_key(key), "-out", request, "-subj", f"/CN={name}")
        self._openssl(
            "ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key",
            "-in", request, "-out", certificate, "-startdate", LONG_AGO, "-enddate", until, "-extfile", "ext",
        )  # fmt: skip
        return self.folder / certificate, self.folder / key

    def _new_key(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", name]

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(
            ["openssl", *words], cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca", "ours")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that cannot read what a client says is silent: do not wait long for it."""
    monkeypatch.setattr("sync.link.CONNECT_TIMEOUT_S", 1.5)


#: paho leaves a socket whose handshake failed to the garbage collector.
refused_by_tls = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@asynccontextmanager
async def tls_site(folder: Path, pair: tuple[Path, Path], *options: str) -> AsyncIterator[Site]:
    site = Site(folder, "--certfile", str(pair[0]), "--keyfile", str(pair[1]), *options)
    try:
        yield site
    finally:
        site.broker.stop()


@refused_by_tls
@pytest.mark.usefixtures("hasty")
async def test_the_right_authority_is_taken_and_nothing_else(tmp_path: Path, authority: Authority) -> None:
    other = Authority(tmp_path / "other", "not ours")
    ca = str(authority.certificate)
    async with tls_site(tmp_path / "b", authority.sign("good", "DNS:localhost,IP:127.0.0.1")) as site:
        async with connect(site.link("reef-1", tls=True, ca_file=ca)) as session:
            await session.publish(f"{PREFIX}/reef-1/ask", b"hello", qos=1)
        for ca_file in (str(other.certificate), ""):
            with pytest.raises(LinkDown, match=r"certificate .* not accepted .*ca_file"):
                async with connect(site.link("reef-1", tls=True, ca_file=ca_file)):
                    pass
        with pytest.raises(LinkDown, match=r"does not answer .* without TLS"):
            async with connect(site.link("reef-1")):
                pass


@refused_by_tls
@pytest.mark.parametrize(
    ("alternative", "until", "words"),
    [("DNS:elsewhere.example.org", LATER, "not valid for '127.0.0.1'"), ("IP:127.0.0.1", BEFORE, "expired")],
)
async def test_a_wrong_name_and_an_expired_certificate_are_refused(
    tmp_path: Path, authority: Authority, alternative: str, until: str, words: str
) -> None:
    async with tls_site(tmp_path / "b", authority.sign("bad", alternative, until)) as site:
        with pytest.raises(LinkDown, match=rf"certificate .* not accepted .*{words}"):
            async with connect(site.link("reef-1", tls=True, ca_file=str(authority.certificate))):
                pass


@refused_by_tls
@pytest.mark.usefixtures("hasty")
async def test_with_an_authority_clients_need_a_certificate(tmp_path: Path, authority: Authority) -> None:
    ca = str(authority.certificate)
    pair = authority.sign("server", "IP:127.0.0.1")
    certificate, key = authority.sign("reef-1", "DNS:reef-1")
    async with tls_site(tmp_path / "b", pair, "--cafile", ca) as site:
        with pytest.raises(LinkDown):
            async with connect(site.link("reef-1", tls=True, ca_file=ca)):
                pass
        link = site.link("reef-1", tls=True, ca_file=ca, cert_file=str(certificate), key_file=str(key))
        async with connect(link) as session:
            await session.publish(f"{PREFIX}/reef-1/ask", b"hello", qos=1)
