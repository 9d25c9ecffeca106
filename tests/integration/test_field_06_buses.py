"""Field, line 6: "A bus never reconnects, or one dead device blocks the bus."  Over the buses that there are."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from pydantic import TypeAdapter

from drivers.base import DeviceUnavailable
from edge.clock import FakeClock
from edge.image import Image, Reading
from edge.poll.config import DeviceCommon, PollConfig, device_model
from edge.poll.poller import Poller
from tests.drivers.folders import OTHER_PROBE, PROBE, TREES, plant, w1
from tests.drivers.worlds import shelly_world

pytestmark = pytest.mark.anyio

ADAPTER: Final[TypeAdapter[Any]] = TypeAdapter(device_model())
BUSES: Final = {"probe": "w1", "air": "i2c-1", "waves": "sim"}
RETRY_MAX_S: Final = 8.0
PHASE_S: Final = 40


class Hardware:
    """A 1-Wire probe and a chip on I2C, as the kernel shows them."""

    def __init__(self, folder: Path) -> None:
        self._w1, self._iio = folder / "w1", folder / "iio"
        self._chip = folder / "i2c-1" / "1-0076" / "iio:device0"
        self._iio.mkdir(parents=True)
        self.plug("probe")
        self.plug("air")

    def file(self, device: str) -> Path:
        """What a read of the device opens."""
        return self._w1 / PROBE / "temperature" if device == "probe" else self._chip / "in_temp_input"

    def plug(self, device: str) -> None:
        if device == "probe":
            w1(self._w1, {PROBE: "25062\n"})
        else:
            plant(self._chip, TREES["bme280"])
            link = self._iio / "iio:device0"
            link.unlink(missing_ok=True)
            link.symlink_to(self._chip)

    def unplug(self, device: str) -> None:
        shutil.rmtree(self._w1 if device == "probe" else self._chip)

    def hang(self, device: str) -> None:
        """From now on a read blocks, as a clock line that is held low blocks the kernel's driver."""
        self.file(device).unlink()
        os.mkfifo(self.file(device))

    def let_go(self, device: str) -> None:
        """The read that hangs returns, with nothing."""
        os.close(os.open(self.file(device), os.O_WRONLY | os.O_NONBLOCK))

    def devices(self) -> list[DeviceCommon]:
        common = {"interval_s": 1.0, "timeout_s": 0.1}
        tables = (
            {"name": "probe", "driver": "ds18b20", "address": PROBE, "root": str(self._w1)},
            {"name": "air", "driver": "iio", "chip": "bme280", "channels": ["temp"], "root": str(self._iio)},
            {"name": "waves", "driver": "sim", "model": "waves", "n": 1},
        )
        return [ADAPTER.validate_python(common | table) for table in tables]


@pytest.mark.parametrize("victim", ["probe", "air"])
async def test_field_06_a_device_that_hangs_dies_and_returns_needs_no_restart_and_blocks_no_other_bus(
    tmp_path: Path, victim: str
) -> None:
    hardware, clock, events = Hardware(tmp_path), FakeClock(), Counter[tuple[str, str]]()
    good: Counter[str] = Counter()

    def record(reading: Reading) -> None:
        good[reading.series.partition(".")[0]] += reading.value is not None

    poller = Poller(
        hardware.devices(), Image(), record, clock, lambda kind, name, *_: events.update([(kind, name)]),
        poll=PollConfig(retry_first_s=0.5, retry_max_s=RETRY_MAX_S),
    )  # fmt: skip

    def status(name: str) -> dict[str, Any]:
        return next(found for found in poller.status() if found["name"] == name)

    async def phase() -> dict[str, int]:
        """How many reads of each device came to something while the time of a phase passed."""
        before = {name: status(name)["polls"] - status(name)["errors"] for name in BUSES}
        await clock.advance(PHASE_S, loops=len(BUSES))
        return {name: status(name)["polls"] - status(name)["errors"] - before[name] for name in BUSES}

    async with anyio.create_task_group() as group:
        group.start_soon(poller.run)
        await clock.until_sleeping(len(BUSES))
        assert len({status(name)["bus"] for name in BUSES}) == len(BUSES)
        assert set((await phase()).values()) == {PHASE_S}
        hardware.hang(victim)
        hung = await phase()
        assert hung.pop(victim) <= 1
        assert set(hung.values()) == {PHASE_S}
        hardware.let_go(victim)
        hardware.unplug(victim)
        dead = await phase()
        assert dead.pop(victim) <= 1
        assert set(dead.values()) == {PHASE_S}
        hardware.plug(victim)
        back = await phase()
        assert back.pop(victim) >= PHASE_S - 1.2 * RETRY_MAX_S - 1
        assert set(back.values()) == {PHASE_S}
        assert status(victim)["state"] == "up"
        group.cancel_scope.cancel()
    assert all(good[name] > 0 for name in BUSES)
    assert events["device-failed", victim] == events["device-recovered", victim] == 1
    assert {name for _, name in events} == {victim}


async def test_field_06_a_dead_probe_does_not_block_its_neighbours_on_the_same_bus(tmp_path: Path) -> None:
    root, clock = tmp_path / "w1", FakeClock()
    w1(root, {PROBE: "25062\n", OTHER_PROBE: "24000\n"})
    table = {"driver": "ds18b20", "root": str(root), "interval_s": 1.0}
    devices = [
        ADAPTER.validate_python(table | {"name": name, "address": address})
        for name, address in (("tank", PROBE), ("sump", OTHER_PROBE))
    ]
    poller = Poller(devices, Image(), lambda _: None, clock, lambda *_: None)
    async with anyio.create_task_group() as group:
        group.start_soon(poller.run)
        await clock.advance(PHASE_S)
        shutil.rmtree(root / OTHER_PROBE)
        before = {status["name"]: status["polls"] - status["errors"] for status in poller.status()}
        await clock.advance(PHASE_S)
        after = {status["name"]: status["polls"] - status["errors"] for status in poller.status()}
        group.cancel_scope.cancel()
    assert (after["tank"] - before["tank"], after["sump"] - before["sump"]) == (PHASE_S, 0)


@pytest.mark.parametrize("generation", [1, 2])
def test_field_06_a_shelly_that_left_the_network_is_found_again(generation: int) -> None:
    with shelly_world(generation) as world:
        output = world.make()
        output.open()
        output.write(1.0)
        for _ in range(3):
            world.unplug()
            with pytest.raises(DeviceUnavailable):
                output.write(0.0)
            world.plug()
            output.write(0.0)
            assert world.load() == 0.0
            output.write(1.0)
            assert world.load() == 1.0
