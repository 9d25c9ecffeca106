"""Shelly outlets and relays over their local HTTP interface, generation 1 and 2 and later.

Source: Shelly's API documentation.  Its flip-back timer is the hold: each command away from safe carries it, each
refresh re-arms it, and without the daemon the Shelly itself goes back to safe.  No cloud is needed.
"""

from __future__ import annotations

import enum
import hashlib
import http.client
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from drivers.base import (
    Clock,
    DeviceMisconfigured,
    DeviceTimeout,
    DeviceUnavailable,
    DriverError,
    HoldBy,
    Output,
    Terms,
    is_on,
)
from drivers.catalog import Claim, OutputDriver

ANSWER_BYTES_MAX: Final = 64_000
HOLD_MIN_S: Final = 5.0  # shorter than two refreshes over a network may take
USERNAME: Final = "admin"
CHALLENGE: Final = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class Generation(enum.StrEnum):
    AUTO = "auto"
    ONE = "1"
    TWO = "2"


class ShellyOptions(BaseModel):
    """Options of an output with `driver = "shelly"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$",
        description="the Shelly's address or name on the local network",
    )
    port: int = Field(80, ge=1, le=65535, description="its HTTP port")
    channel: int = Field(0, ge=0, le=15, description="which of its switches, from 0")
    generation: Generation = Field(
        Generation.AUTO, description="its interface: 1, 2 (also later devices) or auto (ask it)"
    )
    password: SecretStr = Field(SecretStr(""), description="its password, where one is set")
    answer_s: float = Field(2.0, ge=0.1, le=30, description="longest wait for an answer, seconds")
    set_power_up: bool = Field(
        True,
        description="true: set it up to stand at the safe level after a power cut, and never to leave it by itself",
    )


class Shelly(Output):
    """One switch of one Shelly."""

    local = False

    def __init__(self, options: ShellyOptions, terms: Terms, clock: Clock) -> None:
        self._options = options
        self._safe = is_on(terms.safe)
        self._hold_s = int(terms.hold_s)
        self._clock = clock
        self._generation = ""
        #: What the load draws as the Shelly measures it, W; None where it does not measure.
        self.power_w: float | None = None
        self.bus = f"shelly-{options.host}"
        self.hold_by = HoldBy.DEVICE if self._hold_s else HoldBy.NOBODY

    def open(self) -> None:
        self._generation = ""
        self._generation = self.identify()
        self._switch(self._safe)
        self._settle()

    def write(self, level: float) -> None:
        self._switch(is_on(level))

    def read_back(self) -> float | None:
        channel = self._options.channel
        if self._opened() == Generation.ONE:
            status = self.ask(f"/relay/{channel}")
            on, timed, power = status.get("ison"), status.get("has_timer"), self._meter()
        else:
            status = self.ask("/rpc/Switch.GetStatus", id=channel)
            on, timed, power = status.get("output"), "timer_duration" in status, status.get("apower")
        if not isinstance(on, bool):
            raise DeviceUnavailable(
                f"Shelly {self._options.host} does not say whether it is on; update its firmware"
            )
        if timed and on is self._safe:
            raise DeviceUnavailable(
                f"Shelly {self._options.host} is safe, but a timer of its own will lead it away; look at its page"
            )
        self.power_w = float(power) if isinstance(power, int | float) else None
        return float(on)

    def release(self) -> None:
        if not self._generation:
            return
        try:
            self._switch(self._safe)
        except DriverError:
            return  # out of reach: its own timer does it

    def identify(self) -> str:
        """Its generation, as the config says or as it says itself.  Raises DriverError."""
        if self._options.generation is not Generation.AUTO:
            return self._options.generation
        return Generation.ONE if self.about().get("gen", 1) == 1 else Generation.TWO

    def about(self) -> Mapping[str, Any]:
        """What it says of itself to anybody; `gen` is a whole number where there is one.  Raises DriverError."""
        about = self.ask("/shelly")
        if not isinstance(about.get("gen", 1), int) or not {"type", "model", "id"} & about.keys():
            raise DeviceUnavailable(f"what answers at {self._options.host} is no Shelly; check its address")
        return about

    def _switch(self, on: bool) -> None:
        """Away from safe it carries the timer that leads back; a command to safe ends a timer that runs."""
        timed = self._hold_s > 0 and on != self._safe
        channel = self._options.channel
        if self._opened() == Generation.ONE:
            timer = {"timer": self._hold_s} if timed else {}
            answer = self.ask(f"/relay/{channel}", turn="on" if on else "off", **timer)
            if answer.get("ison") is not on:
                raise DeviceUnavailable(f"Shelly {self._options.host} did not switch; look at its own page")
            return
        toggle = {"toggle_after": self._hold_s} if timed else {}
        answer = self.ask("/rpc/Switch.Set", id=channel, on=_word(on), **toggle)
        if "was_on" not in answer:
            raise DeviceUnavailable(f"Shelly {self._options.host} did not switch; look at its own page")

    def _settle(self) -> None:
        """Its own settings must not lead it away from safe; its flash is written only where it stands otherwise.

        Its auto-on (or auto-off, where safe is on) would follow the flip back to safe and undo it.
        """
        state, wanted = "on" if self._safe else "off", dict[str, Any]()
        undoing = "auto_off" if self._safe else "auto_on"
        first = self._opened() == Generation.ONE
        path, key = f"/settings/relay/{self._options.channel}", "default_state" if first else "initial_state"
        query: dict[str, str | int] = {} if first else {"id": self._options.channel}
        found = self.ask(path if first else "/rpc/Switch.GetConfig", **query)
        if found.get(key) != state:
            wanted[key] = state
        if found.get(undoing):
            wanted[undoing] = 0 if first else False
        if wanted and self._options.set_power_up:
            query |= wanted if first else {"config": json.dumps(wanted)}
            self.ask(path if first else "/rpc/Switch.SetConfig", **query)
        elif undoing in wanted:
            word = undoing.replace("_", "-")
            raise DeviceMisconfigured(
                f"Shelly {self._options.host} leaves safe by itself ({word}); take {word} out on its own page, or set "
                "set_power_up = true"
            )

    def _meter(self) -> object:
        try:
            return self.ask(f"/meter/{self._options.channel}").get("power")
        except DeviceMisconfigured:
            return None  # it has none

    def _opened(self) -> str:
        if not self._generation:
            raise DeviceUnavailable("the Shelly is not open; this is a mistake in the daemon")
        return self._generation

    def ask(self, path: str, **query: str | int) -> Mapping[str, Any]:
        """Ask, with the password where it wants one.  Raises DriverError; the answer is a JSON object."""
        target = f"{path}?{urlencode(query)}" if query else path
        status, challenge, body = self._request(target, "")
        if status == http.client.UNAUTHORIZED and self._options.password.get_secret_value():
            status, _, body = self._request(target, self._authorize(challenge, target))
        host = self._options.host
        if status == http.client.UNAUTHORIZED:
            raise DeviceMisconfigured(f"Shelly {host} wants another password; set password to its own")
        return self._judge(status, _json(body))

    def _judge(self, status: int, answer: Any) -> Mapping[str, Any]:
        host, channel = self._options.host, self._options.channel
        text = str(answer.get("message", "")) if isinstance(answer, dict) else ""
        if status == http.client.NOT_FOUND or "not found" in text.lower():
            raise DeviceMisconfigured(
                f"Shelly {host} has no switch {channel} (or another generation); set channel and generation to its own"
            )
        if status != http.client.OK:
            raise DeviceUnavailable(
                f"Shelly {host} answers {status} {text[:80]}; restart it, or update its firmware"
            )
        if not isinstance(answer, dict):
            raise DeviceUnavailable(f"what answers at {host} is no Shelly; check its address")
        return answer

    def _request(self, target: str, authorization: str) -> tuple[int, str, bytes]:
        """Status, the challenge that comes with a 401, and the body."""
        options = self._options
        headers = {"Authorization": authorization} if authorization else {}
        connection = http.client.HTTPConnection(options.host, options.port, timeout=options.answer_s)
        began_s = self._clock.monotonic_s()
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            body = bytearray()
            while piece := response.read1(4096):
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    raise DeviceUnavailable(f"what answers at {options.host} is no Shelly; check its address")
                if self._clock.monotonic_s() - began_s > 2 * options.answer_s:
                    raise TimeoutError
        except TimeoutError as error:
            raise DeviceTimeout(
                f"Shelly {options.host} gave no answer within {options.answer_s:g} s; check its power and its WLAN"
            ) from error
        except DriverError:
            raise
        except (OSError, http.client.HTTPException) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            raise DeviceUnavailable(
                f"Shelly {options.host} cannot be reached ({said}); check its power, its WLAN and its address"
            ) from error
        finally:
            connection.close()
        return response.status, response.getheader("WWW-Authenticate", ""), bytes(body)

    def _authorize(self, challenge: str, target: str) -> str:
        """The answer to a challenge: basic (generation 1), or digest with SHA-256 (RFC 7616)."""
        password = self._options.password.get_secret_value()
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() != "digest":
            return "Basic " + b64encode(f"{USERNAME}:{password}".encode()).decode("ascii")
        given = {name.lower(): quoted or plain for name, quoted, plain in CHALLENGE.findall(rest)}
        realm, nonce, once = given.get("realm", ""), given.get("nonce", ""), secrets.token_hex(8)
        secret = _sha256(f"{USERNAME}:{realm}:{password}")
        response = _sha256(f"{secret}:{nonce}:00000001:{once}:auth:{_sha256(f'GET:{target}')}")
        return (
            f'Digest username="{USERNAME}", realm="{realm}", nonce="{nonce}", uri="{target}", algorithm=SHA-256, '
            f'qop=auth, nc=00000001, cnonce="{once}", response="{response}"'
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _word(on: bool) -> str:
    return "true" if on else "false"


def make(options: Any, terms: Terms, clock: Clock) -> Output:
    return Shelly(options, terms, clock)


def claims(options: ShellyOptions) -> list[Claim]:
    return [Claim(what=f"switch {options.channel} of the Shelly {options.host}:{options.port}")]


def refuse(_options: ShellyOptions, terms: Terms) -> str:
    if terms.safe not in (0.0, 1.0):
        return f"a switch is on or off: safe = {terms.safe:g} is neither; set safe = 0 or safe = 1"
    if 0 < terms.hold_s < HOLD_MIN_S:
        return f"hold_s = {terms.hold_s:g} is too short to refresh over a network; set it to {HOLD_MIN_S:g} or more"
    return ""


def advise(_options: ShellyOptions, terms: Terms) -> str:
    if not terms.hold_s:
        return "without hold_s the Shelly stays as it is when the daemon or the network dies; set hold_s = 60"
    return ""


DRIVER: Final = OutputDriver(
    name="shelly",
    summary="a Shelly outlet or relay on the local network, held by its own timer",
    held="the Shelly's own timer, with hold_s",
    options=ShellyOptions,
    make=make,
    hold_by=lambda _options: HoldBy.DEVICE,
    local=lambda _options: False,
    claims=claims,
    refuse=refuse,
    advise=advise,
)
