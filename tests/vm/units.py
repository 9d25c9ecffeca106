"""`tidewatt-edge.service` as it is shipped, under systemd as process 1: start, hang, kill, restart and stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from edge.control.bank import FIND_S
from edge.local import LocalRefused, LocalUnavailable, call
from tests.vm import drivers, lines, sandbox
from tests.vm.checks import Failed, require, run, until
from tests.vm.stall import HANG, HANG_CONTROL

UNIT: Final = "tidewatt-edge.service"
DROP_IN: Final = Path(f"/run/systemd/system/{UNIT}.d/vm.conf")
SOCKET: Final = Path("/run/tidewatt/tidewatt.sock")
RELAY: Final = 17  # active low, safe off: high
RETURN: Final = 6  # safe on, on a normally closed contact: low
SWITCH: Final = 22
LIGHT: Final = 0
BUS_HANG: Final = Path("/sys/module/i2c_stub/parameters/hang")
SAFE: Final = {RELAY: True, RETURN: False}
WATCHDOG_S: Final = 30.0
"""As the unit says."""
SAFE_SLACK_S: Final = 60.0
BACK_SLACK_S: Final = 240.0
"""What an emulated machine may need on top: to end a process, and to start Python twice (ExecStopPost, the daemon)."""
PATIENCE_S: Final = 300.0
ANSWERS_S: Final = 5.0
"""So long into the hang of control alone the daemon's other parts are asked."""
FIRST_SLACK_S: Final = 30.0
"""What an emulated machine may need on top of FIND_S for the first decision beside a bus that hangs."""


def shown(name: str) -> str:
    answer = subprocess.run(
        ["systemctl", "show", "--value", "-p", name, UNIT], capture_output=True, text=True
    )
    return answer.stdout.strip()


def systemctl(*words: str) -> None:
    answer = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    require(answer.returncode == 0, f"systemctl {' '.join(words)}: {answer.stderr.strip()}")


def _since_boot_s(name: str) -> float:
    return int(shown(name)) / 1e6


def pid() -> int:
    return int(shown("MainPID"))


def restarts() -> int:
    return int(shown("NRestarts"))


def up() -> bool:
    return shown("ActiveState") == "active" and SOCKET.exists()


def ask(verb: str, **args: Any) -> Any:
    return call(SOCKET, verb, args)


def outputs() -> dict[str, dict[str, Any]]:
    """What the daemon says of each output; empty while it cannot be asked."""
    try:
        return {output["name"]: output for output in ask("outputs")["outputs"]}
    except (LocalUnavailable, LocalRefused):
        return {}


def hold(output: str, level: float, **args: Any) -> None:
    ask("outputs.set", output=output, level=level, for_s=3600.0, why="virtual Pi", **args)


def release(output: str) -> None:
    if outputs()[output].get("override"):
        ask("outputs.release", output=output)


def wait_line(pin: int, high: bool) -> float:
    return until(lambda: lines.level(pin) is high, PATIENCE_S, f"GPIO {pin} is {lines.word(high)}")


def counts() -> int:
    on, off = drivers.channel_of(drivers.registers(), LIGHT)
    if off & 0x1000:
        return 0
    return 4096 if on & 0x1000 else (off - on) % 4096


def journal(*since: str) -> str:
    return subprocess.run(
        ["journalctl", "-u", UNIT, "-o", "cat", "--no-pager", *since], capture_output=True, text=True
    ).stdout


def ended_well() -> str:
    """What became of ExecStopPost; raises Failed unless it ran and returned 0."""
    said = shown("ExecStopPost")
    require("code=exited" in said and "status=0" in said, f"ExecStopPost: {said}")
    return "ExecStopPost exited 0"


# ------------------------------------------------------------------------------------------------ checks


def comes_up() -> str:
    try:
        until(up, PATIENCE_S, f"{UNIT} is up")
    except Failed:
        jobs = subprocess.run(["systemctl", "list-jobs", "--no-pager"], capture_output=True, text=True).stdout
        print(f"{shown('ActiveState')} {shown('Result')}\n{jobs}", flush=True)
        raise
    until(lambda: len(outputs()) == 3, PATIENCE_S, "three outputs are driven")
    require(shown("Type") == "notify" and shown("WatchdogUSec") == "30s", "not the unit that is shipped")
    for name, output in outputs().items():
        require(not output.get("fault"), f"output {name}: {output.get('fault')}")
    since_boot_s = _since_boot_s("ActiveEnterTimestampMonotonic")
    trace = lines.seen(RELAY, RETURN)
    require("out 1" in trace.calls(RELAY), f"the relay was not claimed: {trace.calls(RELAY)}")
    edges = trace.edges(RELAY)
    require(
        [edge.level for edge in edges] == [True], f"edges of the active-low relay since boot: {len(edges)}"
    )
    require(not trace.edges(RETURN), "the safe-on relay has moved")
    return (
        f"READY {since_boot_s:.0f} s after boot ({shown('StatusText')}); no pulse on either relay since boot"
    )


