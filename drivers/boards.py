"""What this Raspberry Pi's header can do, and what its boot configuration has given to something else.

Read from /proc/device-tree, /boot/firmware/config.txt and /sys; nothing is opened or claimed.  Sources: the
Raspberry Pi documentation of config.txt, its overlays' README, the BCM2711 and RP1 peripheral manuals.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from drivers import bootconfig
from drivers.bootconfig import RP1_GENERATION, Taken

ROOT: Final = Path("/")
MODEL: Final = "proc/device-tree/model"
REVISION: Final = "proc/device-tree/system/linux,revision"
CONFIGS: Final = ("boot/firmware/config.txt", "boot/config.txt")
KEPT: Final = (
    "sys/module/pinctrl_rp1/parameters/persist_gpio_outputs",
    "sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs",
)
CONFIG_BYTES_MAX: Final = 1_000_000

HEADER: Final = frozenset(range(28))
#: The 26-pin header of the first boards, revision 2.
HEADER_26: Final = frozenset({2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 17, 18, 22, 23, 24, 25, 27})
EEPROM_PINS: Final = frozenset({0, 1})
PULLED_UP_BY_BOARD: Final = frozenset({2, 3})  # 1.8 kΩ, for I2C
PULLED_UP_AT_RESET: Final = frozenset(range(9))
#: GPIO to channel of the PWM that the header has; on a Pi 0-4 two pins share each channel.
PWM_OLD: Final[Mapping[int, int]] = {12: 0, 13: 1, 18: 0, 19: 1}
PWM_RP1: Final[Mapping[int, int]] = {12: 0, 13: 1, 18: 2, 19: 3}
PWM_FUNC: Final[Mapping[int, int]] = {12: 4, 13: 4, 18: 2, 19: 2}

#: Labels of the GPIO chips that carry a header, and a revision code for rpi-lgpio where the tree has none.
REVISION_OF_LABEL: Final[Mapping[str, str]] = {
    "pinctrl-rp1": "d04170",
    "pinctrl-bcm2711": "c03114",
    "pinctrl-bcm2835": "a02082",
}
GPIO_GET_CHIPINFO_IOCTL: Final = 0x8044B401
CHIPINFO: Final = struct.Struct("32s32sI")
CHIPS_MAX: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A GPIO chip as /dev has it."""

    number: int
    label: str
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One board as it was booted.

    model         "Raspberry Pi 4 Model B Rev 1.4"; "" where this is no Pi
    generation    0-5, None where unknown
    header        the GPIOs that can be wired
    taken         GPIO to what else uses it
    boot_levels   GPIO to its level (True is high) from power-up until somebody claims it, where config.txt says
    config        the config.txt that was read, None where there is none
    keeps_levels  whether a released line keeps its last level (persist_gpio_outputs); None: the kernel has no say
    """

    model: str = ""
    generation: int | None = None
    header: frozenset[int] = HEADER
    taken: Mapping[int, Taken] = field(default_factory=dict)
    boot_levels: Mapping[int, bool] = field(default_factory=dict)
    config: Path | None = None
    keeps_levels: bool | None = None

    @property
    def is_pi(self) -> bool:
        return self.model != ""

    @property
    def pwm_channels(self) -> Mapping[int, int]:
        """GPIO to the channel of the kernel's PWM."""
        return PWM_RP1 if self.generation == RP1_GENERATION else PWM_OLD

    def refuse(self, pin: int, use: str) -> str:
        """Why this pin cannot be used as "output", "input" or "pwm", and what to do; "" when it can."""
        if pin not in self.header:
            board = self.model or "a Raspberry Pi"
            return (
                f"GPIO {pin} is not on the header of {board}; use one of {_ranges(self.header - EEPROM_PINS)}"
            )
        if use == "pwm":
            return self._refuse_pwm(pin)
        if pin in EEPROM_PINS:
            return (
                f"GPIO {pin} is reserved for a HAT's EEPROM; use one of {_ranges(self.header - EEPROM_PINS)}"
            )
        taken = self.taken.get(pin)
        if taken is None:
            return ""
        return f"GPIO {pin} carries {taken.carries} on this Pi ({taken.line}); use another pin"

    def _refuse_pwm(self, pin: int) -> str:
        if pin not in self.pwm_channels:
            able = ", ".join(str(able) for able in sorted(self.pwm_channels))
            return f"GPIO {pin} has no hardware PWM; use one of {able}, or a PCA9685"
        taken = self.taken.get(pin)
        if taken is not None and taken.carries != "PWM":
            return f"GPIO {pin} carries {taken.carries} on this Pi ({taken.line}); use another pin"
        if taken is None and self.config is not None and self.is_pi:
            return (
                f"GPIO {pin} is not switched to PWM; add dtoverlay=pwm,pin={pin},func={PWM_FUNC[pin]} to "
                f"{self.config} and boot again (pwm-2chan for two pins)"
            )
        return ""

    def refuse_hold(self) -> str:
        """Why letting a line go would not make it safe on this board, and what to do; "" when it would."""
        if self.keeps_levels:
            path = self.config or CONFIGS[0]
            return (
                "a dead process leaves its lines as they are on this Pi (persist_gpio_outputs is Y); add "
                f"dtparam=strict_gpiod to {path} and boot again"
            )
        return ""

    def boot_level(self, pin: int) -> bool:
        """The level (True is high) that the pin has from power-up until it is claimed."""
        if pin in self.boot_levels:
            return self.boot_levels[pin]
        return pin in PULLED_UP_AT_RESET

    def advise_safe_level(self, pin: int, high: bool) -> str:
        """What stands between this pin and a safe level that is there with nobody driving it; "" if nothing."""
        if pin in PULLED_UP_BY_BOARD and not high:
            return (
                f"GPIO {pin} has a fixed 1.8 kΩ pull-up on the board and is high whenever it is let go, but low "
                "is safe here; use another pin"
            )
        if self.boot_level(pin) == high:
            return ""
        word, code = ("high", "pu") if high else ("low", "pd")
        better = _ranges(self.header & (PULLED_UP_AT_RESET if high else HEADER - PULLED_UP_AT_RESET) - {0, 1})
        return (
            f"GPIO {pin} is {'low' if high else 'high'} from power-up until the daemon claims it, but {word} is "
            f"safe here; add gpio={pin}={code} to config.txt, or use one of {better}"
        )


