"""What the kernel already serves: 1-Wire thermometers, IIO and hwmon chips, and the board's GPIO.

Only reads.  A thermometer is read once, as the daemon would, so that a person can tell several by their warmth.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from drivers import boards, ds18b20, iio
from drivers.discovery.found import DEVICES, ROOT, Found, Look, Search

W1_FOLDER: Final = "sys/bus/w1/devices"
#: hwmon chips that another driver of ours serves as well: a second table would be the same sensor twice.
SERVED_ELSEWHERE: Final = frozenset({"w1_slave_temp", "iio_hwmon"})
NUMBERED: Final = re.compile(r"(iio:device|hwmon)\d*")
W1_OTHER: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{12}")


def search_w1(root: Path = ROOT, *, board: boards.Board, known: Collection[str] = ()) -> Search:
    """Thermometers on 1-Wire; those in `known` are not read."""
    folder = root / W1_FOLDER
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    masters = [name for name in names if name.startswith("w1_bus_master")]
    if not masters:
        path = board.config or boards.CONFIGS[0]
        todo = (
            f"add dtoverlay=w1-gpio to {path} (the data line on GPIO 4) and boot again" if board.is_pi else ""
        )
        return Search(looks=[Look(where=f"/{W1_FOLDER}", said="no 1-Wire bus", todo=todo)])
    probes = ds18b20.discover(folder)
    found = [_probe(folder / name, known) for name in probes]
    found += [
        Found(where=f"1-Wire {name}", what="no thermometer", evidence=f"family {name[:2]}")
        for name in names
        if W1_OTHER.fullmatch(name) and name not in probes
    ]
    todo = "" if found else "check the probe's plug and the 4.7 kΩ pull-up between data and 3.3 V"
    said = f"{_count(len(masters), 'bus', 'es')}, {_count(len(probes), 'thermometer')}"
    return Search(looks=[Look(where=f"/{W1_FOLDER}", said=said, todo=todo)], found=found)


def _probe(folder: Path, known: Collection[str]) -> Found:
    address = folder.name
    return Found(
        where=f"1-Wire {address}",
        what="DS18B20" if address.startswith("28") else "thermometer",
        sure=True,
        evidence="not read" if address in known else _warmth(folder),
        table=DEVICES,
        options={"driver": "ds18b20", "address": address},
        keys=(address,),
    )


def _warmth(folder: Path) -> str:
    try:
        return f"{int((folder / 'temperature').read_text()) / 1000:.1f} °C now"
    except (OSError, ValueError):
        return "it does not answer now: check its cable"


def search_chips(root: Path = ROOT) -> Search:
    """Chips under IIO and hwmon."""
    result = Search()
    result.add(
        _served(root, driver, folder, channels)
        for driver, folder, channels in (
            ("iio", "sys/bus/iio/devices", iio.iio_channels),
            ("hwmon", "sys/class/hwmon", iio.hwmon_channels),
        )
    )
    return result


def _served(
    root: Path, driver: str, folder: str, channels_of: Callable[[Path], dict[str, iio.Channel]]
) -> Search:
    there = [(name, path) for name, path in iio.chips(root / folder) if name not in SERVED_ELSEWHERE]
    twice = Counter(name for name, _ in there)
    found = [_chip(driver, name, path, twice[name] > 1, channels_of) for name, path in there]
    said = f"{_count(len(there), 'chip')}" if (root / folder).is_dir() else f"no {driver} here"
    return Search(looks=[Look(where=f"/{folder}", said=said)], found=found)


def _chip(
    driver: str, name: str, path: Path, twice: bool, channels_of: Callable[[Path], dict[str, iio.Channel]]
) -> Found:
    try:
        channels = ", ".join(channels_of(path))
    except (OSError, ValueError) as error:
        channels, note = "", f"it cannot be read ({error})"
    else:
        note = "" if channels else "it has no channel that driver iio or hwmon knows"
    at = {"at": _place(path)} if twice else {}
    return Found(
        where=f"{driver} {path.resolve()}",
        what=name,
        sure=True,
        evidence=channels,
        table=DEVICES if channels else "",
        options={"driver": driver, "chip": name, **at} if channels else {},
        note=note,
    )


def _place(path: Path) -> str:
    """The part of its path that tells it from another of the same name: "1-0076", else its own folder."""
    parts = [part for part in path.resolve().parts if not NUMBERED.fullmatch(part)]
    return parts[-1] if re.fullmatch(r"\d+-[0-9a-f]{4}", parts[-1]) else path.resolve().name


#: What can be read wherever tidewatt runs.
THIS_MACHINE: Final = Found(
    where="this machine",
    what="its processor, memory, disks and warmth",
    sure=True,
    table=DEVICES,
    options={"driver": "host"},
)


def search_board(root: Path = ROOT, *, board: boards.Board) -> Search:
    """Which board this is, its GPIO chip, and the pins that nothing else uses."""
    devices = root / "dev"
    chip = boards.find_chip(devices)
    looks = [Look(where="board", said=board.model or "no Raspberry Pi")]
    if chip is not None:
        free = sorted(pin for pin in board.header if not board.refuse(pin, "output"))
        pins = f"; free: GPIO {', '.join(map(str, free))}" if board.is_pi else ""
        said = f"{chip.label}, {chip.lines} lines{pins}"
        looks.append(Look(where=f"/dev/gpiochip{chip.number}", said=said))
    else:
        looks.append(_no_gpio(devices, board))
    looks += [
        Look(where=f"GPIO {pin}", said=f"carries {taken.carries} ({taken.line})")
        for pin, taken in sorted(board.taken.items())
    ]
    return Search(looks=looks)


def _no_gpio(devices: Path, board: boards.Board) -> Look:
    paths = sorted(devices.glob("gpiochip*"))
    locked = any(not os.access(path, os.R_OK | os.W_OK) for path in paths)
    todo = "put your user into the group gpio: sudo usermod -aG gpio $USER, and log in anew" if locked else ""
    if not paths and board.is_pi:
        todo = "the kernel shows no GPIO: update Raspberry Pi OS"
    return Look(where="/dev/gpiochip*", said="no GPIO of a Raspberry Pi", todo=todo)


def _count(number: int, what: str, ending: str = "s") -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else ending}"
