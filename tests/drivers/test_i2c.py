"""What the chips on I2C share."""

from __future__ import annotations

import threading

import pytest

from drivers import i2c, pca9685, smbus
from drivers.base import DeviceTimeout
from drivers.pca9685 import Pca9685Options
from tests.drivers.i2c_bus import i2c_bus
from tests.drivers.ina_models import Ina226Chip


def test_a_bus_that_another_holds_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    i2c_bus(monkeypatch).put(0x40, Ina226Chip())
    port = i2c.Port(1, 0x40)
    assert port.read(0xFE) == 0x5449
    assert smbus.bus(1).try_lock()
    with pytest.raises(DeviceTimeout, match="held by another device for a second; check what hangs on it"):
        port.read(0xFE)
    smbus.bus(1).unlock()
    assert port.read(0xFE) == 0x5449


def test_a_failed_transaction_gives_the_bus_back(monkeypatch: pytest.MonkeyPatch) -> None:
    i2c_bus(monkeypatch)
    for _ in range(2):
        with pytest.raises(OSError, match=r"0x41 on I2C bus 2 .*check its power"):
            i2c.Port(2, 0x41).take(3)


def test_a_pause_ends() -> None:
    waiter = threading.Thread(target=i2c.pause, args=(0.0,))
    waiter.start()
    waiter.join(60)
    assert not waiter.is_alive()


def test_a_chip_is_one_device_s() -> None:
    (one,), (other,) = i2c.claims(1, 0x40), i2c.claims(1, 0x41)
    assert one.clashes(one)
    assert not one.clashes(other)


def test_a_pca9685_has_its_address_for_itself_and_shares_it_among_its_channels() -> None:
    first, second = (pca9685.claims(Pca9685Options(channel=channel)) for channel in (0, 1))
    (meter,) = i2c.claims(1, 0x40)
    assert any(claim.clashes(meter) for claim in first)
    assert not any(one.clashes(other) for one in first for other in second)
