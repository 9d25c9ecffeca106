"""The MQTT connection: the one file of sync that knows aiomqtt.

A `Session` lives as long as one connection; whoever uses it opens the next one.  Nothing here relies on the broker's
memory: sessions are clean, and a publish that the broker confirmed proves nothing (it does so even when its ACL
dropped the message).  Sending therefore never waits for the broker; the answer of the sink is what counts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiomqtt
import anyio
from anyio.abc import TaskGroup
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.reasoncodes import ReasonCode

from sync.config import BrokerConfig

NODELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
"""Without it a drain is twice as slow: small acknowledgements wait for the kernel to gather more."""
CONNECT_TIMEOUT_S: Final = 10.0
RECONNECT_FIRST_S: Final = 0.5
RECONNECT_MAX_S: Final = 60.0
STABLE_AFTER_S: Final = 5.0
"""A connection that lasted so long was a good one: the next pause is the shortest again."""
PUBLISHES_PENDING_MAX: Final = 4096
REFUSED: Final = 0x80
"""SUBACK's return code for a subscription that is not granted (MQTT 3.1.1, 3.9.3)."""


class LinkDown(Exception):
    """There is no connection (any more); the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """Whom to connect to and as whom.

    will  (topic, payload): published, retained, by the broker when the connection breaks
    """

    host: str
    port: int
    client_id: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    keepalive_s: int = 30
    will: tuple[str, bytes] | None = None

    @classmethod
    def of(cls, broker: BrokerConfig, *, client_id: str, will: tuple[str, bytes] | None = None) -> LinkConfig:
        """The connection that a config's section describes."""
        return cls(
            host=broker.host, port=broker.port, client_id=client_id, username=broker.username,
            password=broker.password.get_secret_value(), tls=broker.tls, ca_file=broker.ca_file,
            cert_file=broker.cert_file, key_file=broker.key_file, keepalive_s=broker.keepalive_s, will=will,
        )  # fmt: skip

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    payload: bytes
    retained: bool


class Session(Protocol):
    """One live connection."""

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand a message to the connection and go on; raises LinkDown when it is broken."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Hand a message over and wait until it left (or, at QoS 1, was confirmed).  Raises LinkDown."""

    async def subscribe(self, *filters: str) -> None:
        """Receive what is published there from now on.  Raises LinkDown when refused."""

    async def unsubscribe(self, *filters: str) -> None:
        """Receive it no more.  Raises LinkDown."""

    def messages(self) -> AsyncIterator[Message]:
        """What comes in; raises LinkDown when the connection breaks."""


class MqttSession:
    """A Session over aiomqtt."""

    def __init__(self, client: aiomqtt.Client, group: TaskGroup, where: str) -> None:
        self._client = client
        self._group = group
        self._where = where
        self._pending = 0

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        if self._pending >= PUBLISHES_PENDING_MAX:
            raise LinkDown(f"broker {self._where} takes nothing more: {self._pending} messages wait")
        self._pending += 1
        self._group.start_soon(self._publish, topic, payload, qos, retain)

    async def _publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        try:
            await self._client.publish(topic, payload, qos=qos, retain=retain)
        except aiomqtt.MqttError:
            return  # the connection's end is told by `messages`; a missing answer by the caller's own patience
        finally:
            self._pending -= 1

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        try:
            await self._client.publish(topic, payload, qos=qos, retain=retain)
        except aiomqtt.MqttError as error:
            raise LinkDown(f"broker {self._where} is gone: {error}") from error

    async def subscribe(self, *filters: str) -> None:
        for topic_filter in filters:
            try:
                codes = await self._client.subscribe(topic_filter, qos=1)
            except aiomqtt.MqttError as error:
                raise LinkDown(f"broker {self._where} did not take a subscription: {error}") from error
            if any(_number(code) >= REFUSED for code in codes):
                raise LinkDown(
                    f"broker {self._where} refuses the subscription to {topic_filter}; give this login the right to"
                    " read it (the broker's ACL)"
                )

    async def unsubscribe(self, *filters: str) -> None:
        try:
            await self._client.unsubscribe(list(filters))
        except aiomqtt.MqttError as error:
            raise LinkDown(f"broker {self._where} did not end a subscription: {error}") from error

    async def messages(self) -> AsyncIterator[Message]:
        try:
            async for message in self._client.messages:
                topic, retained = str(message.topic), bool(message.retain)
                yield Message(topic=topic, payload=message.payload, retained=retained)
        except aiomqtt.MqttError as error:
            raise LinkDown(f"broker {self._where} is gone: {error}") from error


class _Client(aiomqtt.Client):
    """aiomqtt, but a socket that is closed by the time its writer is to be known to the loop is let go.

    aiomqtt 2.5 leaves that error to the loop, which calls it an unhandled one.
    """

    def _on_socket_register_write(self, client: PahoClient, userdata: object, sock: Any) -> None:
        del userdata

        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001 - whatever it is, the connection is no more
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            with suppress(OSError, ValueError):
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)


