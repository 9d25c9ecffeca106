"""What the unit's sandbox lets the daemon write: of /sys what its drivers must, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.vm.checks import require

W1_MASTER: Final = Path("/sys/devices/w1_bus_master1")
PROBE: Final = W1_MASTER / "28-000000000001"
"""It is only said to be there (guest/units.sh): what is written to it reaches the kernel's driver, and gets lost."""
PWM: Final = ("soc/2020c000", "soc/3f20c000", "soc/fe20c000", "axi/1000120000.pcie/1f00098000")
TAKEN: Final = ("", "I/O error")


def judge(pid: int, writable: str, foreign: Path) -> str:
    """What was measured.  Raises Failed.

    pid       the daemon's process: all is tried in its namespace
    writable  the unit's ReadWritePaths
    foreign   a file of a device that is none of the daemon's
    """
    mounts = _mounts(pid)
    require(mounts.get("/sys") == "ro" and mounts.get(str(W1_MASTER)) == "rw", f"mounts: {mounts}")
    user = _user(pid)
    resolution = _written(pid, user, PROBE / "resolution", "10")
    require(resolution in TAKEN, f"a probe's resolution: {resolution}")
    bulk = _written(pid, user, W1_MASTER / "therm_bulk_read", "trigger")
    require(bulk in TAKEN, f"bulk conversion: {bulk}")
    elsewhere = _written(pid, [], foreign, "pull-up")
    require(elsewhere == "Read-only file system", f"root wrote to another device: {elsewhere}")
    beside = _written(pid, user, W1_MASTER / "w1_master_search", "1")
    require(beside == "Permission denied", f"the daemon wrote what it need not: {beside}")
    for device in PWM:
        require(f"-/sys/devices/platform/{device}.pwm" in writable, f"ReadWritePaths: {writable}")
    return (
        f"/sys is ro, {W1_MASTER} rw; the daemon's user reaches the kernel with a probe's resolution "
        f"({resolution or 'taken'}) and with bulk conversion ({bulk or 'taken'}), root not even another device"
    )


def _mounts(pid: int) -> dict[str, str]:
    """Mount points under /sys as the process sees them: rw or ro."""
    rows = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {row[4]: row[5].split(",")[0] for row in rows if row[4].startswith("/sys")}


def _user(pid: int) -> list[str]:
    """The command that becomes the process's user and groups."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    groups = ",".join(found["Groups"])
    return ["setpriv", f"--reuid={found['Uid'][0]}", f"--regid={found['Gid'][0]}", f"--groups={groups}"]


def _written(pid: int, user: list[str], path: Path, text: str) -> str:
    """What the shell says when it writes this, "" for nothing."""
    script = ["/bin/sh", "-c", 'echo "$1" >"$2"', "sh", text, str(path)]
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-m", "--", *user, *script],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )
    return done.stderr.strip().rpartition(": ")[2]
