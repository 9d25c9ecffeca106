"""Which chips answer on the I2C buses, and what they are by their own registers.

Nothing here writes a setting.  What may be asked, and why it does no harm:

- Addresses that a driver of the kernel holds, or that the config has, are left alone: their owner may be in the
  middle of a conversation.
- Elsewhere one byte is read and nothing is written.  Reserved addresses and 0x0c are left out: a read at 0x0c
  would acknowledge an alert.
- 0x40-0x4f: a register is named (one byte, which moves a pointer) and read.  Register 0 comes first: a chip that
  takes commands instead of registers (SHT3x, Si7021) does not acknowledge it, and is asked for no other.
- 0x44, 0x45, where register 0 was refused: the SHT3x's command that reads its status.
- The factory addresses of EZO circuits: `i`, one letter, "which circuit are you?".  To a chip with registers it
  is no more than a pointer.
- Buses of displays and of mainboards are left out unless they are asked for by number: monitors and memory
  modules are configured over them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from drivers import boards, i2c
from drivers.base import DeviceMisconfigured, DeviceUnavailable
from drivers.discovery.found import DEVICES, OUTPUTS, ROOT, Found, Look, Search
from drivers.ezo import CIRCUITS, EzoKind
from drivers.ina219 import Ina219
from drivers.ina226 import Ina226
from drivers.ina228 import Ina228
from drivers.sht3x import READ_STATUS, word

ADDRESSES: Final = tuple(address for address in range(0x08, 0x78) if address != 0x0C)
BY_REGISTERS: Final = range(0x40, 0x50)
ADS1115_ADDRESSES: Final = range(0x48, 0x4C)
SHT3X_ADDRESSES: Final = (0x44, 0x45)
EZO_AT: Final[Mapping[int, EzoKind]] = {circuit.address: kind for kind, circuit in CIRCUITS.items()}
EZO_ANSWER_S: Final = 0.3
EZO_ANSWER_BYTES: Final = 24
STATUS_S: Final = 0.001
TIMEOUTS_MAX: Final = 3  # so many and the bus is stuck: each costs a second
BUSES_MAX: Final = 32
FOREIGN: Final = re.compile(
    r"hdmi|ddc|dpaux|smbus(?! stub)|i801|piix|nvidia|amdgpu|i915|fef0[49]500|107d5082", re.IGNORECASE
)
#: Defaults of the PCA9685's addresses for groups, which nobody changes: registers 2-5.
PCA9685_GROUPS: Final = (0xE2, 0xE4, 0xE8, 0xE0)
INA219_RESET: Final = 0x399F
INA219_GAIN: Final = 3 << 11
ADS1115_THRESHOLDS: Final = (0x8000, 0x7FFF)
SHUNT: Final = "set shunt_ohm to what is printed on the board's shunt (R100 is 0.1), and max_current_a"
#: What else is often met, by address alone: what it may be, and how it is read.
OFTEN: Final[Mapping[int, tuple[str, str]]] = {
    **dict.fromkeys(range(0x20, 0x28), ("a port expander (MCP23017, PCF8574)", "")),
    0x23: ("a light sensor (BH1750)", "dtoverlay=i2c-sensor,bh1750 makes it readable by driver iio"),
    0x38: ("a humidity sensor (AHT20) or a port expander (PCF8574A)", ""),
    **dict.fromkeys((0x3C, 0x3D), ("a display (SSD1306)", "")),
    **dict.fromkeys(range(0x50, 0x58), ("a memory (EEPROM)", "")),
    **dict.fromkeys(range(0x48, 0x4C), ("a thermometer (LM75, TMP102)", "")),
    0x62: ("a CO2 sensor (SCD4x)", ""),
    0x68: ("a clock (DS3231, DS1307)", "dtoverlay=i2c-rtc,ds3231 keeps the time over a power cut"),
    0x70: ("the all-call address of PCA9685 chips, or a bus switch (TCA9548A)", ""),
    **dict.fromkeys(
        (0x76, 0x77),
        ("a barometer (BME280, BMP280)", "dtoverlay=i2c-sensor,bme280,addr={address} makes it readable by driver iio"),
    ),
}  # fmt: skip

Answer = TypeVar("Answer")


def search(
    root: Path = ROOT, *, buses: Collection[int] = (), known: Collection[str] = (), board: boards.Board
) -> Search:
    """Every chip on the buses of `root`'s /dev, or on `buses` alone.

    known  keys ("i2c-1 0x40") that the config has; they are not asked
    """
    numbers = sorted(_number(path) for path in (root / "dev").glob("i2c-*") if _number(path) >= 0)
    if not numbers:
        return Search(looks=[_no_bus(root, board)])
    result = Search()
    result.add(_search_bus(root, number, buses, known) for number in numbers[:BUSES_MAX])
    result.looks += [
        Look(where=f"/dev/i2c-{number}", said="is not there", todo=f"there is {_buses(numbers)}")
        for number in sorted(set(buses) - set(numbers))
    ]
    return result


def _buses(numbers: Collection[int]) -> str:
    return ", ".join(f"/dev/i2c-{number}" for number in numbers)


def _no_bus(root: Path, board: boards.Board) -> Look:
    path = board.config or boards.CONFIGS[0]
    if any((root / "sys/bus/i2c/devices").glob("i2c-*")):
        todo = (
            "run `sudo modprobe i2c-dev`; a line i2c-dev in /etc/modules-load.d/i2c.conf does it at each boot"
        )
    elif board.is_pi:
        todo = f"add dtparam=i2c_arm=on to {path}, a line i2c-dev to /etc/modules-load.d/i2c.conf, and boot again"
    else:
        todo = "this is no Raspberry Pi; plug in an I2C adapter, or run this on the Pi"
    return Look(where="/dev/i2c-*", said="no I2C bus", todo=todo)


def _search_bus(root: Path, number: int, buses: Collection[int], known: Collection[str]) -> Search:
    where, name = f"/dev/i2c-{number}", _text(root / f"sys/bus/i2c/devices/i2c-{number}/name")
    if buses and number not in buses:
        return Search()
    if not buses and FOREIGN.search(name):
        said = f"not asked: it is a bus of the display or the mainboard ({name})"
        return Search(looks=[Look(where=where, said=said, todo=f"if you know better: --i2c {number}")])
    bus, result = Bus(number), Search()
    try:
        for address in ADDRESSES:
            one = _look_at(root, bus, address, known)
            result.found += [one] if one else []
    except _Stuck:
        todo = "look for a short, a missing pull-up, or a chip without power that holds SDA or SCL low"
        result.looks.append(Look(where=where, said="the bus is stuck: calls time out", todo=todo))
    except (DeviceUnavailable, DeviceMisconfigured) as error:
        result.looks.append(Look(where=where, said="cannot be asked", todo=str(error)))
    else:
        count = len(result.found)
        todo = "" if count else "check the power and the wiring (SDA is pin 3, SCL is pin 5 of the header)"
        said = f"{len(ADDRESSES)} addresses, {count or 'none'} answered"
        result.looks.append(Look(where=where, said=said, todo=todo))
    return result


def _look_at(root: Path, bus: Bus, address: int, known: Collection[str]) -> Found | None:
    key = where = f"i2c-{bus.number} 0x{address:02x}"
    kernel = root / f"sys/bus/i2c/devices/{bus.number}-{address:04x}"
    if key in known:
        return Found(where=where, what="a device of the config", evidence="not asked", keys=(key,))
    if (kernel / "driver").exists():
        return _held(where, _text(kernel / "name"))
    try:
        return identify(bus, address)
    except _Held:
        return _held(where, _text(kernel / "name"))


def _held(where: str, name: str) -> Found:
    note = "a driver of the kernel has it: read it by iio or hwmon, or remove its dtoverlay from config.txt"
    return Found(where=where, what=name or "a chip", evidence="not asked", note=note)


class _Held(Exception):
    """A driver of the kernel has the address."""


class _Stuck(Exception):
    """Nobody can be asked any more."""


class Bus:
    """One bus as it is asked; it counts the calls that nobody ended."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._timeouts = 0

    def ask(self, call: Callable[[], Answer]) -> Answer | None:
        """What came; None where nobody acknowledged.  Raises DeviceUnavailable where the bus does not open."""
        try:
            return call()
        except DeviceUnavailable as error:
            code = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
            if code == errno.EBUSY:
                raise _Held from error
            if code in (errno.EACCES, errno.EPERM, errno.ENOENT):
                raise
            self._timeouts += code == errno.ETIMEDOUT
            if self._timeouts >= TIMEOUTS_MAX:
                raise _Stuck from error
            return None

    def read(self, port: i2c.Port, register: int, length: int = 2) -> int | None:
        """A register, as `ask`."""
        return self.ask(lambda: port.read(register, length))


