"""What config.txt of a Raspberry Pi gives away of the header, and the levels that it sets at boot.

Sources: the Raspberry Pi documentation of config.txt and its filters, the README of the kernel's overlays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: Generation of the boards whose header hangs on the RP1.
RP1_GENERATION: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a pin carries, and the line of config.txt that gave it away."""

    carries: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    key: str
    value: str

    @property
    def line(self) -> str:
        return f"{self.key}={self.value}"


#: Section names of config.txt, and what of the model they ask for.  Others ([EDID=…], [0x…]) are taken as not met.
SECTIONS: Final[Mapping[str, str]] = {
    "pi0": r"zero(?! 2)",
    "pi0w": r"zero w",
    "pi02": r"zero 2",
    "pi1": r"pi (model|compute)",
    "pi2": r"pi 2\b",
    "pi3": r"pi 3\b|zero 2|compute module 3",
    "pi3+": r"pi 3 model . plus",
    "pi4": r"pi (4|400)\b|compute module 4",
    "pi400": r"pi 400",
    "cm4": r"compute module 4",
    "pi5": r"pi (5|500)\b|compute module 5",
    "pi500": r"pi 500",
    "cm5": r"compute module 5",
}


def active(text: str, model: str) -> Iterator[Setting]:
    """The settings of a config.txt that hold for this model, in order."""
    holds = True
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip().lower()
            pattern = SECTIONS.get(section)
            holds = section == "all" or (pattern is not None and bool(re.search(pattern, model.lower())))
            continue
        key, equals, value = line.partition("=")
        if holds and equals:
            yield Setting(key=key.strip().lower(), value=value.strip())


#: Base parameters (dtparam=NAME=on): what the pins carry, and which they are.
PARAMETERS: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "i2c": ("I2C", (2, 3)),
    "i2c_arm": ("I2C", (2, 3)),
    "i2c1": ("I2C", (2, 3)),
    "i2c_vc": ("I2C", (0, 1)),
    "i2c0": ("I2C", (0, 1)),
    "spi": ("SPI", (7, 8, 9, 10, 11)),
    "i2s": ("I2S sound", (18, 19, 20, 21)),
    "uart0": ("the serial port", (14, 15)),
    "uart0_console": ("the serial console", (14, 15)),
}
#: Overlays: what they carry, their fixed pins, and the parameters that name a pin with their defaults.
OVERLAYS: Final[Mapping[str, tuple[str, tuple[int, ...], Mapping[str, int]]]] = {
    "w1-gpio": ("1-Wire", (), {"gpiopin": 4}),
    "w1-gpio-pullup": ("1-Wire", (), {"gpiopin": 4, "extpullup": 5}),
    "pwm": ("PWM", (), {"pin": 18}),
    "pwm-2chan": ("PWM", (), {"pin": 18, "pin2": 19}),
    "dht11": ("a DHT sensor", (), {"gpiopin": 4}),
    "gpio-ir": ("an infrared receiver", (), {"gpio_pin": 18}),
    "gpio-ir-tx": ("an infrared sender", (), {"gpio_pin": 18}),
    "gpio-fan": ("the fan", (), {"gpiopin": 12}),
    "gpio-shutdown": ("the shutdown button", (), {"gpio_pin": 3}),
    "gpio-poweroff": ("the power-off signal", (), {"gpiopin": 26}),
    "gpio-key": ("a key", (), {"gpio": -1}),
    "gpio-led": ("an LED", (), {"gpio": -1}),
    "pps-gpio": ("a PPS signal", (), {"gpiopin": 18}),
    "i2c-gpio": ("I2C", (), {"i2c_gpio_sda": 23, "i2c_gpio_scl": 24}),
    "uart0": ("a serial port", (), {"txd0_pin": 14, "rxd0_pin": 15}),
    "uart1": ("a serial port", (), {"txd1_pin": 14, "rxd1_pin": 15}),
    "uart2": ("a serial port", (0, 1), {}),
    "uart3": ("a serial port", (4, 5), {}),
    "uart4": ("a serial port", (8, 9), {}),
    "uart5": ("a serial port", (12, 13), {}),
    "uart0-pi5": ("a serial port", (14, 15), {}),
    "uart1-pi5": ("a serial port", (0, 1), {}),
    "uart2-pi5": ("a serial port", (4, 5), {}),
    "uart3-pi5": ("a serial port", (8, 9), {}),
    "uart4-pi5": ("a serial port", (12, 13), {}),
    "spi0-0cs": ("SPI", (9, 10, 11), {}),
    "spi0-1cs": ("SPI", (9, 10, 11), {"cs0_pin": 8}),
    "spi0-2cs": ("SPI", (9, 10, 11), {"cs0_pin": 8, "cs1_pin": 7}),
    "spi1-1cs": ("SPI", (19, 20, 21), {"cs0_pin": 18}),
    "spi1-2cs": ("SPI", (19, 20, 21), {"cs0_pin": 18, "cs1_pin": 17}),
    "spi1-3cs": ("SPI", (19, 20, 21), {"cs0_pin": 18, "cs1_pin": 17, "cs2_pin": 16}),
    "mcp2515-can0": ("a CAN controller", (8, 9, 10, 11), {"interrupt": 25}),
    "mcp2515-can1": ("a CAN controller", (7, 9, 10, 11), {"interrupt": 25}),
    "audremap": ("sound", (18, 19), {}),
    "sdio": ("a second SD card", (22, 23, 24, 25, 26, 27), {}),
}
#: I2C overlays of the Pi 4 and 5: their pins unless a parameter pins_A_B says otherwise.
I2C_OVERLAYS: Final[Mapping[str, tuple[int, int]]] = {
    "i2c0": (0, 1),
    "i2c1": (2, 3),
    "i2c3": (4, 5),
    "i2c4": (8, 9),
    "i2c5": (12, 13),
    "i2c6": (22, 23),
    "i2c0-pi5": (0, 1),
    "i2c1-pi5": (2, 3),
    "i2c2-pi5": (4, 5),
    "i2c3-pi5": (6, 7),
}
SOUND_CARDS: Final = (
    "hifiberry",
    "iqaudio",
    "justboom",
    "allo-",
    "i2s-",
    "audioinjector",
    "rpi-dac",
    "max98357a",
)
PINS_PARAMETER: Final = re.compile(r"pins_(\d+)_(\d+)")
OFF: Final = frozenset({"off", "0", "no", "false", "n"})


