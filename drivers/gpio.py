"""GPIO lines of a Raspberry Pi by rpi-lgpio, behind the five calls that relays and digital inputs need.

Levels here are the line's own: True is high.  The library is imported at the first use; it is an extra.

rpi-lgpio's own `setup(pin, OUT, initial=…)` sets the level as it claims the line, but switches the line's pull
*off* (its `lgpio.SET_PULL_NONE`); a process that dies would then leave the line floating.  So outputs are
claimed by the same call underneath, `lgpio.gpio_claim_output`, with the pull, and freed without `cleanup`,
which would float the line too.  Everything else is RPi.GPIO as documented.
"""

from __future__ import annotations

import enum
import functools
import importlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from drivers import boards
from drivers.base import DeviceMisconfigured, DeviceUnavailable

#: The bus of every line of the board: lines share one thread.
BUS: Final = "gpio"
DEBOUNCE_MAX_MS: Final = 5000  # lgpio takes no longer one


class Pull(enum.StrEnum):
    """What holds a line that nobody drives.  EXTERNAL: a resistor of the board; the Pi's own is off."""

    UP = "up"
    DOWN = "down"
    EXTERNAL = "external"


class Lines(Protocol):
    """The lines of one board.  Every call raises DeviceUnavailable or DeviceMisconfigured."""

    def claim_output(self, pin: int, level: bool, pull: Pull) -> None:
        """Drive the line at `level` from the moment it is ours; one that is ours already is only set."""

    def claim_input(self, pin: int, pull: Pull, debounce_ms: int, changed: Callable[[bool], None]) -> None:
        """Listen.  `changed(level)` is called on the library's thread at each edge, after the debounce."""

    def set(self, pin: int, level: bool) -> None:
        """Drive a line that was claimed as output."""

    def get(self, pin: int) -> bool:
        """The level on a claimed line."""

    def free(self, pin: int) -> None:
        """Let go; from now on the pull decides.  Never raises."""


@functools.cache
def lines() -> Lines:
    """The board's lines; nothing is imported or opened before the first call of theirs."""
    return RpiLines()