def identify(bus: Bus, address: int) -> Found | None:
    """What answers at an address; None where nobody does."""
    port = i2c.Port(bus.number, address)
    if address in BY_REGISTERS:
        first = bus.read(port, 0x00)
        if first is not None:
            return next(_by_registers(bus, port, first), None) or _unknown(bus, port)
        if address in SHT3X_ADDRESSES and _is_sht3x(bus, port):
            return _device(
                bus, port, "SHT3x", "its status with a right check byte", driver="sht3x", sure=True
            )
    if bus.ask(lambda: port.take(1)) is None:
        return None
    return (address in EZO_AT and _ezo(bus, port)) or _unknown(bus, port)


def _by_registers(bus: Bus, port: i2c.Port, first: int) -> Iterator[Found]:
    """The chips at 0x40-0x4f that their registers tell, the surest first."""
    for kind in (Ina226, Ina228):
        said = {register: bus.read(port, register) for register, _ in kind.IDENTITY}
        if all((said[at] or 0) & mask == expected for (at, mask), expected in kind.IDENTITY.items()):
            words = ", ".join(f"register 0x{at:02x} is 0x{value or 0:04x}" for at, value in said.items())
            name = kind.__name__
            yield _device(bus, port, name.upper(), words, driver=name.lower(), sure=True, note=SHUNT)
    groups = tuple(bus.read(port, register, 1) for register in range(2, 6))
    if groups == PCA9685_GROUPS:
        yield _pca9685(bus, port)
    if port.address in ADS1115_ADDRESSES:
        thresholds = tuple(bus.read(port, register) for register in (2, 3))
        config = bus.read(port, 1) or 0
        if thresholds == ADS1115_THRESHOLDS and config & 3 == 3:
            yield _ads1115(bus, port, config)
    if first == INA219_RESET or first & ~INA219_GAIN == Ina219.CONFIG:
        words = f"register 0 is 0x{first:04x}, and it has no number"
        yield _device(bus, port, "INA219", words, driver="ina219", note=SHUNT)