def drives() -> str:
    """By the command line, as root; the ramp goes to registers."""
    began_s = lines.now_s()
    answer = subprocess.run(
        ["/opt/tidewatt/bin/tidewatt", "outputs", "set", "relay", "on", "--for", "1h", "--why", "test"],
        capture_output=True,
        text=True,
    )
    require(answer.returncode == 0, f"outputs set: {answer.stderr.strip()}")
    wait_line(RELAY, False)
    hold("light", 0.5, over_s=3.0)
    until(lambda: counts() == 2048, PATIENCE_S, f"2048 counts (now {counts()})")
    time.sleep(2.0)
    require(counts() == 2048, f"{counts()} counts after the ramp")
    trace = lines.seen(RELAY)
    edges = trace.edges(RELAY, since_s=began_s)
    require([edge.level for edge in edges] == [False], f"edges: {lines.words(edges, began_s)}")
    writes = trace.smbus_writes(drivers.ADDRESS, since_s=began_s)
    ask("outputs.release", output="relay")
    wait_line(RELAY, True)
    return f"relay on by `tidewatt outputs set`: one edge; light ramped to 0.5 in {len(writes)} writes: 2048 counts"


def digital_arrives() -> str:
    def state() -> float | None:
        devices = ask("devices")["devices"]
        points = next(device["points"] for device in devices if device["name"] == "float")
        return next((point["value"] for point in points if point["series"] == "float.state"), None)

    until(lambda: state() == 0.0, PATIENCE_S, "an open float switch is 0")
    took: list[float] = []
    for step in range(4):
        closed = step % 2 == 0
        lines.pull(SWITCH, not closed)
        took.append(until(lambda wanted=float(closed): state() == wanted, PATIENCE_S, "it changes"))  # type: ignore[misc]
    return f"4 of 4 changes arrived, the slowest seen after {max(took):.1f} s"


def sandboxed() -> str:
    foreign = Path(os.environ["SIM"]) / f"sim_gpio{SWITCH}" / "pull"
    return sandbox.judge(pid(), shown("ReadWritePaths"), foreign)


def restart_without_pulse() -> str:
    """The relay is off throughout: not an edge, however often the line is claimed and let go."""
    began_s, before = lines.now_s(), pid()
    systemctl("restart", UNIT)
    until(lambda: up() and len(outputs()) == 3 and pid() != before, PATIENCE_S, "it is up again")
    trace = lines.seen(RELAY, RETURN)
    for pin in (RELAY, RETURN):
        calls, edges = trace.calls(pin, since_s=began_s), trace.edges(pin, since_s=began_s)
        require(
            "free" in calls and f"out {SAFE[pin]:d}" in calls, f"GPIO {pin}: not let go and claimed: {calls}"
        )
        require(not edges, f"GPIO {pin} at a restart: {lines.words(edges, began_s)}")
    calls = trace.calls(RELAY, since_s=began_s)
    return f"systemctl restart: no edge on the active-low and the safe-on relay in {len(calls)} calls each"


@contextmanager
def unsafe() -> Iterator[None]:
    """Relay on, return off, so that going safe can be seen; the overrides outlive a restart."""
    hold("relay", 1.0)
    hold("return", 0.0)
    wait_line(RELAY, False)
    wait_line(RETURN, True)
    yield
    until(lambda: len(outputs()) == 3, PATIENCE_S, "it can be asked again")
    release("relay")
    release("return")
    wait_line(RELAY, True)
    wait_line(RETURN, False)


def _comes_back(hang: Callable[[], None], within_s: float) -> str:
    """From what is done to it until it is up again; both lines safe in between, one edge each."""
    with unsafe():
        count, before, began_s = restarts(), pid(), lines.now_s()
        hang()
        wait_line(RELAY, True)
        until(lambda: restarts() > count and up() and pid() != before, PATIENCE_S, "it is up again")
        back_s = lines.now_s() - began_s
        start_s = _since_boot_s("ActiveEnterTimestampMonotonic") - _since_boot_s(
            "ExecMainStartTimestampMonotonic"
        )
        trace = lines.seen()
        first = {pin: trace.edges(pin, since_s=began_s)[:1] for pin in (RELAY, RETURN)}
        for pin, edges in first.items():
            require(bool(edges) and edges[0].level is SAFE[pin], f"GPIO {pin} did not go safe: {edges}")
        safe_s = max(edges[0].at_s for edges in first.values()) - began_s
        require(safe_s <= within_s + SAFE_SLACK_S, f"safe only after {safe_s:.1f} s")
        require(back_s <= within_s + BACK_SLACK_S, f"back only after {back_s:.1f} s")
        until(lambda: len(outputs()) == 3, PATIENCE_S, "it can be asked again")
        wait_line(RELAY, False)  # the override goes on
        edges = lines.seen(RELAY).edges(RELAY, since_s=began_s)
        levels = [edge.level for edge in edges]
        require(levels == [True, False], f"edges of the relay: {lines.words(edges, began_s)}")
    return (
        f"safe after {safe_s:.1f} s (bound {within_s + SAFE_SLACK_S:g}), up again after {back_s:.1f} s (bound "
        f"{within_s + BACK_SLACK_S:g}; {start_s:.1f} s of it the daemon's start), no other edge"
    )