class RpiLines:
    """Lines by rpi-lgpio.  The chip is opened once and stays open for the life of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._libraries: tuple[Any, Any] | None = None
        self._outputs: set[int] = set()
        self._inputs: set[int] = set()

    def claim_output(self, pin: int, level: bool, pull: Pull) -> None:
        gpio, lgpio = self._open()
        if pin in self._outputs:
            self.set(pin, level)
            return
        self._drop_input(pin)
        bias = {
            Pull.UP: lgpio.SET_PULL_UP,
            Pull.DOWN: lgpio.SET_PULL_DOWN,
            Pull.EXTERNAL: lgpio.SET_PULL_NONE,
        }[pull]
        with self._errors(pin):
            lgpio.gpio_claim_output(_chip_of(gpio), pin, int(level), bias)
        self._outputs.add(pin)

    def claim_input(self, pin: int, pull: Pull, debounce_ms: int, changed: Callable[[bool], None]) -> None:
        gpio, _ = self._open()
        self.free(pin)
        bias = {Pull.UP: gpio.PUD_UP, Pull.DOWN: gpio.PUD_DOWN, Pull.EXTERNAL: gpio.PUD_OFF}[pull]
        with self._errors(pin):
            gpio.setup(pin, gpio.IN, pull_up_down=bias)
            self._inputs.add(pin)
            gpio.add_event_detect(
                pin,
                gpio.BOTH,
                callback=lambda _pin: changed(bool(gpio.input(pin))),
                bouncetime=debounce_ms or None,
            )

    def set(self, pin: int, level: bool) -> None:
        gpio, _ = self._open()
        with self._errors(pin):
            gpio.output(pin, int(level))

    def get(self, pin: int) -> bool:
        gpio, _ = self._open()
        with self._errors(pin):
            return bool(gpio.input(pin))

    def free(self, pin: int) -> None:
        if self._libraries is None:
            return
        gpio, lgpio = self._libraries
        self._drop_input(pin)
        if pin in self._outputs:
            self._outputs.discard(pin)
            try:
                lgpio.gpio_free(_chip_of(gpio), pin)
            except (lgpio.error, DeviceMisconfigured):
                return  # it was not ours any more

    def _drop_input(self, pin: int) -> None:
        if pin not in self._inputs or self._libraries is None:
            return
        gpio, lgpio = self._libraries
        self._inputs.discard(pin)
        try:
            gpio.remove_event_detect(pin)
            lgpio.gpio_free(_chip_of(gpio), pin)
        except (lgpio.error, RuntimeError, DeviceMisconfigured):
            return

    def _open(self) -> tuple[Any, Any]:
        with self._lock:
            if self._libraries is None:
                self._libraries = _import()
            gpio, lgpio = self._libraries
            if gpio.getmode() != gpio.BCM:
                try:
                    gpio.setmode(gpio.BCM)
                except (lgpio.error, RuntimeError, ValueError) as error:
                    raise DeviceUnavailable(
                        f"the board's GPIO cannot be opened ({_text(error)}); put the daemon's user into the "
                        "group gpio, and see that /dev/gpiochip* exists and the unit's DeviceAllow has it"
                    ) from error
            return self._libraries

    @contextmanager
    def _errors(self, pin: int) -> Iterator[None]:
        """Turn whatever the libraries raise into an error of ours that says what to do."""
        assert self._libraries is not None
        gpio, lgpio = self._libraries
        try:
            yield
        except (lgpio.error, RuntimeError, ValueError, OSError) as error:
            if isinstance(error, DeviceUnavailable | DeviceMisconfigured):
                raise
            said = _text(error)
            if "busy" in said.lower():
                raise DeviceUnavailable(
                    f"GPIO {pin} is held by {_holder(gpio, lgpio, pin)}; stop that, or remove its dtoverlay from "
                    "config.txt (`gpioinfo` lists who holds what)"
                ) from error
            raise DeviceUnavailable(f"GPIO {pin}: {said}; check that the board has this line") from error


def _import() -> tuple[Any, Any]:
    """RPi.GPIO as rpi-lgpio brings it, and the lgpio below it.

    lgpio makes a fifo in $LG_WD and *moves the whole process there* while it is imported; the move is undone.
    """
    _prepare_environment()
    before = Path.cwd()
    try:
        lgpio = importlib.import_module("lgpio")
        gpio = importlib.import_module("RPi.GPIO")
    except ImportError as error:
        raise DeviceMisconfigured(
            "rpi-lgpio is not installed; install the extra: pip install 'tidewatt[pi]', or Pi OS's "
            f"python3-rpi-lgpio ({error})"
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # what rpi-lgpio raises on another machine
        raise DeviceMisconfigured(
            f'no GPIO of a Raspberry Pi here ({error}); run this on a Pi, or use driver = "sim" in its place'
        ) from error
    except OSError as error:
        raise DeviceUnavailable(
            f"lgpio cannot make its fifo in {os.environ['LG_WD']} ({error.strerror}); set LG_WD to a folder that "
            "the daemon may write"
        ) from error
    finally:
        os.chdir(before)
    _chip_module_check(gpio)
    gpio.setwarnings(False)
    return gpio, lgpio


def _prepare_environment() -> None:
    """What the libraries read from the environment, where nobody has set it."""
    os.environ.setdefault("LG_WD", _writable_folder())
    chip = boards.find_chip()
    if chip is None:
        return
    os.environ.setdefault("RPI_LGPIO_CHIP", str(chip.number))
    if not boards.has_revision():
        os.environ.setdefault("RPI_LGPIO_REVISION", boards.REVISION_OF_LABEL[chip.label])


def _writable_folder() -> str:
    for folder in (os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], "/run"):
        if folder and os.access(folder, os.W_OK):
            return folder
    return tempfile.gettempdir()


def _chip_module_check(gpio: Any) -> None:
    if not hasattr(gpio, "_chip"):
        raise DeviceMisconfigured(
            "the RPi.GPIO that is installed is not rpi-lgpio; pip uninstall RPi.GPIO and install rpi-lgpio"
        )


def _chip_of(gpio: Any) -> int:
    """The handle that rpi-lgpio opened; it keeps it under a private name."""
    chip = gpio._chip
    if not isinstance(chip, int):
        raise DeviceMisconfigured("rpi-lgpio has no chip open; another part of this process has closed it")
    return chip


def _holder(gpio: Any, lgpio: Any, pin: int) -> str:
    try:
        _, _, _, name, user = lgpio.gpio_get_line_info(_chip_of(gpio), pin)
    except (lgpio.error, DeviceMisconfigured, ValueError):
        return "another program"
    return f"{user or 'another program'!r}" + (f" (line {name})" if name else "")


def _text(error: Exception) -> str:
    return str(error).strip("'\" ") or type(error).__name__
