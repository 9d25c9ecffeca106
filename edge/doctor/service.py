"""Checks of the program itself: its config, the running daemon, its unit, what its drivers need."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

from drivers import boards
from drivers.catalog import problems as driver_problems
from edge.doctor.checks import Verdict, counted, failed, ok, warning
from edge.doctor.patient import SYSTEMD, UNIT, Patient, output_of
from edge.version import version

MISTAKES_SHOWN_MAX: Final = 5
EXECUTABLE: Final = re.compile(r"path=(?P<path>\S+)")
MINIMUM_PYTHON: Final = (3, 11)
GPIO: Final = ("lgpio", "RPi.GPIO")
LIBRARIES: Final[Mapping[str, tuple[str, ...]]] = {
    "relay": GPIO,
    "digital": GPIO,
    "pca9685": ("smbus2", "adafruit_pca9685"),
    "kasa": ("kasa",),
}
"""What the drivers of the extras import, beside smbus2 for whatever has the option `i2c`."""


def config(patient: Patient) -> Iterator[Verdict]:
    """As `tidewatt config check` has it."""
    path = patient.config_path
    for mistake in patient.mistakes[:MISTAKES_SHOWN_MAX]:
        yield failed(str(mistake))
    if (more := len(patient.mistakes) - MISTAKES_SHOWN_MAX) > 0:
        yield failed(f"{counted(more, 'more mistake')}; tidewatt config check {path} tells all")
    if patient.config is None:
        return
    for advice in patient.advised:
        yield warning(str(advice))
    if not patient.advised:
        config = patient.config
        counts = f"{counted(len(config.devices), 'device')}, {counted(len(config.outputs), 'output')}"
        yield ok(f"{path}: site {config.site.name}, {counts}")


def daemon(patient: Patient) -> Iterator[Verdict]:
    """Whether it answers, and what it says is wrong."""
    state = patient.state
    if state is None:
        yield warning(patient.silent)
        return
    if state["version"] != version():
        yield warning(
            f"it runs version {state['version']}, this command is {version()}; systemctl restart tidewatt-edge"
        )
    if error := state["config"]["error"]:
        yield failed(f"it refused the config at its last reload: {error}")
    for problem in state["problems"]:
        yield failed(problem) if state["health"] == "failing" else warning(problem)
    if state["health"] == "ok" and not error:
        yield ok(f"version {state['version']} runs since {state['started']}")


def unit(patient: Patient) -> Iterator[Verdict]:
    """That systemd starts the daemon, watches it, and starts this version."""
    found = patient.unit
    if found is None:
        why = "does not answer" if SYSTEMD.is_dir() else "does not run this machine"
        yield warning(f"systemd {why}: nothing starts the daemon again; run it by another supervisor")
        return
    if not patient.unit_loaded:
        yield warning(
            f"{UNIT} is not installed; copy systemd/tidewatt-edge.service to /etc/systemd/system, "
            "its first lines tell how"
        )
        return
    bad = [*_unit_state(found), *_unit_program(found)]
    if boards.here().is_pi and not _machine_watchdog():
        bad.append(
            warning("the board's watchdog is off; set RuntimeWatchdogSec=15 in /etc/systemd/system.conf")
        )
    yield from bad or [ok(f"{UNIT} is {found.get('UnitFileState')}, {found.get('ActiveState')} and watched")]


def _unit_state(found: Mapping[str, str]) -> Iterator[Verdict]:
    enabled = found.get("UnitFileState", "").startswith("enabled")
    if not enabled:
        yield warning(f"{UNIT} does not start with the machine; sudo systemctl enable {UNIT}")
    if found.get("ActiveState") not in ("active", "reloading", "activating"):
        words = (
            f"{UNIT} is {found.get('ActiveState')}; sudo systemctl start {UNIT}, and see journalctl -u {UNIT}"
        )
        yield failed(words) if enabled else warning(words)
    if found.get("WatchdogUSec", "0") in ("0", "infinity", ""):
        yield failed(
            f"{UNIT} is not watched: a daemon that hangs stays so; put WatchdogSec=30 back under [Service]"
        )
    if found.get("NeedDaemonReload") == "yes":
        yield warning(f"{UNIT} was changed since systemd read it; sudo systemctl daemon-reload")


def _unit_program(found: Mapping[str, str]) -> Iterator[Verdict]:
    """Whether the unit starts the version that this command is of."""
    program = EXECUTABLE.search(found.get("ExecStart", ""))
    if program is None:
        return
    said = output_of(program["path"], "--version")
    if said is None:
        yield failed(
            f"{program['path']} of {UNIT} does not run; install tidewatt there, or correct ExecStart="
        )
    elif said.split()[-1:] != [version()]:
        yield warning(f"{UNIT} starts {said.strip()}, this command is {version()}; update one of them")


def _machine_watchdog() -> bool:
    said = output_of("systemctl", "show", "--property=RuntimeWatchdogUSec") or ""
    return said.partition("=")[2].strip() not in ("", "0")


def software(patient: Patient) -> Iterator[Verdict]:
    """Python, and what the configured drivers import, in this installation."""
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MINIMUM_PYTHON:
        yield failed(f"Python {here} is too old; install tidewatt with Python 3.11 or later")
    bad = [warning(f"{problem}") for problem in driver_problems()]
    for name, users in _missing(patient).items():
        bad.append(
            failed(
                f"{name} is missing for {', '.join(users)}; {sys.prefix}/bin/pip install "
                f"'tidewatt[{'kasa' if name == 'kasa' else 'pi'}]'"
            )
        )
    yield from bad or [ok(f"Python {here} in {sys.prefix}, with all that the configured drivers need")]


def _missing(patient: Patient) -> dict[str, list[str]]:
    """Library -> the devices and outputs that need it, of what cannot be imported."""
    missing: dict[str, list[str]] = {}
    for part in parts(patient):
        needed = LIBRARIES.get(part.driver, ("smbus2",) if hasattr(part, "i2c") else ())
        for name in needed:
            if not _is_there(name):
                missing.setdefault(name, []).append(part.name)
    return missing


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is missing
        return False


def parts(patient: Patient) -> list[Any]:
    """The devices and outputs that are switched on."""
    if patient.config is None:
        return []
    return [*(device for device in patient.config.devices if device.enabled), *patient.config.outputs]
