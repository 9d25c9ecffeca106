"""What `tidewatt config check` advises about hardware: what fails together, who holds what, loads, simulated parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from drivers.base import DriverError, HoldBy
from drivers.boards import Board
from drivers.catalog import installed
from drivers.pca9685 import Pca9685Options
from drivers.plant import PARTS
from drivers.relay import Hold, RelayOptions, line_level
from drivers.sim import Model, SimOptions
from drivers.sim_outputs import SimOutputOptions
from edge.control.check_hardware import BREATHES, NEEDS_HOLD, pca9685_options, relay_options
from edge.control.circuits import loads
from edge.control.config import OutputCommon, terms_of
from edge.control.parts import DeviceTable, Mistakes, Parts
from edge.control.rules import Kind
from edge.control.wiring import both_words, fails_with_both, wiring_of
from edge.tomllines import KeyPath

WATERS: Final = (Model.TANK, Model.PROBE)
MOVES_WATER: Final = frozenset({Kind.HEATER, Kind.CHILLER, Kind.TOPOFF})
KERNEL_I2C: Final = re.compile(r"(\d+)-[0-9a-f]{4}")
"""How the kernel names a chip on I2C: bus and address."""


def of_output(parts: Parts, output: OutputCommon, board: Board) -> Mistakes:
    """Where in an output's table, and what can happen and what to do."""
    yield from _hardware(parts, output, board)
    yield from _cut_off_together(parts, output)
    yield from _simulated(parts, output)


def of_circuits(parts: Parts) -> Mistakes:
    """Loads with everything on, and those that do not count."""
    for load in loads(parts.outputs.values(), parts.control):
        if load.all_w > load.max_w:
            yield (
                ("control", "circuits", load.name, "max_w"),
                (
                    f"carries {load.max_w:g} W, and what hangs on it draws {load.all_w:g} W: with all of it on, its "
                    "breaker takes the pumps along; move a load to another circuit"
                ),
            )
    for index, output in parts.outputs.items():
        if output.circuit and output.safe > 0 and not output.power_w:
            yield (
                ("outputs", index, "circuit"),
                f"comes on at once at boot and counts as 0 W on circuit {output.circuit}; add power_w",
            )


def _hardware(parts: Parts, output: OutputCommon, board: Board) -> Mistakes:
    driver = installed().outputs[output.driver]
    relay, pca9685 = relay_options(output), pca9685_options(output)
    if relay is not None:
        yield from _relay_at_boot(output, relay, board)
    else:
        yield from _said(("hold_s",), driver.advise(output, terms_of(output)))
    if pca9685 is not None:
        yield from _shared_bus(parts, pca9685)
    if output.kind in BREATHES and driver.hold_by(output) is HoldBy.NOBODY:
        yield (
            ("driver",),
            (
                f"nobody turns this {output.kind.value} pump on while the daemon is hung or dead: off stays off; "
                'put it on a relay with contact = "nc", or on a Shelly with hold_s'
            ),
        )


def _relay_at_boot(output: OutputCommon, options: RelayOptions, board: Board) -> Mistakes:
    """What does no harm for a moment is not refused, only told."""
    if board.is_pi and options.pull is not Hold.EXTERNAL and output.kind not in NEEDS_HOLD:
        yield from _said(("pin",), board.advise_safe_level(options.pin, line_level(options, output.safe)))


def _shared_bus(parts: Parts, options: Pca9685Options) -> Mistakes:
    there = [device.name for device in parts.devices.values() if _i2c_of(device) == options.i2c]
    if there and options.oe_pin is None:
        yield (
            ("i2c",),
            (
                f"{' and '.join(there)} on the same bus can hang it, and then nobody "
                "reaches this channel: it stays as it is; wire oe_pin, or give the chip a bus of its own "
                "(dtoverlay=i2c-gpio)"
            ),
        )


def _i2c_of(device: DeviceTable) -> int | None:
    """The number of the I2C bus that a device is read over; None where that is not known."""
    if not device.enabled:
        return None
    number = getattr(device, "i2c", None)
    if isinstance(number, int):
        return number
    found = KERNEL_I2C.search(str(getattr(device, "at", "")))
    return int(found[1]) if found else None


def _simulated(parts: Parts, output: OutputCommon) -> Mistakes:
    """A simulated output that nothing simulated feels: a trial with it shows nothing."""
    options = _sim_options(output)
    if options is None:
        return
    waters = dict(_plants(parts))
    if options.plant not in waters.values():
        if waters and output.kind in MOVES_WATER:
            text = f'no simulated tank feels it; add plant = "{options.plant}" to device {min(waters)}'
            yield ("plant",), text
    elif not options.part and {output.kind.value, output.name}.isdisjoint((*PARTS, Kind.CUTOFF.value)):
        known = ", ".join(PARTS)
        yield (
            ("kind",),
            f"moves nothing in the simulated plant, which knows {known} and cutoff; it is only shown",
        )


def _sim_options(output: object) -> SimOutputOptions | None:
    """The same table, seen as its driver sees it."""
    return output if isinstance(output, SimOutputOptions) else None


def _plants(parts: Parts) -> Iterator[tuple[str, str]]:
    """Simulated thermometers in water, and the plant of each."""
    for device in parts.devices.values():
        options: object = device
        if isinstance(options, SimOptions) and options.model in WATERS:
            yield device.name, options.plant


def _cut_off_together(parts: Parts, output: OutputCommon) -> Mistakes:
    """A cut-off that fails with what it is there for."""
    cutoff = parts.output(output.cutoff)
    if cutoff is None:
        return
    try:
        part = fails_with_both(wiring_of(output), wiring_of(cutoff))
    except DriverError:
        return  # a driver that cannot make its output says so where that is tried
    if part:
        yield ("cutoff",), both_words(part, cutoff.name)


def _said(path: KeyPath, text: str) -> Iterator[tuple[KeyPath, str]]:
    if text:
        yield path, text