@asynccontextmanager
async def connect(config: LinkConfig) -> AsyncIterator[MqttSession]:
    """Connect with a clean session.  Raises LinkDown with what to do."""
    logger = logging.getLogger("aiomqtt")
    logger.setLevel(logging.CRITICAL)
    client = _Client(
        config.host, config.port, identifier=config.client_id, username=config.username or None,
        password=config.password or None, keepalive=config.keepalive_s, clean_session=True, logger=logger,
        tls_context=_tls_context(config), timeout=CONNECT_TIMEOUT_S, socket_options=NODELAY,
        max_inflight_messages=64,
        will=aiomqtt.Will(config.will[0], config.will[1], qos=1, retain=True) if config.will else None,
    )  # fmt: skip
    client.pending_calls_threshold = PUBLISHES_PENDING_MAX
    await _look_up(config)
    try:
        await client.__aenter__()
    except aiomqtt.MqttError as error:
        raise LinkDown(_why(config, error)) from error
    try:
        async with anyio.create_task_group() as group:
            yield MqttSession(client, group, config.where)
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(2, shield=True):
            try:
                await client.__aexit__(None, None, None)
            except aiomqtt.MqttError:
                pass  # it is gone already


async def _look_up(config: LinkConfig) -> None:
    """See that the name is known: the client would wait for a name server without end, and without a word."""
    try:
        with anyio.fail_after(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().getaddrinfo(config.host, config.port)
    except TimeoutError:
        raise LinkDown(
            f"no name server answers for the broker's name {config.host}; check this machine's network and DNS, or set"
            " host to the broker's address"
        ) from None
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error
        raise LinkDown(
            f"the broker's name {config.host} cannot be looked up ({words}); check host and this machine's DNS"
        ) from error


def _number(code: int | ReasonCode) -> int:
    return code if isinstance(code, int) else code.value


def _tls_context(config: LinkConfig) -> ssl.SSLContext | None:
    if not config.tls:
        return None
    for path in filter(None, (config.ca_file, config.cert_file, config.key_file)):
        if not os.access(path, os.R_OK):  # ssl does not say which
            raise LinkDown(f"{path} is missing or may not be read; check ca_file, cert_file and key_file")
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
        # Python 3.13 asks for key usage in the authority's certificate, which a site's own seldom has
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise LinkDown(
            f"the TLS files cannot be used: {error}; check ca_file, cert_file and key_file"
        ) from error
    return context


def _why(config: LinkConfig, error: aiomqtt.MqttError) -> str:
    words = str(error)
    if "user name or password" in words.lower() or "code:4]" in words:
        return f"broker {config.where} refuses the login {config.username!r}; check username and password"
    if "authori" in words.lower() or "code:5]" in words:
        return (
            f"broker {config.where} refuses the login {config.username or '(none)'!r};"
            " check username and password and the broker's ACL"
        )
    if "certificate verify failed" in words.lower():
        return (
            f"the certificate of broker {config.where} is not accepted ({words}); check ca_file, the host's name, how"
            " long the certificate is valid and this machine's clock"
        )
    if "refused" in words.lower() or "errno 111" in words.lower():
        return f"no broker answers at {config.where} ({words}); is it running, and are host and port right?"
    if "timed out" in words.lower() or "reset by peer" in words.lower() or "[SSL" in words:
        speaks = "with TLS" if config.tls else "without TLS"
        return (
            f"broker {config.where} does not answer ({words}); is it reachable, and does this port speak MQTT {speaks}"
            " (tls, port)?"
        )
    return f"broker {config.where} cannot be reached: {words}"


def _first_words(error: BaseException) -> str:
    """What the first error inside a group of groups says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


class Patience:
    """Growing pauses between attempts, with jitter, up to a cap.

    spread_s  the first pause after a link that had been good is anything up to this: when a broker restarts, all who
              talked to it lose it in the same moment
    """

    def __init__(
        self,
        first_s: float = RECONNECT_FIRST_S,
        most_s: float = RECONNECT_MAX_S,
        seed: int | None = None,
        *,
        spread_s: float = 0.0,
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._spread_s = spread_s
        self._tries = 0
        self._was_good = False
        self._random = random.Random(seed)

    def reset(self) -> None:
        """The link is a good one."""
        self._tries = 0
        self._was_good = True

    def next_s(self) -> float:
        """Seconds until the next attempt."""
        if self._was_good and self._spread_s:
            self._was_good = False
            return self._random.random() * self._spread_s
        pause = min(self._first_s * float(2**self._tries), self._most_s)
        self._tries = min(self._tries + 1, 30)
        return pause * (0.5 + self._random.random() / 2)


async def _reset_when_stable(patience: Patience, sleep: Callable[[float], Awaitable[None]]) -> None:
    await sleep(STABLE_AFTER_S)
    patience.reset()


async def keep_connected(
    config: LinkConfig,
    talk: Callable[[Session], Awaitable[None]],
    *,
    sleep: Callable[[float], Awaitable[None]],
    down: Callable[[str, float], None],
    patience: Patience | None = None,
) -> None:
    """Connect, `talk`, and when the link breaks do it again, for ever.

    down  told why there is no link, and in how many seconds the next attempt comes
    """
    patience = patience or Patience()
    while True:
        try:
            async with connect(config) as session, anyio.create_task_group() as group:
                group.start_soon(_reset_when_stable, patience, sleep)
                await talk(session)
                group.cancel_scope.cancel()
        except* LinkDown as group:
            why = _first_words(group)
        else:
            why = "the conversation ended"
        pause_s = patience.next_s()
        down(why, pause_s)
        await sleep(pause_s)
