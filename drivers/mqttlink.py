"""One connection to a broker of the devices' own, shared by all tables that name the same broker and login.

paho reads and writes in its own thread; another one connects, and connects again after a pause that grows and is
never the same.  A new client for each connection: nothing that was not sent in one goes out in the next, so no
command comes late.
"""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from drivers.base import DeviceUnavailable

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

KEEPALIVE_S: Final = 30
CONNECT_S: Final = 5.0
PAUSE_FIRST_S: Final = 1.0
PAUSE_MAX_S: Final = 60.0
QUEUED_MAX: Final = 100
PAYLOAD_BYTES_MAX: Final = 64_000

#: Takes topic, payload (empty where it was too long) and whether the broker had kept it; runs on paho's thread.
Listener = Callable[[str, bytes, bool], None]


class BrokerOptions(BaseModel):
    """Where the devices' broker is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "localhost", min_length=1, max_length=253, description="the devices' broker: name or address"
    )
    port: int = Field(1883, ge=1, le=65535, description="its port (8883 is usual with tls)")
    username: str = Field("", max_length=200, description="login at it; empty for none")
    password: SecretStr = Field(SecretStr(""), description="its password")
    tls: bool = Field(False, description="speak TLS to it")
    ca_file: str = Field("", description="file with its certificate authority; empty: the system's")
    answer_s: float = Field(2.0, ge=0.1, le=30, description="longest wait for it, seconds")


class Link:
    """One connection.  Every method may be called from any thread; only `wait` blocks."""

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._changed = threading.Condition()
        self._listeners: dict[str, list[Listener]] = {}
        self._refused: set[str] = set()
        self._asked: dict[int, str] = {}
        self._client: Client | None = None
        self._problem = "it was not tried yet"
        self._begun = self._failed = 0
        self._hurry, self._gone = threading.Event(), threading.Event()
        self._ended = False
        #: Grows with each connection: what was heard in an earlier one may have been overtaken unheard.
        self.session = 0
        self.users = 0

    @property
    def where(self) -> str:
        return f"{self._options.host}:{self._options.port}"

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"mqtt-{self.where}", daemon=True).start()

    def end(self) -> None:
        self._ended = True
        self._hurry.set()
        self._gone.set()

    def listen(self, topics: Collection[str], listener: Listener) -> None:
        """From now on, and what the broker keeps there."""
        with self._changed:
            for topic in topics:
                self._listeners.setdefault(topic, []).append(listener)
                self._subscribe(topic)

    def forget(self, topics: Collection[str], listener: Listener) -> None:
        with self._changed:
            for topic in topics:
                left = [one for one in self._listeners.get(topic, ()) if one != listener]
                if left:
                    self._listeners[topic] = left
                elif self._listeners.pop(topic, None) is not None and self._client is not None:
                    self._client.unsubscribe(topic)

    def wait(self, seconds: float) -> None:
        """Until it is connected.  Raises DeviceUnavailable when the next try fails, or none has by then."""
        with self._changed:
            begun = self._begun
            self._hurry.set()
            self._changed.wait_for(lambda: self._client is not None or self._failed > begun, seconds)
        self.check()

    def check(self, topics: Collection[str] = ()) -> None:
        """Raises DeviceUnavailable when it is not connected, or may not read one of `topics`."""
        with self._changed:
            if self._client is None:
                raise DeviceUnavailable(
                    f"broker {self.where} cannot be reached ({self._problem}); check that it runs, and host, port "
                    "and login"
                )
            refused = sorted(self._refused.intersection(topics))
        if refused:
            raise DeviceUnavailable(
                f"broker {self.where} refuses the subscription to {refused[0]}; check its access list: this login "
                "has to read it"
            )

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand it over; it is lost with this connection.  Raises DeviceUnavailable."""
        with self._changed:
            client = self._client
        if client is None or client.publish(topic, payload, qos=1).rc:
            raise DeviceUnavailable(
                f"broker {self.where} does not take what is sent; check it, and the network"
            )

    def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while not self._ended:
            self._hurry.clear()
            was_up = self._connect_once()
            pause_s = PAUSE_FIRST_S if was_up else min(2 * pause_s, PAUSE_MAX_S)
            self._hurry.wait(pause_s * random.uniform(0.5, 1.0))

    def _connect_once(self) -> bool:
        """One connection from its beginning to its end; whether it ever stood."""
        before, gone = self.session, self._gone
        with self._changed:
            self._begun += 1
        gone.clear()
        if self._ended:  # since it was looked at: what `end` said would be cleared just now
            return False
        client = None
        try:
            client = self._make()
            client.connect(self._options.host, self._options.port, keepalive=KEEPALIVE_S)
            client.loop_start()
            if gone.wait(CONNECT_S) or self.session != before:
                gone.wait()
            else:
                self._problem = f"no answer within {CONNECT_S:g} s"
        except (OSError, ValueError) as error:
            self._problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        finally:
            self._down(client)
        return self.session != before

    def _down(self, client: Client | None) -> None:
        with self._changed:
            self._client = None
            self._failed = self._begun
            self._changed.notify_all()
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _make(self) -> Client:
        from paho.mqtt.client import Client  # it takes time, and most commands only read the options
        from paho.mqtt.enums import CallbackAPIVersion

        options = self._options
        client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_S
        client.max_queued_messages_set(QUEUED_MAX)
        if options.username:
            client.username_pw_set(options.username, options.password.get_secret_value())
        if options.tls:
            tls = ssl.create_default_context(cafile=options.ca_file or None)
            # Python 3.13 asks for key usage in the authority's certificate, which a site's own seldom has
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: Client, _data: object, _flags: object, code: Any, _props: object) -> None:
        if code.is_failure:
            self._problem = f"it says: {code}"
            self._gone.set()
            return
        with self._changed:
            self.session += 1
            self._client = client
            self._refused.clear()
            self._asked.clear()
            for topic in self._listeners:
                self._subscribe(topic)
            self._changed.notify_all()

    def _on_disconnect(
        self, _client: Client, _data: object, _flags: object, code: Any, _props: object
    ) -> None:
        with self._changed:
            if self._client is not None:
                self._problem = f"the connection was lost: {code}"
                self._client = None
        self._gone.set()

    def _subscribe(self, topic: str) -> None:
        """With the lock held: the answer must not be looked at before its number is known."""
        if self._client is not None:
            _, number = self._client.subscribe(topic, qos=1)
            if number is not None:
                self._asked[number] = topic

    def _on_subscribe(self, _client: Client, _data: object, number: int, codes: Any, _props: object) -> None:
        with self._changed:
            topic = self._asked.pop(number, "")
            if any(code.is_failure for code in codes):
                self._refused.add(topic)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._changed:
            listeners = list(self._listeners.get(message.topic, ()))
        payload = bytes(message.payload) if len(message.payload) <= PAYLOAD_BYTES_MAX else b""
        for listener in listeners:
            listener(message.topic, payload, message.retain)


_links: dict[tuple[object, ...], Link] = {}
_links_lock = threading.Lock()


def _key(options: BrokerOptions) -> tuple[object, ...]:
    password = options.password.get_secret_value()
    return options.host, options.port, options.username, password, options.tls, options.ca_file


def join(options: BrokerOptions) -> Link:
    """The connection to this broker with this login, begun with its first user; `leave` it."""
    with _links_lock:
        link = _links.get(_key(options))
        if link is None:
            link = _links[_key(options)] = Link(options)
            link.start()
        link.users += 1
        return link


def leave(link: Link) -> None:
    """The last one ends the connection."""
    with _links_lock:
        link.users -= 1
        if not link.users:
            for key in [key for key, one in _links.items() if one is link]:
                del _links[key]
            link.end()