def _watchdog(hang: Callable[[], None]) -> str:
    said = journal().count("Watchdog timeout")
    told = _comes_back(hang, WATCHDOG_S)
    require(journal().count("Watchdog timeout") == said + 1, "systemd's journal has no watchdog timeout")
    return f"killed by the watchdog: {told}"


def stopped_process() -> str:
    return _watchdog(lambda: os.kill(pid(), signal.SIGSTOP))


def hung_interpreter() -> str:
    """A call that never returns and never gives the interpreter back; the task of control stands with the rest."""
    return _watchdog(lambda: HANG.touch())


def hung_control() -> str:
    """The task of control alone: what else is on the event loop lives, and must not keep it from being noticed."""
    answered: list[str] = []

    def hang() -> None:
        before = pid()
        HANG_CONTROL.touch()
        time.sleep(ANSWERS_S)
        require(len(outputs()) == 3 and pid() == before, "the rest of the daemon hangs too")
        age_s = until(lambda: ask("status") is not None, PATIENCE_S, "status")
        answered.append(f"{ANSWERS_S + age_s:.1f}")

    told = _watchdog(hang)
    return f"its socket answered {answered[0]} s into the hang; {told}"


@contextmanager
def _bus_hangs() -> Iterator[None]:
    """No transfer to the PCA9685 returns; nobody may ask its registers meanwhile."""
    BUS_HANG.write_text(str(drivers.ADDRESS))
    try:
        yield
    finally:
        BUS_HANG.write_text("0")


def hung_bus() -> str:
    """The chip's bus hangs for longer than the watchdog waits: nothing else notices."""
    hold("light", 0.5)
    until(lambda: counts() == 2048, PATIENCE_S, "light at 0.5")
    before, began_s = (pid(), restarts()), lines.now_s()
    with _bus_hangs():
        stuck_s = until(lambda: outputs()["light"]["state"] == "stuck", PATIENCE_S, "it is called stuck")
        require("hangs" in outputs()["light"]["fault"], str(outputs()["light"]))
        hold("relay", 1.0)
        relay_s = wait_line(RELAY, False)
        time.sleep(max(0.0, began_s + WATCHDOG_S * 1.5 - lines.now_s()))
        require(outputs()["light"]["state"] == "stuck", "it does not hang any more")
        release("relay")
        wait_line(RELAY, True)
        hung_s = lines.now_s() - began_s
    back_s = until(lambda: outputs()["light"]["state"] == "up", PATIENCE_S, "it is up again")
    require((pid(), restarts()) == before, "the daemon was restarted")
    require(counts() == 2048, f"{counts()} counts after it")
    writes = lines.seen().smbus_writes(drivers.ADDRESS, since_s=began_s)
    require(not writes, f"written, though it stood right: {writes}")
    return (
        f"stuck seen after {stuck_s:.1f} s, a relay driven beside it within {relay_s:.1f} s; {hung_s:.0f} s of it "
        f"starve no watchdog; up again {back_s:.1f} s after it, 2048 counts, nothing written"
    )


def killed() -> str:
    return "kill -9: " + _comes_back(lambda: os.kill(pid(), signal.SIGKILL), 0.0)


def stops() -> str:
    hold("light", 0.5)
    hold("relay", 1.0)
    hold("return", 0.0)
    until(lambda: counts() == 2048, PATIENCE_S, "light at 0.5")
    wait_line(RELAY, False)
    wait_line(RETURN, True)
    began_s = lines.now_s()
    systemctl("stop", UNIT)
    ended = ended_well()
    require(shown("Result") == "success", f"Result={shown('Result')}")
    trace = lines.seen(RELAY, RETURN)
    for pin in (RELAY, RETURN):
        edges = trace.edges(pin, since_s=began_s)
        require([edge.level for edge in edges] == [SAFE[pin]], f"GPIO {pin}: {lines.words(edges, began_s)}")
    require(counts() == 0, f"the light has {counts()} counts")
    return f"relays safe with one edge each, light 0 counts, {ended}"


