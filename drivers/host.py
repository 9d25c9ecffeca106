"""This machine's own sensors, from /proc and /sys: which points there are depends on what the machine has.

Source: the kernel's documents on /proc, sysfs-block and sysfs-class-thermal; the Pi firmware's get_throttled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from drivers.base import Clock, Device, Point, Quality, Sample
from drivers.catalog import Driver

SECTOR_BYTES: Final = 512  # /sys/block counts in these, whatever the disk's own sectors are
THROTTLED: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
THROTTLED_BITS: Final = {"under_voltage": 0, "throttled": 2, "under_voltage_since_boot": 16}
CPU_ZONES: Final = ("cpu-thermal", "cpu_thermal", "x86_pkg_temp", "soc-thermal", "acpitz")
CPU_CHIPS: Final = ("coretemp", "k10temp", "cpu_thermal")
WEAR_PERCENT_PER_STEP: Final = 10.0  # eMMC life_time: 1 is up to 10 % used, 11 is beyond its life


class HostOptions(BaseModel):
    """Options of `driver = "host"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Path = Field(Path("/"), description="where /proc and /sys are found")
    disk: Path = Field(Path("/"), description="a path on the file system whose use is shown")


@dataclass(frozen=True, slots=True)
class _Gauge:
    point: Point
    read: Callable[[], float | None]


class Host(Device):
    """The machine itself.  A value that cannot be read now is bad for this time; the others go on."""

    bus = "host"

    def __init__(self, options: HostOptions, clock: Clock) -> None:
        self._root = options.root
        self._disk = options.disk
        self._clock = clock
        self._rates: dict[str, tuple[float, float]] = {}
        self._busy: tuple[float, float] | None = None
        self._gauges = self._find()
        self._points = {name: gauge.point for name, gauge in self._gauges.items()}

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        self._rates.clear()
        self._busy = None
        self._gauges = self._find()
        self._points = {name: gauge.point for name, gauge in self._gauges.items()}

    def read(self) -> Sequence[Sample]:
        samples: list[Sample] = []
        for name, gauge in self._gauges.items():
            try:
                value = gauge.read()
            except (OSError, ValueError, IndexError, KeyError) as error:
                reason = "unavailable" if isinstance(error, OSError) else "text"
                samples.append(Sample(point=name, value=None, quality=Quality.BAD, reason=reason))
                continue
            if value is not None:  # a rate has nothing to say at its first read
                samples.append(Sample(point=name, value=value))
        return samples

    def _find(self) -> dict[str, _Gauge]:
        gauges = self._find_cpu() | self._find_memory() | self._find_disk() | self._find_network()
        return gauges | self._find_board()

    def _text(self, path: str) -> str:
        return (self._root / path).read_text()

    def _find_cpu(self) -> dict[str, _Gauge]:
        gauges: dict[str, _Gauge] = {}
        heat = find_cpu_temperature(self._root)
        if heat is not None:
            point = Point(unit="°C", decimals=1, low=-40.0, high=150.0)
            gauges["cpu_temperature"] = _Gauge(point, lambda: int(heat.read_text()) / 1000)
        if (self._root / "proc/stat").exists():
            gauges["cpu_used"] = _Gauge(Point(unit="%", decimals=1, low=0.0, high=100.0), self._cpu_used)
        if (self._root / "proc/loadavg").exists():
            point = Point(unit="", decimals=2, low=0.0)
            gauges["load"] = _Gauge(point, lambda: float(self._text("proc/loadavg").split()[0]))
        if (self._root / "proc/uptime").exists():
            point = Point(unit="s", decimals=0, low=0.0)
            gauges["uptime"] = _Gauge(point, lambda: float(self._text("proc/uptime").split()[0]))
        return gauges

    def _cpu_used(self) -> float | None:
        """Share of all cores' time that was not idle since the last read."""
        fields = [int(word) for word in self._text("proc/stat").splitlines()[0].split()[1:9]]
        total, idle = float(sum(fields)), float(fields[3] + fields[4])
        before, self._busy = self._busy, (total, idle)
        if before is None or total <= before[0]:
            return None
        return min(100.0, max(0.0, 100.0 * (1.0 - (idle - before[1]) / (total - before[0]))))

    def _find_memory(self) -> dict[str, _Gauge]:
        if not (self._root / "proc/meminfo").exists():
            return {}
        return {"memory_used": _Gauge(Point(unit="%", decimals=1, low=0.0, high=100.0), self._memory_used)}

    def _memory_used(self) -> float:
        lines = (line.split(":") for line in self._text("proc/meminfo").splitlines() if ":" in line)
        kb = {name: int(rest.split()[0]) for name, rest in lines}
        return 100.0 * (1.0 - kb["MemAvailable"] / kb["MemTotal"])

    def _find_disk(self) -> dict[str, _Gauge]:
        gauges: dict[str, _Gauge] = {}
        if self._disk.exists():
            gauges["disk_used"] = _Gauge(Point(unit="%", decimals=1, low=0.0, high=100.0), self._disk_used)
        disks = find_disks(self._root)
        if disks:
            point = Point(unit="MB", decimals=3, low=0.0)
            gauges["disk_written"] = _Gauge(point, lambda: sum(map(written_bytes, disks)) / 1e6)
        return gauges

    def _disk_used(self) -> float:
        """As `df` counts: of what is not reserved for root."""
        info = os.statvfs(self._disk)
        used = info.f_blocks - info.f_bfree
        return 100.0 * used / max(1, used + info.f_bavail)

    def _find_network(self) -> dict[str, _Gauge]:
        if not find_interfaces(self._root):
            return {}
        point = Point(unit="B/s", decimals=0, low=0.0)
        return {
            "network_rx": _Gauge(point, lambda: self._rate("rx", self._network_bytes(0))),
            "network_tx": _Gauge(point, lambda: self._rate("tx", self._network_bytes(8))),
        }

    def _network_bytes(self, column: int) -> float:
        counters = network_counters(self._root)
        return float(sum(int(counters[name][column]) for name in find_interfaces(self._root)))

    def _rate(self, name: str, total: float) -> float | None:
        """Growth a second since the last read; nothing at the first, and after a counter was reset."""
        now_s = self._clock.monotonic_s()
        before = self._rates.get(name)
        self._rates[name] = (now_s, total)
        if before is None or now_s <= before[0] or total < before[1]:
            return None
        return (total - before[1]) / (now_s - before[0])

    def _find_board(self) -> dict[str, _Gauge]:
        gauges: dict[str, _Gauge] = {}
        if (self._root / THROTTLED).exists():
            for name, bit in THROTTLED_BITS.items():
                gauges[name] = _Gauge(Point(unit="", decimals=0, low=0.0, high=1.0), self._throttled(bit))
        cards = sorted((self._root / "sys/block").glob("mmcblk*/device/life_time"))
        if cards:
            point = Point(unit="%", decimals=0, low=0.0, high=110.0)
            gauges["card_wear"] = _Gauge(point, lambda: card_wear_percent(cards[0].read_text()))
        return gauges

    def _throttled(self, bit: int) -> Callable[[], float]:
        return lambda: float(int(self._text(THROTTLED), 16) >> bit & 1)


def find_cpu_temperature(root: Path) -> Path | None:
    """The file with the processor's temperature in millidegrees: by the zone's type, else the chip's name."""
    zones: dict[str, Path] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if (zone / "temp").exists() and (zone / "type").exists():
            zones.setdefault((zone / "type").read_text().strip(), zone / "temp")
    for kind in CPU_ZONES:
        if kind in zones:
            return zones[kind]
    for name in sorted((root / "sys/class/hwmon").glob("hwmon*/name")):
        if name.read_text().strip() in CPU_CHIPS and (name.parent / "temp1_input").exists():
            return name.parent / "temp1_input"
    return next(iter(zones.values()), None)


def find_disks(root: Path) -> list[Path]:
    """`stat` files of the real disks: those that hang on hardware, so no loop, zram or device mapper."""
    blocks = sorted((root / "sys/block").glob("*"))
    return [block / "stat" for block in blocks if (block / "device").exists() and (block / "stat").exists()]


def written_bytes(stat: Path) -> int:
    """Bytes written to a disk since boot."""
    return int(stat.read_text().split()[6]) * SECTOR_BYTES


def network_counters(root: Path) -> dict[str, list[str]]:
    """Interface name to the 16 columns of /proc/net/dev: bytes received first, bytes sent ninth."""
    path = root / "proc/net/dev"
    if not path.exists():
        return {}
    rows = (line.partition(":") for line in path.read_text().splitlines() if ":" in line)
    return {name.strip(): rest.split() for name, _, rest in rows}


def find_interfaces(root: Path) -> list[str]:
    """Interfaces that hang on hardware; where none does, all but the loopback."""
    names = [name for name in network_counters(root) if name != "lo"]
    real = [name for name in names if (root / "sys/class/net" / name / "device").exists()]
    return real or names


def card_wear_percent(text: str) -> float:
    """eMMC's DEVICE_LIFE_TIME_EST, the worse of its two kinds of memory; 0 where the card does not say."""
    return max(int(word, 16) for word in text.split()) * WEAR_PERCENT_PER_STEP


def make(options: Any, clock: Clock) -> Device:
    return Host(options, clock)


DRIVER: Final = Driver(
    name="host",
    summary="this machine: CPU temperature and use, load, memory, disk, network, throttling, card wear",
    options=HostOptions,
    make=make,
)
