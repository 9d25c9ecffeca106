"""One life of the machine whose power is cut, from inside: the card is shown to the host, then the daemon lives.

While it polls, a person drops meter files and drives relays now and then; the host cuts the power whenever it likes.
In the last life nobody does anything: what is unfinished comes to its end, and the daemon stops in order.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.vm import lines, serial, trace
from tests.vm.checks import Failed, require, until

DISK: Final = Path("/dev/vda")
DATA: Final = Path("/data")
HOST: Final = Path("/run/host")
SOCKET: Final = Path("/run/tidewatt.sock")
CONFIG: Final = Path("/run/tidewatt.toml")
LOG: Final = Path("/run/tidewatt.log")
INBOX: Final = DATA / "inbox"
SAFE: Final = {"relay": (17, True), "return": (6, False), "pump": (5, False)}
"""Line of each output, and its level while the output is safe."""
OVERRIDE_S: Final = 1800.0
PATIENCE_S: Final = 600.0
WATCH_S: Final = 0.2
SETTLED_S: Final = 8.0
"""After the last file: longer than the flush interval."""
TAIL_BYTES: Final = 1500


def mount() -> str:
    """The card as the kernel takes it up, what its writes are to the kernel, and what fsck says of it."""
    cache = Path(f"/sys/block/{DISK.name}/queue/write_cache").read_text().strip()
    require(cache == "write back", f"the kernel takes the card's cache for {cache}: it would not flush it")
    for command in (
        ["mount", "-t", "ext4", str(DISK), str(DATA)],
        ["umount", str(DATA)],
    ):  # the journal is played
        subprocess.run(command, check=True)
    checked = subprocess.run(["e2fsck", "-f", "-n", DISK], capture_output=True, text=True)
    subprocess.run(["mount", "-t", "ext4", "-o", "noatime", DISK, DATA], check=True)
    return "" if checked.returncode == 0 else checked.stdout[-TAIL_BYTES:]


def show(life: int | str) -> None:
    """A copy of what stands on the card, for the host."""
    folder = HOST / "cards" / str(life)
    shutil.copytree(DATA, folder, ignore=shutil.ignore_patterns("lost+found"))


class Refused(Exception):
    """What the daemon said, or that there is nobody yet."""


def ask(verb: str, **args: Any) -> Any:
    """As `edge.local` does, without all that it would take the guest seconds to import.  Raises Refused."""
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rwb") as stream:
            connection.connect(str(SOCKET))
            stream.write(json.dumps({"verb": verb, "args": args}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline())
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from error
    if not answer["ok"]:
        raise Refused(answer["error"])
    return answer["result"]


class Daemon:
    """The real one, started as its unit would."""

    def __init__(self, life: int) -> None:
        text = Path(__file__).with_name("guest").joinpath("powercut.toml").read_text()
        CONFIG.write_text(text.replace("LIFE", str(life)))
        with LOG.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge.cli.main", "--config", CONFIG, "run"],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What it says of each output; empty while it has decided nothing.  Raises Failed."""
        require(self.process.poll() is None, f"the daemon ended: {self.tail()}")
        try:
            found = {output["name"]: output for output in ask("outputs")["outputs"]}
        except Refused:
            return {}
        return found if found and all(output["cause"] for output in found.values()) else {}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        require(code == 0, f"the daemon ended with {code}: {self.tail()}")

    def tail(self) -> str:
        return LOG.read_bytes()[-TAIL_BYTES:].decode(errors="replace")


def watch() -> None:
    """Every line's level when it has changed, for as long as there is power."""
    before: dict[str, bool] = {}
    while True:
        for name, (pin, _) in SAFE.items():
            high = lines.level(pin)
            if before.get(name) is not high:
                before[name] = high
                serial.say("line", output=name, safe=high is SAFE[name][1])
        time.sleep(WATCH_S)


def tell_open() -> None:
    """Once there is a database to take what is polled."""
    while True:
        with suppress(Refused):
            ask("status")
            serial.say("open")
            return
        time.sleep(WATCH_S)


def pulses() -> list[str]:
    """Of each line that did not stay at safe until it was claimed, or was claimed at another level, what it did."""
    found, seen = [], trace.read()
    for name, (pin, safe) in SAFE.items():
        claims, calls = seen.calls_at(pin, "out"), seen.calls(pin)
        first = next((call for call in calls if call.startswith("out")), "")
        early = [edge for edge in seen.edges(pin) if not claims or edge.at_s < claims[0]]
        if first != f"out {safe:d}" or any(edge.level is not safe for edge in early):
            found.append(f"{name}: {', '.join(calls[:5])}")
    return found


def told(outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The overrides in force: level and seconds left."""
    held = {name: output["override"] for name, output in outputs.items()}
    return {name: [one["level"], one["remaining_s"]] for name, one in held.items() if one}


def order(chance: Random) -> None:
    """A person's word for one relay; the pump is only ever turned on, for its on-time bounds it."""
    output = chance.choice(list(SAFE))
    level = 1.0 if output == "pump" else float(chance.randint(0, 1))
    serial.say("ask", output=output, level=level)
    answer = ask("outputs.set", output=output, level=level, for_s=OVERRIDE_S)
    if answer["saved"]:
        serial.say("set", output=output, level=level, left_s=answer["override"]["remaining_s"])


def drop(file: Path) -> None:
    """Into the inbox, durably; then nothing may lose it."""
    part, target = INBOX / f"{file.name}.part", INBOX / file.name
    with part.open("wb") as new:
        new.write(file.read_bytes())
        new.flush()
        os.fsync(new.fileno())
    part.rename(target)
    folder = os.open(INBOX, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    serial.say("file", name=file.name)


def live(daemon: Daemon, life: int) -> None:
    """Until the power is cut.  Raises Failed."""
    chance = Random(life)
    files = sorted((HOST / "files").glob(f"{life:03d}-*.csv"))
    next_file_s = time.monotonic() + chance.uniform(0.0, 4.0)
    while True:
        time.sleep(chance.uniform(0.5, 4.0))
        require(daemon.process.poll() is None, f"the daemon ended: {daemon.tail()}")
        order(chance)
        if files and INBOX.is_dir() and time.monotonic() >= next_file_s:
            drop(files.pop(0))
            next_file_s = time.monotonic() + chance.uniform(8.0, 20.0)


def finish(daemon: Daemon) -> None:
    """What is unfinished comes to its end.  Raises Failed."""
    until(lambda: INBOX.is_dir() and not any(INBOX.glob("*.csv")), PATIENCE_S, "an inbox without files")
    time.sleep(SETTLED_S)
    problems = ask("status")["problems"]
    daemon.stop()
    show("last")
    serial.say("end", problems=problems)


def main() -> int:
    life = int((HOST / "life").read_text())
    try:
        unsound = mount()
        show(life)
        serial.say("card", unsound=unsound)
        threading.Thread(target=watch, daemon=True).start()
        daemon = Daemon(life)
        serial.say("started")
        threading.Thread(target=tell_open, daemon=True).start()
        until(lambda: bool(daemon.outputs()), PATIENCE_S, f"decisions: {daemon.tail()}")
        serial.say("up", overrides=told(daemon.outputs()), pulses=pulses())
        if (HOST / "last").exists():
            finish(daemon)
        else:
            live(daemon, life)
    except (Failed, Refused, OSError, subprocess.SubprocessError) as error:
        serial.say("failed", why=f"{error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
