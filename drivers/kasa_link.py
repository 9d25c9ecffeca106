"""A Kasa or Tapo device by python-kasa (the extra `kasa`), asked from threads of our own.

Source: python-kasa 0.12.  It is made of coroutines, so each link has an event loop that runs while somebody asks,
on the thread that asks.  The library is imported with the first connection (0.3 s, 15 MB): only a config that
names such a device pays for it.

Without a username the old protocol is spoken (port 9999, no login).  With one the device is first asked over UDP
how it wants to be spoken to, as newer firmware wants the login of the TP-Link account, and no cloud.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from drivers.base import DeviceMisconfigured, DeviceTimeout, DeviceUnavailable, DriverError

if TYPE_CHECKING:
    from kasa import Device as Kasa

#: A connection asks several times before it stands.
CONNECT_ANSWERS: Final = 3
OLD_PORT: Final = 9999

Answer = TypeVar("Answer")


class KasaAddress(BaseModel):
    """Where a Kasa is, and which of its sockets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$",
        description="the device's address or name on the local network",
    )
    port: int = Field(OLD_PORT, ge=1, le=65535, description="its port without a login")
    channel: int = Field(0, ge=0, le=15, description="which socket of a strip, from 0")
    username: str = Field(
        "", max_length=200, description="e-mail of its TP-Link account, where newer firmware wants a login"
    )
    password: SecretStr = Field(SecretStr(""), description="that account's password")
    answer_s: float = Field(2.0, ge=0.5, le=30, description="longest wait for an answer, seconds")

    @model_validator(mode="after")
    def _whole_login(self) -> Self:
        if bool(self.username) != bool(self.password.get_secret_value()):
            raise ValueError("a login is username and password; set both, or neither")
        return self


class KasaLink:
    """One device's connection: made when it is needed, and anew after a failure."""

    def __init__(self, address: KasaAddress) -> None:
        self._address = address
        self._runner: asyncio.Runner | None = None
        self._device: Kasa | None = None

    def ask(self, deed: Callable[[Kasa], Coroutine[Any, Any, Answer]]) -> Answer:
        """What the deed returns; it gets the socket that is meant.  Raises DriverError."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._ask(deed))

    def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            with suppress(Exception):
                runner.run(self._drop())
            runner.close()

    async def _ask(self, deed: Callable[[Kasa], Coroutine[Any, Any, Answer]]) -> Answer:
        address = self._address
        try:
            if self._device is None:
                _load()  # may take seconds on a small board: the device has no part in that
                async with asyncio.timeout(CONNECT_ANSWERS * address.answer_s):
                    self._device = await _connect(address)
            async with asyncio.timeout(address.answer_s):
                return await deed(_socket(self._device, address))
        except DriverError:
            raise
        except Exception as error:
            await self._drop()
            raise _told(error, address) from error

    async def _drop(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            with suppress(Exception):
                await device.disconnect()


def _load() -> None:
    """Raises DeviceMisconfigured where the library is missing."""
    try:
        import kasa  # noqa: F401  # only now is it needed
    except ImportError as error:
        raise DeviceMisconfigured(
            "python-kasa is not installed; install the extra: pip install 'tidewatt[kasa]'"
        ) from error


async def _connect(address: KasaAddress) -> Kasa:
    from kasa import Credentials, Device, DeviceConfig, Discover

    answer_s = math.ceil(address.answer_s)
    if not address.username:
        config = DeviceConfig(host=address.host, port_override=address.port, timeout=answer_s)
        return await Device.connect(config=config)
    login = Credentials(address.username, address.password.get_secret_value())
    device = await Discover.discover_single(
        address.host, credentials=login, discovery_timeout=answer_s, timeout=answer_s
    )
    if device is None:
        raise DeviceUnavailable(f"{address.host} is no Kasa that the library knows; check its address")
    try:
        await device.update()
    except BaseException:  # a timeout cancels it
        await device.disconnect()
        raise
    return device


def _socket(device: Kasa, address: KasaAddress) -> Kasa:
    """Of a strip its socket, of anything else the device.  Raises DeviceMisconfigured."""
    sockets = list(device.children) or [device]
    if address.channel >= len(sockets):
        raise DeviceMisconfigured(
            f"the Kasa {address.host} has {len(sockets)} sockets; set channel from 0 to {len(sockets) - 1}"
        )
    return sockets[address.channel]


def _told(error: Exception, address: KasaAddress) -> DriverError:
    """The library's error, or whatever an answer that it does not know made it raise, as one of ours."""
    from kasa import AuthenticationError, KasaException, UnsupportedDeviceError

    host = address.host
    chain = [error, error.__cause__]
    if any(isinstance(one, AuthenticationError) for one in chain):
        return DeviceMisconfigured(
            f"the Kasa {host} refuses the login; set username and password to those of its TP-Link account"
        )
    if isinstance(error, UnsupportedDeviceError):
        return DeviceMisconfigured(f"{host} is no Kasa that can be used here ({error}); check its address")
    if any(isinstance(one, TimeoutError) for one in chain):
        return DeviceTimeout(
            f"the Kasa {host} gave no answer within {address.answer_s:g} s; check its power and its WLAN, and set "
            "username and password where its firmware wants a login"
        )
    if isinstance(error, KasaException | OSError):
        why = error.__cause__ or error  # the library wraps what the system said
        return DeviceUnavailable(
            f"the Kasa {host} cannot be used now ({str(why) or type(why).__name__}); check its power, its WLAN and its "
            "address"
        )
    return DeviceUnavailable(
        f"what answers at {host} is no Kasa ({type(error).__name__}: {error}); check its address"
    )