def killed_without_stop_post() -> str:
    """No code runs after the kill: the kernel lets the lines go, and the chip keeps what it has."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text("[Service]\nExecStopPost=\nRestart=no\n")
    systemctl("daemon-reload")
    systemctl("start", UNIT)
    until(lambda: len(outputs()) == 3, PATIENCE_S, "it can be asked")
    wait_line(RELAY, False)  # the overrides of before
    wait_line(RETURN, True)
    until(lambda: counts() == 2048, PATIENCE_S, f"light at 0.5 again (now {counts()})")
    require(shown("ExecStopPost") == "", f"ExecStopPost: {shown('ExecStopPost')}")
    killed_s = lines.now_s()
    os.kill(pid(), signal.SIGKILL)
    until(lambda: shown("ActiveState") == "failed", PATIENCE_S, "systemd sees it dead")
    time.sleep(1.0)
    trace = lines.seen(RELAY, RETURN)
    for pin in (RELAY, RETURN):
        require(lines.level(pin) is SAFE[pin], f"GPIO {pin} does not stand at safe")
        edges = trace.edges(pin, since_s=killed_s)
        require([edge.level for edge in edges] == [SAFE[pin]], f"GPIO {pin}: {lines.words(edges, killed_s)}")
        require(
            trace.calls(pin, since_s=killed_s) == ["free"], f"calls: {trace.calls(pin, since_s=killed_s)}"
        )
    return "safe-off and safe-on relay at safe, by nothing but the kernel's release"


def light_untouched() -> str:
    """The daemon after the one that was killed finds the light at 0.5 by an override that goes on."""
    before, began_s = drivers.registers(), lines.now_s()
    systemctl("reset-failed", UNIT)
    systemctl("start", UNIT)
    until(lambda: len(outputs()) == 3, PATIENCE_S, "it can be asked")
    until(lambda: outputs()["light"].get("level") == 0.5, PATIENCE_S, "the override goes on")
    time.sleep(3.0)
    writes = lines.seen().smbus_writes(drivers.ADDRESS, since_s=began_s)
    require(drivers.registers() == before, f"registers changed; written: {writes}")
    require(not writes, f"a restart in which nothing changes wrote, in this order: {writes}")
    return "light stays at 2048 counts over kill -9 and start, without a write"


def starts_beside_a_hung_bus() -> str:
    """The first decision waits for it no longer than FIND_S; the light is left where it stands until it can be read."""
    os.kill(pid(), signal.SIGKILL)
    until(lambda: shown("ActiveState") == "failed", PATIENCE_S, "systemd sees it dead")
    systemctl("reset-failed", UNIT)
    began_s = lines.now_s()
    with _bus_hangs():
        systemctl("start", UNIT)
        wait_line(RELAY, False)  # the override of before
        until(lambda: outputs().get("light", {}).get("state") == "stuck", PATIENCE_S, "it is called stuck")
    trace = lines.seen(RELAY)
    edges, claims = trace.edges(RELAY, since_s=began_s), trace.calls_at(RELAY, "out", since_s=began_s)
    require([edge.level for edge in edges] == [False], f"edges: {lines.words(edges, began_s)}")
    first_s = edges[0].at_s - claims[0]
    require(first_s <= FIND_S + FIRST_SLACK_S, f"driven only {first_s:.1f} s after its claim")
    until(lambda: outputs()["light"].get("state") == "up", PATIENCE_S, "the light is up")
    until(lambda: counts() == 2048, PATIENCE_S, f"2048 counts (now {counts()})")
    return (
        f"the relay's override is driven {first_s:.1f} s after the line's claim at safe (bound "
        f"{FIND_S + FIRST_SLACK_S:g}, {FIND_S:g} s of it the wait for the bus); the light is right when the bus is"
    )


CHECKS: Final = [
    ("unit: comes up, no pulse since boot", comes_up),
    ("daemon: relay and PCA9685 ramp", drives),
    ("daemon: digital input", digital_arrives),
    ("unit: what its sandbox lets it write", sandboxed),
    ("unit: restart without a pulse", restart_without_pulse),
    ("unit: hung by SIGSTOP", stopped_process),
    ("unit: hung inside a driver that holds the interpreter", hung_interpreter),
    ("unit: the task of control hung alone", hung_control),
    ("daemon: hung I2C bus", hung_bus),
    ("unit: kill -9", killed),
    ("unit: stop", stops),
    ("unit: kill -9 without ExecStopPost", killed_without_stop_post),
    ("daemon: PCA9685 untouched by a restart", light_untouched),
    ("daemon: start beside a hung I2C bus", starts_beside_a_hung_bus),
]


def main() -> int:
    failed = run(CHECKS[:1])
    if not failed:  # one that does not come up cannot be hung, killed or stopped
        failed = run(CHECKS[1:])
    if failed:
        print(journal("-n", "80"), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
