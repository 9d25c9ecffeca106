"""Any sensor chip that the kernel serves under IIO or hwmon, found by the chip's name, never by its number.

Source: the kernel's ABI documents sysfs-bus-iio and hwmon sysfs-interface.  IIO: (raw + offset) x scale, or
`input` already computed; hwmon: whole numbers in thousandths (power: millionths).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, Device, DeviceMisconfigured, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Driver

IIO_ROOT: Final = Path("/sys/bus/iio/devices")
HWMON_ROOT: Final = Path("/sys/class/hwmon")
CHANNELS_MAX: Final = 64

#: IIO channel type: point, and what turns the kernel's unit into the point's.
IIO_TYPES: Final[Mapping[str, tuple[Point, float]]] = {
    "temp": (Point(unit="°C", decimals=3, low=-273.15, high=2000.0), 1e-3),
    "humidityrelative": (Point(unit="%", decimals=3, low=0.0, high=100.0), 1e-3),
    "pressure": (Point(unit="hPa", decimals=2, low=0.0), 10.0),
    "voltage": (Point(unit="V", decimals=5, apart=True), 1e-3),
    "current": (Point(unit="A", decimals=5), 1e-3),
    "power": (Point(unit="W", decimals=4), 1e-3),
    "resistance": (Point(unit="Ω", decimals=2, low=0.0), 1.0),
    "illuminance": (Point(unit="lx", decimals=2, low=0.0), 1.0),
    "concentration": (Point(unit="%", decimals=5, low=0.0, high=100.0), 1.0),
    "distance": (Point(unit="m", decimals=4, low=0.0), 1.0),
    "energy": (Point(unit="J", decimals=3), 1.0),
}
HWMON_TYPES: Final[Mapping[str, tuple[Point, float]]] = {
    "temp": (Point(unit="°C", decimals=3, low=-273.15, high=2000.0), 1e-3),
    "in": (Point(unit="V", decimals=3), 1e-3),
    "curr": (Point(unit="A", decimals=3), 1e-3),
    "power": (Point(unit="W", decimals=6), 1e-6),
    "humidity": (Point(unit="%", decimals=3, low=0.0, high=100.0), 1e-3),
    "fan": (Point(unit="rpm", decimals=0, low=0.0), 1.0),
}
IIO_FILE: Final = re.compile(r"in_([a-z]+)([0-9]*(?:-[a-z]+[0-9]+)?)((?:_[a-z0-9]+)*)_(raw|input)")
HWMON_FILE: Final = re.compile(r"([a-z]+)([0-9]+)_input")
I2C_BUS: Final = re.compile(r"i2c-\d+")


class _ChipOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    chip: str = Field(min_length=1, description="the chip's name as its `name` file says it, such as bme280")
    at: str = Field("", description="a part of its path, such as 1-0077, where two chips have one name")
    channels: tuple[str, ...] = Field(
        (), max_length=CHANNELS_MAX, description="the points to read, such as temp, in0; empty: all"
    )


class IioOptions(_ChipOptions):
    """Options of `driver = "iio"`."""

    root: Path = Field(IIO_ROOT, description="folder of the IIO devices")


class HwmonOptions(_ChipOptions):
    """Options of `driver = "hwmon"`."""

    root: Path = Field(HWMON_ROOT, description="folder of the hwmon devices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """value = (number in `path` + offset) x factor, in the point's unit."""

    point: Point
    path: Path
    factor: float
    offset: float = 0.0


def iio_channels(folder: Path) -> dict[str, Channel]:
    """Channels of an IIO device: name as in its file, without `in_` and the ending."""
    channels: dict[str, Channel] = {}
    for path in sorted(folder.glob("in_*")):
        match = IIO_FILE.fullmatch(path.name)
        if match is None or match[1] not in IIO_TYPES:
            continue
        kind, index, modifier, ending = match.groups()
        name = f"{kind}{index}{modifier}"
        point, unit = IIO_TYPES[kind]
        if ending == "input":
            channels[name] = Channel(point=point, path=path, factor=unit)
        elif name not in channels:  # `_input` sorts before `_raw` and wins
            scale, offset = (_setting(folder, kind, name, what, default) for what, default in SETTINGS)
            channels[name] = Channel(point=point, path=path, factor=scale * unit, offset=offset)
    return channels


SETTINGS: Final = (("scale", 1.0), ("offset", 0.0))


def _setting(folder: Path, kind: str, name: str, what: str, default: float) -> float:
    """The channel's own scale or offset, else the one that all channels of its type share."""
    for candidate in (f"in_{name}_{what}", f"in_{kind}_{what}"):
        path = folder / candidate
        if path.exists():
            return float(path.read_text())
    return default