def pins(settings: Sequence[Setting], generation: int | None) -> tuple[dict[int, Taken], dict[int, bool]]:
    """What the settings give away, and the levels they set at boot."""
    taken: dict[int, Taken] = {}
    levels: dict[int, bool] = {}
    overlay = ""
    for setting in settings:
        if setting.key == "dtoverlay":
            overlay = setting.value
            _take(taken, setting.line, *_overlay(setting.value))
        elif setting.key == "dtparam":
            overlay = _parameter(taken, setting, overlay)
        elif setting.key == "enable_uart" and setting.value == "1" and generation != RP1_GENERATION:
            _take(taken, setting.line, "the serial port", (14, 15))
        elif setting.key == "gpio":
            levels.update(_boot_levels(setting.value))
    return taken, levels


def _parameter(taken: dict[int, Taken], setting: Setting, overlay: str) -> str:
    """A dtparam line is about the base tree, or goes on with the overlay before it; gives that overlay's text."""
    for name, value in _split(setting.value).items():
        carries, pins = PARAMETERS.get(name, ("", ()))
        if pins and value in OFF:
            for pin in [pin for pin in pins if pin in taken and taken[pin].carries == carries]:
                del taken[pin]
        elif pins:
            _take(taken, f"dtparam={name}={value}" if value else f"dtparam={name}", carries, pins)
        elif overlay:
            line = f"dtoverlay={overlay}"
            for pin in [pin for pin, what in taken.items() if what.line == line]:
                del taken[pin]
            overlay = f"{overlay},{name}={value}"
            _take(taken, f"dtoverlay={overlay}", *_overlay(overlay))
    return overlay


def _overlay(text: str) -> tuple[str, tuple[int, ...]]:
    """What an overlay carries, and on which pins; "" and none for one that is not known to need any."""
    name, _, rest = text.partition(",")
    name, parameters = name.strip(), _split(rest)
    if name in I2C_OVERLAYS:
        asked = (PINS_PARAMETER.fullmatch(key) for key in parameters)
        chosen = next(((int(match[1]), int(match[2])) for match in asked if match), I2C_OVERLAYS[name])
        return "I2C", chosen
    if name.startswith(SOUND_CARDS):
        return "I2S sound", (18, 19, 20, 21)
    carries, fixed, named = OVERLAYS.get(name, ("", (), {}))
    if name == "audremap" and "pins_12_13" in parameters:
        return carries, (12, 13)
    pins = [_number(parameters.get(key, ""), default) for key, default in named.items()]
    return carries, (*fixed, *(pin for pin in pins if pin >= 0))


def _take(taken: dict[int, Taken], line: str, carries: str, pins: Sequence[int]) -> None:
    for pin in pins:
        taken[pin] = Taken(carries=carries, line=line)


def _boot_levels(value: str) -> dict[int, bool]:
    """`gpio=17,22-24=op,dh`: pins to their level, where the line sets one."""
    pins, _, words = value.partition("=")
    said = {word.strip().lower() for word in words.split(",")}
    high, low = bool(said & {"dh", "pu"}), bool(said & {"dl", "pd"})
    if "op" in said:
        high, low = "dh" in said, "dl" in said
    if high == low:
        return {}
    levels: dict[int, bool] = {}
    for part in pins.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match:
            first = int(match[1])
            levels.update(dict.fromkeys(range(first, min(int(match[2] or first), 63) + 1), high))
    return levels


def _split(text: str) -> dict[str, str]:
    """`a=1,b` as a dictionary."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _number(text: str, default: int) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return default
