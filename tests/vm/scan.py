"""`tidewatt scan` on the guest's own buses: what it prints goes into a config as it is, and says the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import smbus2

from tests.vm import lines
from tests.vm.checks import require

BUS: Final = int(os.environ.get("I2C", "0"))
CONFIG: Final = Path("/run/scan.toml")
SITE: Final = """
[site]
name = "vm"
[store]
path = "/run/scan/tidewatt.db"
[uplink]
enabled = false
"""
PCA9685: Final = 0x40
INA219: Final = 0x41
CLOCK: Final = 0x68
FACTORY: Final = {PCA9685: {2: 0xE2, 3: 0xE4, 4: 0xE8, 5: 0xE0}, INA219: {0: 0x39, 1: 0x9F}}
"""Chip -> registers by which it is known, as they are after power-up."""
PROBE: Final = "28-000000000001"
DEVICES: Final = {"ina219", "iio", "hwmon", "ds18b20"}
"""Drivers of what guest/hardware.sh puts on the buses, besides the PCA9685."""


def tidewatt(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli.main", "--config", str(CONFIG), *words]
    return subprocess.run(command, capture_output=True, text=True)


def found() -> dict[str, dict[str, Any]]:
    """What `tidewatt scan --json` says is where."""
    answer = tidewatt("scan", "--json")
    require(answer.returncode == 0, f"scan --json: {answer.stderr[-500:]}")
    return {one["where"]: one for one in json.loads(answer.stdout)["found"]}


def checked(text: str) -> dict[str, Any]:
    """What `tidewatt config check` says of the site with this text added."""
    CONFIG.write_text(SITE + text)
    answer = tidewatt("config", "check", "--json")
    verdict: dict[str, Any] = json.loads(answer.stdout)
    require(verdict["ok"] and answer.returncode == 0, f"config check: {verdict['mistakes']}")
    return verdict


def registers() -> dict[int, list[int]]:
    with smbus2.SMBus(BUS) as bus:
        return {chip: [bus.read_byte_data(chip, at) for at in range(256)] for chip in FACTORY}


def prints_config() -> str:
    CONFIG.write_text(SITE)
    with smbus2.SMBus(BUS) as bus:
        for chip, known in FACTORY.items():
            for register, value in known.items():
                bus.write_byte_data(chip, register, value)
    before, began_s = registers(), lines.now_s()
    answer = tidewatt("scan")
    require(answer.returncode == 0, f"scan: {answer.stderr[-500:]}")
    require(registers() == before, "the scan has changed registers")
    written = {chip: lines.seen().smbus_writes(chip, since_s=began_s) for chip in FACTORY}
    require(not any(written.values()), f"the scan has written: {written}")
    drivers = {line.split('"')[1] for line in answer.stdout.splitlines() if line.startswith("driver = ")}
    require(drivers == DEVICES, f"tables of {sorted(drivers)}, not of {sorted(DEVICES)}: {answer.stdout}")
    checked(answer.stdout)
    awake = "\n".join(
        line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in answer.stdout.splitlines()
    )
    require('driver = "pca9685"' in awake, f"no output for the PCA9685: {answer.stdout}")
    checked(awake)
    return f"{len(drivers)} devices and an output, taken by `config check` as they are printed; nothing was written"


def knows_what_it_has() -> str:
    """With all of it in the config nothing is new, and whoever is in it is left alone."""
    there = found()
    tables = {where: one["in_config"] for where, one in there.items() if one["in_config"]}
    wanted = {f"i2c-{BUS} 0x{PCA9685:02x}", f"i2c-{BUS} 0x{INA219:02x}", f"1-Wire {PROBE}"}
    require(wanted < tables.keys(), f"in the config it finds {tables}")
    fresh = [where for where, one in there.items() if one["config"]]
    require(not fresh, f"new, though the config has it: {fresh}")
    clock = there.get(f"i2c-{BUS} 0x{CLOCK:02x}", {})
    require("DS3231" in clock.get("what", ""), f"at 0x{CLOCK:02x}: {clock}")
    return f"{len(tables)} of the config known again, none of them new; at 0x{CLOCK:02x} {clock['what']}"


def reads_one() -> str:
    """The table as it is printed reads a chip that the kernel serves."""
    answer = tidewatt("test", "bme280")
    require(answer.returncode == 0 and "°C" in answer.stdout, f"{answer.stdout} {answer.stderr}"[-500:])
    return " ".join(answer.stdout.split())[:120]


CHECKS: Final = [
    ("scan: prints config that is taken unchanged", prints_config),
    ("scan: knows what the config has", knows_what_it_has),
    ("scan: a printed table reads its chip", reads_one),
]