def read(root: Path = ROOT) -> Board:
    """The board as `root`'s /proc, /boot and /sys describe it; never raises."""
    model = _text(root / MODEL).replace("\0", "").strip()
    model = model if "raspberry pi" in model.lower() else ""
    generation = generation_of(model)
    config = next((root / name for name in CONFIGS if (root / name).is_file()), None)
    settings = list(bootconfig.active(_text(config), model)) if config else []
    taken, boot_levels = bootconfig.pins(settings, generation)
    return Board(
        model=model,
        generation=generation,
        header=_header(model),
        taken=MappingProxyType(taken),
        boot_levels=MappingProxyType(boot_levels),
        config=config,
        keeps_levels=keeps_levels(root),
    )


@functools.cache
def here() -> Board:
    """This machine, read once: all of it changes only by a boot."""
    return read()


def refuse(pin: int, use: str) -> str:
    """`Board.refuse` of this machine."""
    return here().refuse(pin, use)


def keeps_levels(root: Path = ROOT) -> bool | None:
    """Whether a line keeps its last level when its process lets it go or dies.

    Stock Pi OS kernels do (raspberrypi/linux #6117, #6150) unless booted with dtparam=strict_gpiod.  None: this
    kernel has no such parameter.
    """
    for name in KEPT:
        said = _text(root / name).strip().upper()
        if said:
            return said in ("Y", "1")
    return None


def generation_of(model: str) -> int | None:
    """0 for a Zero, else the number of the Pi whose processor it has; None for what is unknown."""
    name = model.lower()
    for pattern, generation in (
        (r"pi (5|500)\b|compute module 5", 5),
        (r"pi (4|400)\b|compute module 4", 4),
        (r"pi 3\b|zero 2|compute module 3", 3),
        (r"pi 2\b", 2),
        (r"zero", 0),
        (r"pi (model|compute)", 1),
    ):
        if re.search(pattern, name):
            return generation
    return None


def has_revision(root: Path = ROOT) -> bool:
    """Whether the device tree says which board this is, as rpi-lgpio wants to know."""
    return (root / REVISION).exists()


def find_chip(folder: Path = Path("/dev")) -> Chip | None:
    """The GPIO chip that carries the header, by its label: its number differs by kernel (Pi 5: 4, later 0)."""
    found = (_chip(folder / f"gpiochip{number}", number) for number in range(CHIPS_MAX))
    chips = [chip for chip in found if chip is not None and chip.label in REVISION_OF_LABEL]
    return max(chips, key=lambda chip: chip.lines, default=None)


def _chip(path: Path, number: int) -> Chip | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(descriptor, GPIO_GET_CHIPINFO_IOCTL, bytes(CHIPINFO.size))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    _, label, lines = CHIPINFO.unpack(answer)
    return Chip(number=number, label=label.rstrip(b"\0").decode("ascii", "replace"), lines=lines)


def _header(model: str) -> frozenset[int]:
    first = re.search(r"pi model [ab](?! plus)\b", model.lower())
    return HEADER_26 if first else HEADER


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(CONFIG_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""


def _ranges(pins: frozenset[int]) -> str:
    """`2-4, 7` for people."""
    words: list[str] = []
    for pin in sorted(pins):
        if pin - 1 in pins and words:
            words[-1] = f"{words[-1].partition('-')[0]}-{pin}"
        else:
            words.append(str(pin))
    return ", ".join(words)
