"""Relays: the line's levels, release equals safe, and rpi-lgpio as it is called underneath."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from drivers import boards
from drivers.base import DeviceMisconfigured, DeviceUnavailable, Terms
from drivers.gpio import Pull, RpiLines
from drivers.relay import DRIVER, Relay, RelayOptions, line_level
from tests.drivers.worlds import fake_lines

PIN = 17


def relay(safe: float = 0.0, **options: Any) -> Relay:
    return Relay(RelayOptions(pin=PIN, **options), Terms(name="it", safe=safe))


@pytest.mark.parametrize(
    ("active_low", "contact", "level", "high"),
    [
        (False, "no", 1.0, True),
        (False, "no", 0.0, False),
        (True, "no", 1.0, False),
        (True, "no", 0.0, True),
        (False, "nc", 1.0, False),
        (False, "nc", 0.0, True),
        (True, "nc", 1.0, True),
        (True, "nc", 0.0, False),
    ],
)
def test_the_line_follows_the_board_and_the_contact(
    active_low: bool, contact: str, level: float, high: bool
) -> None:
    options = RelayOptions.model_validate({"pin": PIN, "active_low": active_low, "contact": contact})
    assert line_level(options, level) is high


@pytest.mark.parametrize("active_low", [False, True])
@pytest.mark.parametrize("contact", ["no", "nc"])
@pytest.mark.parametrize("safe", [0.0, 1.0])
def test_the_pull_is_the_safe_level_so_that_a_dead_process_is_a_safe_relay(
    monkeypatch: pytest.MonkeyPatch, active_low: bool, contact: str, safe: float
) -> None:
    lines = fake_lines(monkeypatch)
    output = relay(safe, active_low=active_low, contact=contact)
    output.open()
    safe_line = lines.pin(PIN).level
    assert lines.pin(PIN).pull is (Pull.UP if safe_line else Pull.DOWN)
    output.write(1.0 - safe)
    assert lines.pin(PIN).level is not safe_line
    lines.die()
    assert lines.pin(PIN).level is safe_line


def test_with_a_resistor_of_the_board_the_pi_s_own_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = fake_lines(monkeypatch)
    relay(pull="external").open()
    assert lines.pin(PIN).pull is Pull.EXTERNAL


def test_an_active_low_relay_never_sees_a_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = fake_lines(monkeypatch)
    lines.pin(PIN).move(True)  # the boot's pull-up: off
    output = relay(active_low=True)
    output.open()
    output.release()
    output.open()
    output.open()
    assert lines.pin(PIN).history == [True]


def test_one_that_is_safe_on_stays_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = fake_lines(monkeypatch)
    lines.pin(PIN).move(False)
    output = relay(safe=1.0, contact="nc")
    output.open()
    output.write(1.0)
    output.release()
    assert lines.pin(PIN).history == [False]


def test_it_is_released_safe_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = fake_lines(monkeypatch)
    output = relay(pull="external")
    output.open()
    output.write(1.0)
    output.release()
    assert lines.pin(PIN).history == [False, True, False]
    assert not lines.pin(PIN).output


def test_a_line_of_somebody_else_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = fake_lines(monkeypatch)
    lines.busy.add(PIN)
    with pytest.raises(DeviceUnavailable, match="held by"):
        relay().open()


@pytest.mark.parametrize(
    ("safe", "contact", "advised"),
    [(0.0, "no", ""), (1.0, "nc", ""), (1.0, "no", '"nc"'), (0.0, "nc", '"no"')],
)
def test_the_contact_has_to_follow_safe(safe: float, contact: str, advised: str) -> None:
    options = RelayOptions.model_validate({"pin": PIN, "contact": contact})
    said = DRIVER.advise(options, Terms(name="it", safe=safe))
    assert (advised in said) if advised else said == ""
    assert DRIVER.refuse(options, Terms(name="it", safe=safe)) == ""


def test_half_a_level_is_no_safe_level_of_a_relay() -> None:
    assert "on or off" in DRIVER.refuse(RelayOptions(pin=PIN), Terms(name="it", safe=0.5))


class LgpioError(Exception):
    """As lgpio.error: no RuntimeError, no OSError."""


class Libraries:
    """`lgpio` and rpi-lgpio's `RPi.GPIO`, as far as they are used, with the ways they have."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.mode: int | None = None
        self.claimed: dict[int, str] = {}
        self.held_by_others: set[int] = set()
        self.chip_opens = True
        self.lgpio = types.SimpleNamespace(
            error=LgpioError,
            SET_PULL_UP=32,
            SET_PULL_DOWN=64,
            SET_PULL_NONE=128,
            gpio_claim_output=self.claim_output,
            gpio_free=self.free,
            gpio_get_line_info=lambda chip, pin: [0, pin, 1, "GPIO17", "somebody"],
        )
        self.rpi = types.SimpleNamespace(
            BCM=11,
            IN=1,
            BOTH=33,
            PUD_UP=22,
            PUD_DOWN=21,
            PUD_OFF=20,
            _chip=None,
            getmode=lambda: self.mode,
            setmode=self.setmode,
            setwarnings=lambda on: None,
            setup=lambda *args, **named: self.calls.append(("setup", *args, named)),
            output=self.output,
            input=lambda pin: 1,
            add_event_detect=lambda *args, **named: self.calls.append(("detect", *args, named)),
            remove_event_detect=lambda pin: self.calls.append(("undetect", pin)),
        )

    def claim_output(self, chip: int, pin: int, level: int, flags: int) -> int:
        if pin in self.held_by_others:
            raise LgpioError("'GPIO busy'")
        self.calls.append(("claim", chip, pin, level, flags))
        self.claimed[pin] = "output"
        return 0

    def output(self, pin: int, level: int) -> None:
        if pin not in self.claimed:
            raise RuntimeError("The GPIO channel has not been set up as an OUTPUT")
        self.calls.append(("output", pin, level))

    def free(self, chip: int, pin: int) -> int:
        self.claimed.pop(pin, None)
        self.calls.append(("free", chip, pin))
        return 0

    def setmode(self, mode: int) -> None:
        if not self.chip_opens:
            raise LgpioError("'can not open gpiochip'")
        self.mode, self.rpi._chip = mode, 7


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Libraries:
    found = Libraries(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("LG_WD", str(work))
    monkeypatch.setattr(boards, "find_chip", lambda: None)

    def import_module(name: str) -> object:
        if name == "lgpio":
            os.chdir(os.environ["LG_WD"])  # as lgpio does
            return found.lgpio
        assert name == "RPi.GPIO"
        return found.rpi

    monkeypatch.setattr(importlib, "import_module", import_module)
    return found


def test_a_line_is_claimed_once_with_its_level_and_its_pull(libraries: Libraries) -> None:
    lines = RpiLines()
    lines.claim_output(PIN, True, Pull.UP)
    lines.claim_output(PIN, False, Pull.DOWN)  # ours already: set, not claimed again
    lines.claim_output(18, False, Pull.DOWN)
    assert libraries.calls == [("claim", 7, PIN, 1, 32), ("output", PIN, 0), ("claim", 7, 18, 0, 64)]


def test_a_line_is_freed_without_floating_it(libraries: Libraries) -> None:
    lines = RpiLines()
    lines.claim_output(PIN, False, Pull.DOWN)
    lines.free(PIN)
    lines.free(PIN)
    assert libraries.calls[1:] == [("free", 7, PIN)]


def test_importing_the_library_does_not_move_the_process(libraries: Libraries) -> None:
    before = Path.cwd()
    RpiLines().claim_output(PIN, False, Pull.DOWN)
    assert Path.cwd() == before


def test_an_input_is_debounced_and_gives_its_level(libraries: Libraries) -> None:
    told: list[bool] = []
    lines = RpiLines()
    lines.claim_input(23, Pull.UP, 50, told.append)
    assert libraries.calls[0] == ("setup", 23, 1, {"pull_up_down": 22})
    name, pin, edge, options = libraries.calls[1]
    assert (name, pin, edge) == ("detect", 23, 33)
    assert isinstance(options, dict) and options["bouncetime"] == 50
    options["callback"](23)
    assert told == [True]
    lines.free(23)
    assert libraries.calls[2:] == [("undetect", 23), ("free", 7, 23)]


def test_who_holds_a_line_is_named(libraries: Libraries) -> None:
    libraries.held_by_others.add(PIN)
    with pytest.raises(DeviceUnavailable, match="held by 'somebody'"):
        RpiLines().claim_output(PIN, False, Pull.DOWN)


def test_a_board_without_access_is_unavailable_and_can_come_back(libraries: Libraries) -> None:
    libraries.chip_opens = False
    lines = RpiLines()
    with pytest.raises(DeviceUnavailable, match="group gpio"):
        lines.claim_output(PIN, False, Pull.DOWN)
    libraries.chip_opens = True
    lines.claim_output(PIN, False, Pull.DOWN)


def test_the_old_rpi_gpio_is_told_apart(libraries: Libraries) -> None:
    del libraries.rpi._chip
    with pytest.raises(DeviceMisconfigured, match="is not rpi-lgpio"):
        RpiLines().claim_output(PIN, False, Pull.DOWN)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("No module named 'lgpio'"), r"tidewatt\[pi\]"),
        (RuntimeError("This module can only be run on a Raspberry Pi!"), "no GPIO of a Raspberry Pi"),
    ],
)
def test_without_the_library_or_a_pi_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def import_module(name: str) -> object:
        raise error

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(DeviceMisconfigured, match=said):
        RpiLines().claim_output(PIN, False, Pull.DOWN)


def test_the_chip_is_found_by_its_label_for_the_library(
    libraries: Libraries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RPI_LGPIO_CHIP", "RPI_LGPIO_REVISION"):
        monkeypatch.delenv(name, raising=False)
    chip = boards.Chip(number=4, label="pinctrl-rp1", lines=54)
    monkeypatch.setattr(boards, "find_chip", lambda: chip)
    monkeypatch.setattr(boards, "has_revision", lambda: False)
    RpiLines().claim_output(PIN, False, Pull.DOWN)
    assert os.environ["RPI_LGPIO_CHIP"] == "4"
    assert os.environ["RPI_LGPIO_REVISION"] == "d04170"
    monkeypatch.delenv("RPI_LGPIO_CHIP")
    monkeypatch.delenv("RPI_LGPIO_REVISION")


def test_making_a_relay_imports_no_library() -> None:
    code = (
        "import sys; from drivers.base import Terms; from drivers.relay import Relay, RelayOptions\n"
        "Relay(RelayOptions(pin=17), Terms(name='it')).pull\n"
        "sys.exit(bool({'lgpio', 'RPi'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