def _is_sht3x(bus: Bus, port: i2c.Port) -> bool:
    bus.ask(lambda: port.send(READ_STATUS))
    i2c.pause(STATUS_S)
    status = bus.ask(lambda: port.take(3))
    return status is not None and word(status) is not None


def _ezo(bus: Bus, port: i2c.Port) -> Found | None:
    kind = EZO_AT[port.address]
    bus.ask(lambda: port.send(b"i"))
    i2c.pause(EZO_ANSWER_S)
    said = (bus.ask(lambda: port.take(EZO_ANSWER_BYTES)) or b"").lstrip(b"\x01").split(b"\0")[0]
    text = said.decode("ascii", "replace")
    if not text.upper().startswith(f"?I,{CIRCUITS[kind].answers.upper()},"):
        return None
    found = _options(bus, driver="ezo", kind=kind.value)
    name = f"EZO {CIRCUITS[kind].answers}"
    return Found(where=_key(bus, port), what=name, sure=True, evidence=f"it says {text}", table=DEVICES,
                 options=found, keys=(_key(bus, port),))  # fmt: skip


def _ads1115(bus: Bus, port: i2c.Port, config: int) -> Found:
    channels = {f"a{pin}": {"input": str(pin)} for pin in range(4)}
    return Found(
        where=_key(bus, port),
        what="ADS1115",
        evidence=f"its thresholds are as after power-up, its config is 0x{config:04x} (an ADS1015 has the same)",
        table=DEVICES,
        options=_options(bus, driver="ads1115", address=port.address, channels=channels),
        note="keep the pins that are wired, and set scale and unit; see `tidewatt drivers ads1115`",
        keys=(_key(bus, port),),
    )


def _pca9685(bus: Bus, port: i2c.Port) -> Found:
    return Found(
        where=_key(bus, port),
        what="PCA9685",
        sure=True,
        evidence="its group addresses in registers 2-5",
        table=OUTPUTS,
        options=_options(bus, driver="pca9685", kind="light", safe=0.0, address=port.address, channel=0),
        note="an output for each of the channels 0-15 that is wired; set kind, safe and oe_pin, then take the # away",
        keys=(_key(bus, port),),
    )


def _device(
    bus: Bus, port: i2c.Port, what: str, evidence: str, *, driver: str, sure: bool = False, note: str = ""
) -> Found:
    return Found(where=_key(bus, port), what=what, sure=sure, evidence=evidence, table=DEVICES, note=note,
                 options=_options(bus, driver=driver, address=port.address), keys=(_key(bus, port),))  # fmt: skip


def _unknown(bus: Bus, port: i2c.Port) -> Found:
    what, note = OFTEN.get(port.address, ("something", ""))
    note = note.format(address=f"0x{port.address:02x}")
    evidence = "by its address alone" if port.address in OFTEN else "it answers"
    return Found(where=_key(bus, port), what=what, evidence=evidence, note=note, keys=(_key(bus, port),))


def _options(bus: Bus, *, driver: str, **options: object) -> dict[str, object]:
    return {"driver": driver, "i2c": bus.number, **options}


def _key(bus: Bus, port: i2c.Port) -> str:
    """As the drivers' claims call it."""
    return f"i2c-{bus.number} 0x{port.address:02x}"


def _number(path: Path) -> int:
    digits = path.name.removeprefix("i2c-")
    return int(digits) if digits.isdecimal() else -1


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
