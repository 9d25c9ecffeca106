"""DS18B20 thermometers on 1-Wire, as the kernel's w1_therm serves them in sysfs.

Source: the kernel's ABI document sysfs-driver-w1_therm and the DS18B20 datasheet.  `temperature` is in
1/1000 °C; a read converts first (94 ms at 9 bits, 750 ms at 12) unless `therm_bulk_read` converted the whole
bus at once.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers.base import Clock, Device, DeviceMisconfigured, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Claim, Driver

ROOT: Final = Path("/sys/bus/w1/devices")
#: Family codes of the thermometers that w1_therm reads in the same way.
FAMILIES: Final = ("10", "22", "28", "3b", "42")
POWER_UP_MC: Final = 85_000  # the register after power-up: no conversion was made
POWER_UP_NEAR_MC: Final = 5_000  # so near to it before, 85 °C is believed
SENTINELS_MC: Final = frozenset({127_937, -127_000})  # too little power on the bus; a missing device
POINT: Final = Point(unit="°C", decimals=3, low=-55.0, high=125.0)
PROBES_MAX: Final = 64
CONVERSION_MAX_S: Final = 1.0
CONVERSION_LOOK_S: Final = 0.05

Address = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{2}-[0-9a-fA-F]{12}$")]
PointName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Ds18b20Options(BaseModel):
    """Options of `driver = "ds18b20"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Address | None = Field(
        None, description="the probe's address, such as 28-0123456789ab; its point is `temperature`"
    )
    probes: dict[PointName, Address] = Field(
        {},
        max_length=PROBES_MAX,
        description="instead of `address`: point = address of several probes that are converted at once",
    )
    resolution: int | None = Field(
        None, ge=9, le=12, description="bits: 9 (0.5 °C in 94 ms) to 12 (0.06 °C in 750 ms); absent: as it is"
    )
    root: Path = Field(ROOT, description="folder of the 1-Wire devices")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.address) == bool(self.probes):
            raise ValueError('name the probe by address = "28-…", or several by probes = { point = "28-…" }')
        return self


def probes_of(options: Ds18b20Options) -> dict[str, str]:
    """Point name to address, in lower case as the kernel writes it."""
    named = {"temperature": options.address} if options.address else options.probes
    return {name: address.lower() for name, address in named.items()}


def points_of(options: Ds18b20Options) -> Mapping[str, Point]:
    return dict.fromkeys(probes_of(options), POINT)


class Ds18b20(Device):
    """One probe, or several that are converted together.  One that fails is bad; the others go on."""

    bus = "w1"

    def __init__(self, options: Ds18b20Options) -> None:
        self._options = options
        self._folders = {name: options.root / address for name, address in probes_of(options).items()}
        self._points = points_of(options)
        self._last_mc: dict[str, int] = {}

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        self._last_mc.clear()
        bits, failures = self._options.resolution, list[DeviceUnavailable]()
        if bits is None:
            return
        for folder in self._folders.values():
            try:
                if folder.is_dir():
                    _set_resolution(folder, bits)
            except DeviceUnavailable as error:  # `read` tells which one; the others are read
                failures.append(error)
        if len(failures) == len(self._folders):
            raise failures[0]

    def read(self) -> Sequence[Sample]:
        if len(self._folders) > 1:
            self._convert_all()
        samples: list[Sample] = []
        failures: list[DeviceUnavailable] = []
        for name, folder in self._folders.items():
            try:
                samples.append(self._judge(name, _read(folder)))
            except DeviceUnavailable as error:
                failures.append(error)
                samples.append(Sample(point=name, value=None, quality=Quality.BAD, reason="unavailable"))
        if len(failures) == len(self._folders):
            raise failures[0]
        return samples

    def _judge(self, point: str, text: str) -> Sample:
        try:
            value_mc = int(text)
        except ValueError:
            reason = "text" if text else "no-value"
            return Sample(point=point, value=None, quality=Quality.BAD, reason=reason)
        last_mc = self._last_mc.get(point)
        power_up = value_mc == POWER_UP_MC and (last_mc is None or abs(last_mc - value_mc) > POWER_UP_NEAR_MC)
        if value_mc in SENTINELS_MC or power_up:
            return Sample(point=point, value=value_mc / 1000, quality=Quality.BAD, reason="sentinel")
        self._last_mc[point] = value_mc
        return Sample(point=point, value=value_mc / 1000)

    def _convert_all(self) -> None:
        """Start one conversion on every bus that has the kernel's bulk file; else each read converts."""
        ours = {folder.name for folder in self._folders.values()}
        for master in sorted(self._options.root.glob("w1_bus_master*")):
            trigger = master / "therm_bulk_read"
            try:
                there = {entry.name for entry in master.iterdir()}
                if not trigger.exists() or len(ours & there) < 2:
                    continue
                trigger.write_text("trigger\n")
                _wait_converted(trigger)
                _discard(master / name for name in sorted(there - ours) if is_probe(name))
            except OSError:
                continue  # not permitted, or gone: reading one by one is slower and as right


def _wait_converted(trigger: Path) -> None:
    """Until no probe converts any more; most kernels already wait inside the write."""
    pause = threading.Event()
    for _ in range(round(CONVERSION_MAX_S / CONVERSION_LOOK_S)):
        if trigger.read_text().strip() != "-1":
            return
        pause.wait(CONVERSION_LOOK_S)


def _discard(folders: Iterable[Path]) -> None:
    """Read the probes that are not ours: a later read of theirs would else get this conversion, grown old."""
    for folder in folders:
        try:
            (folder / "temperature").read_bytes()
        except OSError:
            continue


def _read(folder: Path) -> str:
    try:
        return (folder / "temperature").read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError as error:
        raise DeviceUnavailable(
            f"no probe {folder.name} under {folder.parent}; check its plug, `dtoverlay=w1-gpio`, the address"
        ) from error
    except OSError as error:
        said = errno.errorcode.get(error.errno or 0, "error")
        raise DeviceUnavailable(
            f"probe {folder.name} does not answer ({said}); check its cable and the 4.7 kΩ pull-up"
        ) from error


def _set_resolution(folder: Path, bits: int) -> None:
    """The setting lives in the probe's RAM and is gone after a power loss, so each `open` makes it again."""
    path = folder / "resolution"
    try:
        if path.read_text().strip() == str(bits):
            return
        path.write_text(f"{bits}\n")
        now = path.read_text().strip()
    except (FileNotFoundError, PermissionError) as error:
        raise DeviceMisconfigured(
            f"cannot set the resolution of {folder.name} ({error.strerror}); leave `resolution` out, or "
            f"allow writing {path}"
        ) from error
    except OSError as error:
        late = error.errno == errno.EROFS
        hint = "its bus came up after the daemon, restart the daemon" if late else "check its cable"
        raise DeviceUnavailable(f"probe {folder.name} does not take a resolution; {hint}") from error
    if now != str(bits):
        raise DeviceMisconfigured(
            f"probe {folder.name} stays at {now} bits (some copies are fixed at 12); set resolution = {now}"
        )


def is_probe(name: str) -> bool:
    """Whether a folder's name is a thermometer's address."""
    family, dash, rest = name.partition("-")
    return bool(dash) and family.lower() in FAMILIES and len(rest) == 12


def discover(root: Path = ROOT) -> list[str]:
    """Addresses of the thermometers on the 1-Wire buses, sorted."""
    return sorted(entry.name for entry in root.iterdir() if is_probe(entry.name)) if root.is_dir() else []


def make(options: Any, _clock: Clock) -> Device:
    return Ds18b20(options)


def claims(options: Ds18b20Options) -> list[Claim]:
    """A probe is one device's: a second one would take it for another in the same water."""
    return [Claim(what=f"probe {address}") for address in probes_of(options).values()]


DRIVER: Final = Driver(
    name="ds18b20",
    summary="DS18B20 thermometers on 1-Wire (and DS18S20, DS1822, DS1825, DS28EA00)",
    options=Ds18b20Options,
    make=make,
    points=points_of,
    claims=claims,
)
