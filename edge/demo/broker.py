"""A broker for the demo: amqtt inside the venv, or the real mosquitto."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.demo.process import Child, ChildFailed, free_port, listens

START_ATTEMPTS: Final = 5
PORT_TAKEN: Final = "Address already in use"
#: Debian puts it where a plain user's PATH may not look.
MOSQUITTO_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")


def find_mosquitto() -> str:
    """The path of mosquitto.  Raises ChildFailed when it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *MOSQUITTO_FOLDERS))
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise ChildFailed("no mosquitto here: apt install mosquitto, or use --broker amqtt")
    return found


class Broker:
    """A broker process on a loopback port; the same port after a restart."""

    def __init__(self, name: str, folder: Path, *, port: int = 0) -> None:
        self.name = name
        self.folder = folder.resolve()
        self.host = "127.0.0.1"
        self.port = port
        self.log = self.folder / "broker.log"
        self._port_chosen = port == 0
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """The process.  Raises ChildFailed before the first start."""
        if self._child is None:
            raise ChildFailed(f"{self.name} was not started")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> None:
        """Start it and return when it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(START_ATTEMPTS):
            if not self.port:
                self.port = free_port()
            try:
                self._start_once()
            except ChildFailed as error:
                if not (self._port_chosen and PORT_TAKEN in str(error)) or attempt + 1 == START_ATTEMPTS:
                    raise
                self.port = 0
            else:
                self._port_chosen = False  # whoever was told the port keeps it
                return

    def _start_once(self) -> None:
        self._child = Child(self.name, self._command(), log=self.log)
        self._child.start()
        try:
            self._child.wait_ready(lambda: listens(self.port))
        except ChildFailed:
            self._child.kill()
            raise

    def _command(self) -> Sequence[str]:
        raise ChildFailed(f"{self.name} is not a broker that can be started")

    def stop(self) -> None:
        """End it in order."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """kill -9: what it held in memory is gone."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """Stop in order and start again on the same port."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """SIGHUP: read passwords and access lists again."""
        self.child.send(signal.SIGHUP)


class Amqtt(Broker):
    """The pure Python broker of the venv (MQTT 3.1.1), in a process of its own."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        super().__init__("amqtt", folder, port=port)

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "edge.demo.broker", self.host, str(self.port)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MosquittoOptions:
    """What a test or the demo asks of mosquitto.

    passwords           user to password; empty: anybody may connect
    acl                 the lines of an access list; empty: everybody may do everything
    message_size_limit  bytes of a payload that are taken; 0: no limit
    nodelay             TCP_NODELAY towards clients (`set_tcp_nodelay`)
    lines               further lines of the config file
    """

    passwords: Mapping[str, str] = field(default_factory=dict)
    allow_anonymous: bool | None = None
    acl: Sequence[str] = ()
    message_size_limit: int = 0
    nodelay: bool = True
    lines: Sequence[str] = ()


class Mosquitto(Broker):
    """The real broker, with a config file of its own and nothing kept on disk."""

    def __init__(self, folder: Path, *, port: int = 0, options: MosquittoOptions | None = None) -> None:
        super().__init__("mosquitto", folder, port=port)
        self.options = options or MosquittoOptions()

    def _command(self) -> Sequence[str]:
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self._config()) + "\n")
        return [find_mosquitto(), "-c", str(config)]

    def _config(self) -> list[str]:
        options = self.options
        anonymous = not options.passwords if options.allow_anonymous is None else options.allow_anonymous
        lines = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {_word(anonymous)}",
            f"set_tcp_nodelay {_word(options.nodelay)}",
            "persistence false",
            "log_dest stdout",
            "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it gives up its rights and cannot read the files beside it
        if options.passwords:
            lines.append(f"password_file {self._write_passwords()}")
        if options.acl:
            lines.append(f"acl_file {self._write_private('acl', options.acl)}")
        if options.message_size_limit:
            lines.append(f"message_size_limit {options.message_size_limit}")
        return [*lines, *options.lines]

    def _write_passwords(self) -> Path:
        """Plain pairs, hashed in place by mosquitto's own tool."""
        pairs = [f"{user}:{password}" for user, password in self.options.passwords.items()]
        path = self._write_private("passwords", pairs)
        tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        hashing = Child("mosquitto_passwd", [tool, "-U", str(path)], log=self.log)
        hashing.start()
        if not hashing.wait(10.0) or hashing.exit_code:
            raise ChildFailed(f"mosquitto_passwd failed:\n{hashing.log_tail()}")
        return path

    def _write_private(self, name: str, lines: Sequence[str]) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
        return path


def _word(value: bool) -> str:
    return "true" if value else "false"


MAKERS: Final[Mapping[str, Callable[[Path], Broker]]] = {"amqtt": Amqtt, "mosquitto": Mosquitto}


async def _serve_amqtt(host: str, port: int) -> None:
    from amqtt.broker import Broker as AmqttBroker

    broker = AmqttBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}", "max_connections": 100}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, ended.set)
    await broker.start()
    await ended.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_serve_amqtt(sys.argv[1], int(sys.argv[2])))
