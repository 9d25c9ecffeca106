"""Checks of outputs against the hardware: pins, who holds them, contacts, circuits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from drivers.base import HoldBy
from drivers.boards import PULLED_UP_BY_BOARD, Board
from drivers.catalog import Claim, installed
from drivers.pca9685 import Pca9685Options
from drivers.relay import Hold, RelayOptions, line_level
from edge.control.circuits import loads
from edge.control.config import OutputCommon, terms_of
from edge.control.parts import DeviceTable, Mistakes, Parts, guess
from edge.control.rules import Kind
from edge.tomllines import KeyPath

NEEDS_HOLD: Final = frozenset({Kind.HEATER, Kind.CHILLER, Kind.DOSER, Kind.TOPOFF})
"""What does harm when it is left on: somebody has to switch it off while the daemon is hung or dead."""
BREATHES: Final = frozenset({Kind.RETURN, Kind.AIR})
LIVES_BY_IT: Final = NEEDS_HOLD | BREATHES
KEYS: Final = ("channel", "address", "host", "part")
"""Options that say which piece of hardware is meant, the most particular first."""


def hardware(parts: Parts, board: Board) -> Mistakes:
    """Everything about hardware, output by output."""
    yield from _clashes(parts)
    yield from _device_pins(parts, board)
    for index, output in parts.outputs.items():
        for key, text in _of_output(output, board):
            yield ("outputs", index, key), text
    yield from _chips(parts)
    yield from _circuits(parts)


def _of_output(output: OutputCommon, board: Board) -> Iterator[tuple[str, str]]:
    driver = installed().outputs[output.driver]
    for claim in driver.claims(output):
        refused = board.refuse(claim.pin, claim.use) if claim.pin is not None else ""
        if refused:
            yield _key_of(output, claim), refused
    refused = driver.refuse(output, terms_of(output))
    if refused:
        yield "hold_s" if refused.startswith("hold_s") else "safe", refused
    elif not driver.dimmable(output):
        yield from _whole_levels(output)
    yield from _hold(output, driver.hold_by(output), board)
    options = relay_options(output)
    if options is not None and not refused:
        yield from _relay(output, options, board)


def _whole_levels(output: OutputCommon) -> Iterator[tuple[str, str]]:
    for key in ("safe", "default"):
        level = getattr(output, key)
        if level not in (None, 0.0, 1.0):
            yield key, f"this output is on or off: {key} = {level:g} is neither; set {key} = 0 or {key} = 1"


# ------------------------------------------------------------------------------------------- pins


def _claims(parts: Parts) -> Iterator[tuple[KeyPath, str, Claim]]:
    """Everything that is claimed: where, by whom, what."""
    for index, device in parts.devices.items():
        for claim in _device_claims(device):
            yield ("devices", index, _key_of(device, claim)), f"device {device.name}", claim
    for index, output in parts.outputs.items():
        for claim in installed().outputs[output.driver].claims(output):
            yield ("outputs", index, _key_of(output, claim)), f"output {output.name}", claim


def _device_claims(device: DeviceTable) -> Sequence[Claim]:
    claims = installed().drivers[device.driver].claims
    return claims(device) if claims else ()


def _device_pins(parts: Parts, board: Board) -> Mistakes:
    for index, device in parts.devices.items():
        for claim in _device_claims(device):
            refused = board.refuse(claim.pin, claim.use) if claim.pin is not None else ""
            if refused:
                yield ("devices", index, _key_of(device, claim)), refused


def _clashes(parts: Parts) -> Mistakes:
    """Two writers of one pin or channel."""
    seen: list[tuple[str, Claim]] = []
    for path, who, claim in _claims(parts):
        other = next((owner for owner, taken in seen if owner != who and taken.clashes(claim)), "")
        if other:
            yield path, f"{claim.what} belongs to {other} already; give each its own"
        seen.append((who, claim))


def _key_of(config: Any, claim: Claim) -> str:
    """The option that makes the claim."""
    fields: Iterable[str] = type(config).model_fields
    if claim.pin is not None:
        pins = (key for key in fields if key.endswith("pin") and getattr(config, key) == claim.pin)
        return next(pins, "driver")
    return next((key for key in KEYS if key in fields), "driver")


def _chips(parts: Parts) -> Mistakes:
    """What the channels of one PCA9685 share; a channel that does not name the OE pin is behind it all the same."""
    first: dict[tuple[int, int], tuple[str, Pca9685Options]] = {}
    for index, output in parts.outputs.items():
        options = pca9685_options(output)
        if options is None:
            continue
        name, other = first.setdefault((options.i2c, options.address), (output.name, options))
        for key in ("oe_pin", "frequency_hz"):
            own, others = getattr(options, key), getattr(other, key)
            if own != others:
                said = f"{key} = {others:g}" if others is not None else f"no {key}"
                yield (
                    ("outputs", index, key),
                    f"all channels of a chip share it, and {name} on the same chip has {said}; say the same at both",
                )


def pca9685_options(output: object) -> Pca9685Options | None:
    """The same table, seen as its driver sees it."""
    return output if isinstance(output, Pca9685Options) else None


# ------------------------------------------------------------------------------------------- holds


def _hold(output: OutputCommon, by: HoldBy, board: Board) -> Iterator[tuple[str, str]]:
    """Whether somebody makes it safe while the daemon is hung or dead."""
    if by is HoldBy.NOBODY:
        yield from _held_by_nobody(output)
    elif by is HoldBy.DEVICE and output.kind in NEEDS_HOLD and not output.hold_s:
        yield (
            "hold_s",
            (
                f"{article(output.kind)} that is left on does harm, and without hold_s it stays on when the daemon or "
                "the network dies; add hold_s = 60"
            ),
        )
    elif by is not HoldBy.DEVICE and (output.kind in LIVES_BY_IT or output.hold_s):
        claims = installed().outputs[output.driver].claims(output)
        pins = [claim for claim in claims if claim.pin is not None]
        refused = board.refuse_hold() if pins else ""
        if refused:
            yield _key_of(output, pins[0]), refused


def _held_by_nobody(output: OutputCommon) -> Iterator[tuple[str, str]]:
    if output.kind in NEEDS_HOLD:
        yield (
            "driver",
            (
                f"nobody switches this {output.kind.value} off while the daemon is hung or dead; put it on a relay, "
                "on a Shelly with hold_s, or behind a PCA9685's oe_pin"
            ),
        )
    elif output.hold_s:
        yield (
            "hold_s",
            (
                f"nobody enforces hold_s = {output.hold_s:g} on this hardware while the daemon is hung or dead; remove "
                "it, or put the output on a relay, a Shelly, or behind a PCA9685's oe_pin"
            ),
        )


def article(kind: Kind) -> str:
    word = "top-off" if kind is Kind.TOPOFF else kind.value
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def relay_options(output: object) -> RelayOptions | None:
    """The same table, seen as its driver sees it."""
    return output if isinstance(output, RelayOptions) else None


def _relay(output: OutputCommon, options: RelayOptions, board: Board) -> Iterator[tuple[str, str]]:
    driver = installed().outputs[output.driver]
    advised = driver.advise(options, terms_of(output))
    if advised:
        yield "contact", advised
    high = line_level(options, output.safe)
    if options.pull is Hold.EXTERNAL:
        return
    fixed = options.pin in PULLED_UP_BY_BOARD and not high
    if fixed or (board.is_pi and output.kind in NEEDS_HOLD):
        # Off a Pi nobody knows what its config.txt does to the pins.
        advised = board.advise_safe_level(options.pin, high)
        if advised:
            yield "pin", advised


# ---------------------------------------------------------------------------------------- circuits


def _circuits(parts: Parts) -> Mistakes:
    """Loads that are on at once when their lines are let go, at boot or when the daemon dies."""
    circuits = parts.control.circuits
    for index, output in parts.outputs.items():
        if output.circuit and output.circuit not in circuits:
            yield (
                ("outputs", index, "circuit"),
                (
                    f'there is no circuit "{output.circuit}"; {guess(output.circuit, tuple(circuits))}: a circuit is '
                    f"[control.circuits.{output.circuit}] with its max_w"
                ),
            )
    for load in loads(parts.outputs.values(), parts.control):
        if load.released_w > load.max_w:
            yield (
                ("control", "circuits", load.name, "max_w"),
                (
                    f"carries {load.max_w:g} W, but {' and '.join(load.released)} ({load.released_w:g} W) come on at "
                    "once when their lines are let go, at boot or when the daemon dies; move one of them to another "
                    "circuit"
                ),
            )
