"""A Shelly's local HTTP interface, generation 1 and 2 and later: who it is, and one question at a time.

Source: Shelly's API documentation: `/shelly` tells the generation to anybody; a password is asked for by basic
authentication (1) or by digest with SHA-256 (2 and later, RFC 7616).  No cloud is needed.
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

from drivers.base import Clock, DeviceMisconfigured, DeviceTimeout, DeviceUnavailable, DriverError

ANSWER_BYTES_MAX: Final = 64_000
USERNAME: Final = "admin"
CHALLENGE: Final = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class UnknownCall(DeviceUnavailable):
    """It answers, and does not know what it was asked for: it has no such part, or is not through its start yet."""


class Generation(enum.StrEnum):
    AUTO = "auto"
    ONE = "1"
    TWO = "2"


class ShellyAddress(BaseModel):
    """Where a Shelly is, and which of its channels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$",
        description="the Shelly's address or name on the local network",
    )
    port: int = Field(80, ge=1, le=65535, description="its HTTP port")
    channel: int
    generation: Generation = Field(
        Generation.AUTO, description="its interface: 1, 2 (also later devices) or auto (ask it)"
    )
    password: SecretStr = Field(SecretStr(""), description="its password, where one is set")
    answer_s: float


class ShellyHttp:
    """One Shelly as it is asked; it keeps nothing."""

    def __init__(self, address: ShellyAddress, clock: Clock) -> None:
        self._options = address
        self._clock = clock

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

    def ask(self, path: str, **query: str | int) -> Mapping[str, Any]:
        """Ask, with the password where it wants one.  The answer is a JSON object.

        Raises DriverError; UnknownCall where it does not know the path or the channel.
        """
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
            # Never a mistake in the config for certain: a Shelly that starts after a power cut answers so for a while.
            raise UnknownCall(
                f"Shelly {host} answers, but knows no channel {channel} as it was asked; where it does not just start, "
                "set channel and generation to its own"
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