def hwmon_channels(folder: Path) -> dict[str, Channel]:
    """Channels of a hwmon device: temp1, in0, curr1, power1, humidity1, fan1."""
    channels: dict[str, Channel] = {}
    for path in sorted(folder.glob("*_input")):
        match = HWMON_FILE.fullmatch(path.name)
        if match is not None and match[1] in HWMON_TYPES:
            point, unit = HWMON_TYPES[match[1]]
            channels[f"{match[1]}{match[2]}"] = Channel(point=point, path=path, factor=unit)
    return channels


class Chip(Device):
    """One chip.  A channel that fails is bad; when none answers, the chip is unavailable."""

    def __init__(self, options: IioOptions | HwmonOptions) -> None:
        self._options = options
        self._channels: dict[str, Channel] = {}
        self._points: dict[str, Point] = {}
        self.bus = "sysfs"
        folders = self._folders()
        if len(folders) == 1:
            self.bus = bus_of(folders[0])
            try:
                self._take(folders[0])
            except (OSError, ValueError, DeviceMisconfigured):
                self._points = {}  # `open` says what is wrong

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        folders, options = self._folders(), self._options
        if not folders:
            there = ", ".join(sorted({name for name, _ in chips(options.root)})) or "none"
            where = f"{options.at and f' at {options.at}'} under {options.root}"
            raise DeviceUnavailable(
                f"no chip {options.chip!r}{where} (there: {there}); check its wiring, dtoverlay and name"
            )
        if len(folders) > 1:
            paths = ", ".join(str(folder.resolve()) for folder in folders)
            raise DeviceMisconfigured(
                f"{len(folders)} chips are called {options.chip!r} ({paths}); tell them apart by `at`"
            )
        try:
            self._take(folders[0])
        except DeviceMisconfigured:
            raise
        except (OSError, ValueError) as error:
            raise DeviceUnavailable(
                f"chip {options.chip!r} cannot be read ({error}); check its wiring"
            ) from error

    def _folders(self) -> list[Path]:
        options = self._options
        found = [folder for name, folder in chips(options.root) if name == options.chip]
        return [folder for folder in found if options.at in str(folder.resolve())]

    def _take(self, folder: Path) -> None:
        self._channels = self._choose(folder)
        self._points = {name: channel.point for name, channel in self._channels.items()}

    def _choose(self, folder: Path) -> dict[str, Channel]:
        scan = iio_channels if isinstance(self._options, IioOptions) else hwmon_channels
        found = scan(folder)
        missing = [name for name in self._options.channels if name not in found]
        if missing or not found:
            raise DeviceMisconfigured(
                f"chip {self._options.chip!r} has no channel {', '.join(missing) or 'that is known'}; "
                f"it has: {', '.join(found) or 'none'}"
            )
        return {name: found[name] for name in self._options.channels or list(found)[:CHANNELS_MAX]}

    def read(self) -> Sequence[Sample]:
        samples: list[Sample] = []
        failure: OSError | None = None
        for name, channel in self._channels.items():
            try:
                text = channel.path.read_bytes().decode("ascii", "replace").strip()
                value = (float(text) + channel.offset) * channel.factor
                samples.append(Sample(point=name, value=value))
            except OSError as error:
                failure = error
                samples.append(Sample(point=name, value=None, quality=Quality.BAD, reason="unavailable"))
            except ValueError:
                samples.append(Sample(point=name, value=None, quality=Quality.BAD, reason="text"))
        if failure is not None and all(sample.reason == "unavailable" for sample in samples):
            said = errno.errorcode.get(failure.errno or 0, "error")
            raise DeviceUnavailable(
                f"chip {self._options.chip!r} does not answer ({said}); check its wiring and power"
            ) from failure
        return samples


def chips(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of every chip, in the order of their folders' names."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            yield (folder / "name").read_text().strip(), folder
        except OSError:
            continue  # triggers and the like have no name; a chip may go while we look


def bus_of(folder: Path) -> str:
    """The I2C bus a chip hangs on, as "i2c-1", from its path; else "sysfs"."""
    buses = [part for part in folder.resolve().parts if I2C_BUS.fullmatch(part)]
    return buses[-1] if buses else "sysfs"


def make(options: Any, _clock: Clock) -> Device:
    return Chip(options)


IIO: Final = Driver(
    name="iio",
    summary="any sensor chip that the kernel serves under IIO (DHT22, BME280, ADS1115, ...), by its name",
    options=IioOptions,
    make=make,
)
HWMON: Final = Driver(
    name="hwmon",
    summary="any chip that the kernel serves under hwmon (SHT3x, INA219, fans, voltages), by its name",
    options=HwmonOptions,
    make=make,
)
