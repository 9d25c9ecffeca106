"""The units are what systemd takes without a complaint, and say what the daemon relies on."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from drivers import ds18b20, pwm
from tests.unit.source import ROOT

UNITS: Final = ("tidewatt-edge.service", "tidewatt-sink@.service")
PROGRAM: Final = "/opt/tidewatt/bin/tidewatt"
EXPOSURE_MAX: Final = 2.0


def rendered(name: str, folder: Path) -> Path:
    """A copy that names a program which exists here, as an instance if it is a template."""
    program = folder / "tidewatt"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = folder / name.replace("@.", "@north.")
    text = (ROOT / "systemd" / name).read_text()
    assert PROGRAM in text
    unit.write_text(text.replace(PROGRAM, str(program)))
    return unit


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )


def verify(unit: Path) -> tuple[int, str]:
    """The exit code, and the complaints about this unit (others of the machine are not ours)."""
    done = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    return done.returncode, "\n".join(line for line in done.stderr.splitlines() if unit.stem in line)


def section(name: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "systemd" / name)
    return parser["Service"]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    assert verify(rendered(name, tmp_path)) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_a_misspelled_option_would_be_noticed(name: str, tmp_path: Path) -> None:
    unit = rendered(name, tmp_path)
    unit.write_text(unit.read_text().replace("RestartSec=", "RestartSecs="))
    assert "RestartSecs" in verify(unit)[1]


@pytest.mark.parametrize("name", UNITS)
def test_the_sandbox_is_tight(name: str, tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(rendered(name, tmp_path)))
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


def test_the_sandbox_lets_drivers_write_what_they_must() -> None:
    text = (ROOT / "systemd" / "tidewatt-edge.service").read_text()
    words = [word for line in re.findall(r"(?m)^ReadWritePaths=(.*)$", text) for word in line.split()]
    assert all(word.startswith("-/sys/devices/") for word in words), (
        "what a board lacks must not stop the daemon"
    )
    pwm_devices = {Path(word).name for word in words if word.endswith(".pwm")}
    for known in ("2020c000.pwm", "3f20c000.pwm", "fe20c000.pwm"):
        assert pwm.OLD_DEVICE.fullmatch(known)
        assert known in pwm_devices
    assert [name for name in pwm_devices if pwm.RP1_DEVICE.fullmatch(name)] == ["1f00098000.pwm"]
    assert "-/sys/devices/w1_bus_master1" in words
    rules = (ROOT / "systemd" / "tidewatt.rules").read_text()
    assert f'KERNEL=="{"|".join(f"{family}-*" for family in ds18b20.FAMILIES)}"' in rules


def test_the_daemon_is_watched_and_never_given_up() -> None:
    service = section("tidewatt-edge.service")
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert int(service["WatchdogSec"]) > 0
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    for name in UNITS:
        assert section(name)["Restart"] == "always"
        assert "StartLimitIntervalSec=0" in (ROOT / "systemd" / name).read_text()


def test_the_account_of_the_units_is_the_one_that_is_made() -> None:
    made = (ROOT / "systemd" / "tidewatt.sysusers").read_text()
    service = section("tidewatt-edge.service")
    assert re.search(rf"^u {service['User']} ", made, re.MULTILINE)
    for group in service["SupplementaryGroups"].split():
        assert re.search(rf"^g {group} ", made, re.MULTILINE)


def test_systemd_takes_the_accounts(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", f"--root={tmp_path}", str(ROOT / "systemd" / "tidewatt.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'tidewatt'" in done.stderr + done.stdout
