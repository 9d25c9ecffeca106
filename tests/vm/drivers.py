"""Relays, PCA9685 and digital inputs in processes that are started, stopped and killed, without any daemon."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import smbus2

from tests.vm import lines, scan
from tests.vm.checks import Failed, require, run, until

ACTIVE_LOW: Final = 17  # safe off: the line is high
SAFE_ON: Final = 5  # a return pump on a normally open contact, safe on: the line is high
NC: Final = 6  # the same on a normally closed contact: the line is low
OE: Final = 27
SWITCH: Final = 22
NAIVE: Final = 26
ADDRESS: Final = 0x40
MODE1: Final = 0x00
LED0: Final = 0x06
PRE_SCALE: Final = 0xFE
PATIENCE_S: Final = 60.0
BUS: Final = int(os.environ.get("I2C", "0"))

RELAY: Final = {
    "do": "output", "name": "heater", "driver": "relay", "safe": 0.0,
    "options": {"pin": ACTIVE_LOW, "active_low": True},
}  # fmt: skip
RETURN: Final = {
    "do": "output",
    "name": "return",
    "driver": "relay",
    "safe": 1.0,
    "options": {"pin": SAFE_ON},
}
AIR: Final = {
    "do": "output", "name": "air", "driver": "relay", "safe": 1.0, "options": {"pin": NC, "contact": "nc"},
}  # fmt: skip


class Process:
    """A holder (holder.py) as the parent sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.vm.holder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.changed = 0
        self._hear("ready")

    def tell(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._hear("ok")

    def _hear(self, key: str) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if key in answer:
                return answer[key]
            if "error" in answer:
                raise Failed(f"the driver said: {answer['error']}")
            self.changed += 1
        raise Failed(f"the process ended with {self._process.wait()}")

    def end(self) -> None:
        """As a process ends that has nothing to say about its lines."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """kill -9: nothing of its own runs any more."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)


@contextmanager
def process() -> Iterator[Process]:
    holder = Process()
    try:
        yield holder
    finally:
        holder.kill()


# ---------------------------------------------------------------------------------------------- relays


def a_pulse_is_seen() -> str:
    """The trace can fail: a line claimed in the usual way shows a pulse on an active-low relay."""
    lines.pull(NAIVE, True)
    began_s = lines.now_s()
    with process() as holder:
        holder.tell(do="naive", pin=NAIVE)
        edges = lines.seen(NAIVE).edges(NAIVE, since_s=began_s)
    require([edge.level for edge in edges] == [False, True], f"edges: {lines.words(edges, began_s)}")
    return f"claimed low, then set high: a pulse of {(edges[1].at_s - edges[0].at_s) * 1e6:.0f} µs is in the trace"


def no_pulse_at_claim_and_release() -> str:
    require(lines.level(ACTIVE_LOW), "GPIO 17 is not pulled up before the test")
    began_s = lines.now_s()
    with process() as holder:
        holder.tell(**RELAY)
        holder.tell(do="write", name="heater", level=0.0)
        holder.tell(do="release", name="heater")
        holder.tell(**RELAY)
        require(holder.tell(do="read", name="heater") == 0.0, "read back: not off")
        holder.end()
    trace = lines.seen(ACTIVE_LOW)
    edges, calls = trace.edges(ACTIVE_LOW, since_s=began_s), trace.calls(ACTIVE_LOW, since_s=began_s)
    require("out 1" in calls and "free" in calls, f"the trace lacks the claim or the release: {calls}")
    require(
        not edges, f"edges on an active-low relay that was never turned on: {lines.words(edges, began_s)}"
    )
    return f"no edge in {len(calls)} calls ({', '.join(calls)})"


def only_the_commanded_edges() -> str:
    """On, off, on, then the process ends; the next one claims, commands and ends."""
    began_s = lines.now_s()
    for _ in range(2):
        with process() as holder:
            holder.tell(**RELAY)
            for level in (1.0, 0.0, 1.0):
                holder.tell(do="write", name="heater", level=level)
            require(not lines.level(ACTIVE_LOW), "on is not low")
            holder.end()
        require(lines.level(ACTIVE_LOW), "the process ended and the line is not at safe")
    edges = lines.seen(ACTIVE_LOW).edges(ACTIVE_LOW, since_s=began_s)
    expected = [False, True, False, True] * 2  # the last of each is the kernel's, as the process ends
    require([edge.level for edge in edges] == expected, f"edges: {lines.words(edges, began_s)}")
    return f"{len(edges)} edges for 2 x (on, off, on, end), none between"


def release_is_safe() -> str:
    began_s = lines.now_s()
    with process() as holder:
        for output in (RELAY, RETURN, AIR):
            holder.tell(**output)
        holder.tell(do="write", name="heater", level=1.0)
        holder.tell(do="write", name="return", level=0.0)
        holder.tell(do="write", name="air", level=0.0)
        for name in ("heater", "return", "air"):
            holder.tell(do="release", name=name)
        stood = (lines.level(ACTIVE_LOW), lines.level(SAFE_ON), lines.level(NC))
        require(stood == (True, True, False), f"after release: {stood}")
    trace = lines.seen(ACTIVE_LOW, SAFE_ON, NC)
    counts = [len(trace.edges(pin, since_s=began_s)) for pin in (ACTIVE_LOW, SAFE_ON, NC)]
    require(counts == [2, 2, 2], f"edges of heater, return, air: {counts}, not one there and one back")
    return "safe-off (active low), safe-on (no) and safe-on (nc) went safe, one edge there and one back each"


def killed_is_safe() -> str:
    """kill -9 while all three are as unsafe as they can be; no code of ours runs afterwards."""
    with process() as holder:
        for output in (RELAY, RETURN, AIR):
            holder.tell(**output)
        holder.tell(do="write", name="heater", level=1.0)
        holder.tell(do="write", name="return", level=0.0)
        holder.tell(do="write", name="air", level=0.0)
        before = (lines.level(ACTIVE_LOW), lines.level(SAFE_ON), lines.level(NC))
        require(before == (False, False, True), f"before the kill the lines are {before}")
        killed_s = lines.now_s()
        holder.kill()
    trace = lines.seen(ACTIVE_LOW, SAFE_ON, NC)
    after = (lines.level(ACTIVE_LOW), lines.level(SAFE_ON), lines.level(NC))
    require(after == (True, True, False), f"after kill -9 the lines are {after}")
    took = [trace.edges(pin, since_s=killed_s) for pin in (ACTIVE_LOW, SAFE_ON, NC)]
    require(
        [len(edges) for edges in took] == [1, 1, 1], f"edges after the kill: {[len(one) for one in took]}"
    )
    last_ms = max(edges[0].at_s - killed_s for edges in took) * 1000
    return f"safe-off and both safe-on relays at safe, one edge each, {last_ms:.1f} ms after kill -9"


# ---------------------------------------------------------------------------------------------- PCA9685


def light(channel: int, oe_pin: int | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"channel": channel, "address": ADDRESS, "i2c": BUS}
    if oe_pin is not None:
        options["oe_pin"] = oe_pin
    return {"do": "output", "name": f"light{channel}", "driver": "pca9685", "safe": 0.0, "options": options}


def registers() -> list[int]:
    """All 256 of the chip, past the driver."""
    with smbus2.SMBus(BUS) as bus:
        return [bus.read_byte_data(ADDRESS, register) for register in range(256)]


def power_up() -> None:
    """What the data sheet says of the registers after power-up: asleep, 200 Hz, every channel fully off."""
    with smbus2.SMBus(BUS) as bus:
        bus.write_byte_data(ADDRESS, MODE1, 0x11)
        bus.write_byte_data(ADDRESS, 0x01, 0x04)
        bus.write_byte_data(ADDRESS, PRE_SCALE, 0x1E)
        for channel in range(16):
            bus.write_i2c_block_data(ADDRESS, LED0 + 4 * channel, [0, 0, 0, 0x10])


def channel_of(found: list[int], channel: int) -> tuple[int, int]:
    on_low, on_high, off_low, off_high = found[LED0 + 4 * channel : LED0 + 4 * channel + 4]
    return on_low | on_high << 8, off_low | off_high << 8


def pca9685_ramp() -> str:
    power_up()
    with process() as holder:
        holder.tell(**light(0))
        holder.tell(**light(7))
        for step in range(51):
            holder.tell(do="write", name="light0", level=step / 50)
            holder.tell(do="write", name="light7", level=step / 100)
            wanted = round(step / 100 * 4096)
            on, off = channel_of(registers(), 7)
            require((off - on) % 4096 == wanted, f"step {step}: ON {on} OFF {off}, not {wanted} counts")
        found = registers()
        read = holder.tell(do="read", name="light7")
    full, half, other = channel_of(found, 0), channel_of(found, 7), channel_of(found, 3)
    require(full == (0x1000, 0), f"channel 0 after a ramp to 1.0: ON {full[0]:#x} OFF {full[1]:#x}")
    require(half == (0, 2048), f"channel 7 after a ramp to 0.5: ON {half[0]:#x} OFF {half[1]:#x}")
    require(other[1] & 0x1000 != 0 or other == (0, 0), f"channel 3, which nobody drives: {other}")
    require(not found[MODE1] & 0x10, f"MODE1 {found[MODE1]:#04x}: it sleeps")
    require(found[PRE_SCALE] == 5, f"PRE_SCALE {found[PRE_SCALE]}, not 5 (1 kHz)")
    require(read == 0.5, f"read back {read}")
    return (
        "51 steps right; at the end full-on bit at 1.0 and OFF = 2048 at 0.5; awake, PRE_SCALE 5, others off"
    )


def pca9685_restart() -> str:
    """The process before was killed at full light; the next ones take the chip over as it is."""
    before, began_s = registers(), lines.now_s()
    with process() as holder:
        holder.tell(**light(0))
        holder.tell(**light(7))
        read = [holder.tell(do="read", name=name) for name in ("light0", "light7")]
        require(read == [1.0, 0.5], f"read back after the restart: {read}")
        holder.tell(do="write", name="light0", level=1.0)
        holder.tell(do="write", name="light7", level=0.5)
    writes = lines.seen().smbus_writes(ADDRESS, since_s=began_s)
    changed = [
        register for register, (old, new) in enumerate(zip(before, registers(), strict=True)) if old != new
    ]
    require(not changed, f"registers changed by a restart: {changed}")
    require(not writes, f"written by a restart that changes nothing: {writes}")
    return "256 registers the same, not one write on the bus, levels 1.0 and 0.5 read back"


def pca9685_oe() -> str:
    """Behind OE: disabled until it is set up, enabled while it is driven, disabled by kill -9."""
    power_up()
    lines.pull(OE, True)
    began_s = lines.now_s()
    with process() as holder:
        holder.tell(**light(2, OE))
        holder.tell(do="write", name="light2", level=0.25)
        require(not lines.level(OE), "OE is not low while the chip is driven")
        holder.kill()
    trace = lines.seen(OE)
    edges = trace.edges(OE, since_s=began_s)
    require([edge.level for edge in edges] == [False, True], f"edges of OE: {lines.words(edges, began_s)}")
    enabled_s = edges[0].at_s
    early = [
        event for event in trace.events if event.name == "smbus_write" and began_s <= event.at_s < enabled_s
    ]
    require(bool(early), "OE was enabled before the chip was set up")
    return f"OE high through {len(early)} writes of set-up, low while driven, high after kill -9"


# --------------------------------------------------------------------------------------- digital input


def bounce(times: int, last_high: bool) -> float:
    """Toggle the switch's line so often; the longest time in seconds that it stood in between."""
    longest_s, then_s = 0.0, time.monotonic()
    for step in range(times):
        lines.pull(SWITCH, last_high if (times - 1 - step) % 2 == 0 else not last_high)
        now_s = time.monotonic()
        longest_s, then_s = max(longest_s, now_s - then_s), now_s
    return longest_s


def digital_edges() -> str:
    """Ten changes, each after the one before has been told."""
    with process() as holder:
        holder.tell(
            do="input",
            name="float",
            options={"pin": SWITCH, "kind": "float", "pull": "up", "debounce_ms": 20},
        )
        first = holder.tell(do="sample", name="float")
        require(first == {"state": 0.0, "changes": 0.0}, f"an open switch reads {first}")
        for count in range(1, 11):
            closed = count % 2 == 1
            lines.pull(SWITCH, not closed)

            def told(count: int = count) -> bool:
                return bool(holder.tell(do="sample", name="float")["changes"] >= count)

            until(told, PATIENCE_S, f"change {count} arrives")
            got = holder.tell(do="sample", name="float")
            require(got == {"state": float(closed), "changes": float(count)}, f"after change {count}: {got}")
        until(
            lambda: holder.tell(do="sample", name="float") != {} and holder.changed >= 10, PATIENCE_S, "told"
        )
        require(holder.changed == 10, f"on_change was called {holder.changed} times for 10 changes")
    return "10 of 10 changes arrived, each told once by on_change, state right after each"


def digital_debounce() -> str:
    """21 toggles within the debounce time count as one change, and at once back as none."""
    debounce_s = 2.0
    with process() as holder:
        holder.tell(
            do="input", name="leak",
            options={"pin": SWITCH, "kind": "leak", "pull": "up", "debounce_ms": round(debounce_s * 1000)},
        )  # fmt: skip
        longest_s = bounce(21, last_high=False)
        require(longest_s < debounce_s, f"this machine stood still for {longest_s:.1f} s; run it again")
        at_once = holder.tell(do="sample", name="leak")

        def told() -> bool:
            return bool(holder.tell(do="sample", name="leak")["state"] == 1.0)

        took_s = until(told, PATIENCE_S, "the change is told")
        got = holder.tell(do="sample", name="leak")
        require(got["changes"] == 1.0, f"{got['changes']:g} changes for one that bounced")
        require(at_once["state"] == 0.0, f"told before the debounce time was over: {at_once}")
        longest_s = max(longest_s, bounce(20, last_high=False))
        time.sleep(debounce_s * 1.5)
        after = holder.tell(do="sample", name="leak")
        require(after == {"state": 1.0, "changes": 1.0}, f"bounces back to where it was: {after}")
    return f"21 toggles (at most {longest_s * 1000:.0f} ms apart): 1 change, after {took_s:.1f} s of {debounce_s:g}"


# ------------------------------------------------------------------------------------------- S0 pulses


def one_processor() -> None:
    """Keep the hand on the switch and the kernel's thread that notices it on one processor, as wire and chip are.

    On two of them that an emulator runs in turns the thread may come so late that it takes two edges for one.
    """
    threads = [
        path.parent for path in Path("/proc").glob("[0-9]*/comm") if path.read_text().startswith("irq/")
    ]
    for thread in threads:
        with contextlib.suppress(OSError):  # some are bound to a processor of their own
            os.sched_setaffinity(int(thread.name), {0})
    os.sched_setaffinity(0, {0})


def s0_pulses() -> str:
    """A hundred pulses a second for a minute, or as many as this machine can give; none is lost, none is added."""
    pulses, half_s, least_s = 6000, 0.005, 0.003
    options = {
        "pin": SWITCH, "imp_per_kwh": 1000, "max_w": 1e9, "pull": "up", "debounce_ms": 0, "pulse_min_ms": 0,
    }  # fmt: skip
    with process() as holder:
        holder.tell(do="input", driver="s0", name="meter", options=options)
        processors = os.sched_getaffinity(0)
        one_processor()
        began_s = time.monotonic()
        for half in range(2 * pulses):
            # What this machine is late is caught up with slowly: no contact gives many pulses at once.
            time.sleep(max(least_s, began_s + half * half_s - time.monotonic()))
            lines.pull(SWITCH, half % 2 == 1)
        took_s = time.monotonic() - began_s
        os.sched_setaffinity(0, processors)
        time.sleep(2.0)
        found = holder.tell(do="sample", name="meter")
    require(found["count"] == pulses, f"{found['count']:g} pulses counted of {pulses} in {took_s:.1f} s")
    require(found["energy"] == pulses / 1000, f"energy {found['energy']} kWh")
    return f"{pulses} of {pulses} pulses in {took_s:.1f} s ({pulses / took_s:.0f} Hz)"


if __name__ == "__main__":
    sys.exit(
        run(
            [
                ("trace sees a pulse", a_pulse_is_seen),
                ("relay: no pulse at claim, release and end", no_pulse_at_claim_and_release),
                ("relay: only commanded edges over a restart", only_the_commanded_edges),
                ("relay: release is safe", release_is_safe),
                ("relay: kill -9 without ExecStopPost is safe", killed_is_safe),
                ("pca9685: counts after a ramp", pca9685_ramp),
                ("pca9685: untouched by a restart", pca9685_restart),
                ("pca9685: OE", pca9685_oe),
                ("digital: edges arrive", digital_edges),
                ("digital: debounce", digital_debounce),
                ("s0: no pulse is lost at 100 Hz", s0_pulses),
                *scan.CHECKS,
            ]
        )
    )
