"""What `tidewatt config check` advises: a config that works, and could do harm all the same.

None of it is refused, so that no site stands still after an upgrade; each says what can happen, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from drivers.boards import Board
from edge.control import advice_hardware
from edge.control.check_hardware import BREATHES, NEEDS_HOLD
from edge.control.check_rules import fahrenheit
from edge.control.config import LimitConfig, OutputCommon, ThermostatConfig
from edge.control.parts import Mistakes, Parts, ReadDevice, parts_of
from edge.control.rules import OVERRIDE_MAX_S, Kind
from edge.control.sources import leans_on, probes_of
from edge.control.wiring import APART
from edge.tomllines import KeyPath

SILENT_MAX_S: Final = 600.0
"""What does harm must not run for longer on a value that nobody renews."""
ON_BATTERY: Final = frozenset({Kind.HEATER, Kind.CHILLER, Kind.LIGHT})


def advice_of_values(values: Mapping[str, Any], board: Board, read_device: ReadDevice) -> Mistakes:
    """All advice on a config's raw values, which have passed the checks."""
    if values.get("outputs"):
        yield from advice(parts_of(values, read_device), board)


def advice(parts: Parts, board: Board) -> Mistakes:
    """Where, and what can happen and what to do."""
    if parts.control.override_max_s > OVERRIDE_MAX_S:
        text = f"an override ends after a day all the same, which nothing lengthens; set it to {OVERRIDE_MAX_S:.0f}"
        yield ("control", "override_max_s"), text
    for index, output in parts.outputs.items():
        for path, text in _of_output(parts, output, board):
            yield ("outputs", index, *path), text
    for index, one in parts.thermostats.items():
        for path, text in _of_thermostat(parts, one):
            yield ("thermostats", index, *path), text
    yield from advice_hardware.of_circuits(parts)


def _of_output(parts: Parts, output: OutputCommon, board: Board) -> Mistakes:
    if output.kind in (Kind.HEATER, Kind.CHILLER):
        yield from _thermal(parts, output)
    if output.kind is Kind.HEATER:
        yield from _welded(output)
    if output.kind in NEEDS_HOLD:
        yield from _silence(output)
    if output.kind in ON_BATTERY and not output.shed_on:
        sense = next((other.shed_on for other in parts.outputs.values() if other.shed_on), "")
        if sense:
            text = f'goes on while the mains are gone, until the battery is empty; set shed_on = "{sense}"'
            yield ("shed_on",), text
    if output.kind in BREATHES:
        yield from _breath(output)
    yield from advice_hardware.of_output(parts, output, board)


# ------------------------------------------------------------------------------------------- heat and cold


def _thermal(parts: Parts, output: OutputCommon) -> Mistakes:
    heats = output.kind is Kind.HEATER
    side, beyond, harm = ("above", "over", "cooks") if heats else ("below", "under", "freezes")
    bounds = [limit for limit in output.envelope.limits if getattr(limit, side) is not None]
    if not any(limit.level == 0.0 for limit in bounds):
        number = _bound_of(parts, output, heats=heats)
        yield (
            ("envelope", "limits"),
            (
                f"no limit ends it: a person's override, or a thermostat whose probe reads wrong, {harm} what it "
                f'{"heats" if heats else "cools"}; add [[outputs.envelope.limits]] with series = "…" (a second probe '
                f"where there is one) and {side} = {number}"
            ),
        )
        return
    thermostats = parts.thermostats_of(output.name)
    regulating = {one.input for one in thermostats}
    spare = [one.second for one in thermostats if one.second]
    if spare and {limit.series for limit in bounds} <= regulating:
        place = output.envelope.limits.index(bounds[0])
        yield (
            ("envelope", "limits", place, "series"),
            (
                f"the probe that regulates judges itself: while it reads wrong, nothing sees the water go {beyond} the "
                f'limit; set series = "{spare[0]}", the second probe'
            ),
        )
    else:
        for one in thermostats:
            for text in _same_probe(parts, one, bounds, beyond):
                yield ("envelope", "limits", output.envelope.limits.index(bounds[0]), "series"), text
    if not thermostats and len({limit.series for limit in bounds}) < 2:
        yield ("kind",), _one_probe(output.name, bounds[0].series)


def _same_probe(
    parts: Parts, one: ThermostatConfig, bounds: Sequence[LimitConfig], beyond: str
) -> Iterator[str]:
    """Probes that can lead the thermostat and blind every limit at once, though by other series."""
    named = {limit.series for limit in bounds} | {one.input}
    for probe in sorted(leans_on(parts, one.input)):
        if named == {probe}:
            return  # one probe and no more: told at the thermostat
        if all(probe in leans_on(parts, limit.series) for limit in bounds):
            others = (probes_of(parts, one.input) | {one.second}) - {probe, ""}
            other = min(others, default="…")
            yield (
                f"{probe} is behind {one.input}, which regulates, and behind every limit too: while it reads wrong, "
                f'nothing sees the water go {beyond} the limit; add one with series = "{other}", a probe of its own'
            )


def _bound_of(parts: Parts, output: OutputCommon, *, heats: bool) -> str:
    """A bound that fits the thermostat, for the text: its alarm's distance, or a degree and a half."""
    for one in parts.thermostats_of(output.name):
        away = one.alarm or 1.5
        return f"{one.target + away if heats else one.target - away:g}"
    return "27.0" if heats else "20.0"


def _of_thermostat(parts: Parts, one: ThermostatConfig) -> Mistakes:
    """One probe decides and guards; a target in the wrong unit."""
    asked = fahrenheit(one.target)
    if asked:
        text = f"{asked} targets and limits are in °C; a boiler may be meant so, a tank would cook"
        yield ("target",), text
    for name in (*one.heat, *one.cool):
        output = parts.output(name)
        if output is None or output.kind not in (Kind.HEATER, Kind.CHILLER):
            continue
        series = {one.input, one.second, *(limit.series for limit in output.envelope.limits)} - {""}
        probes = frozenset[str]().union(*(probes_of(parts, each) for each in series))
        if len(probes) < 2:
            yield ("input",), _one_probe(name, one.input)
            return


def _one_probe(name: str, series: str) -> str:
    return (
        f"{series} alone decides over {name}: when it reads wrong without failing, nobody notices; put a second probe "
        "into the same water, name it as the thermostat's second, and let the limit look at it"
    )


def _silence(output: OutputCommon) -> Mistakes:
    """How old a value may get before its output goes safe."""
    ages: list[tuple[KeyPath, float]] = [(("max_age_s",), output.max_age_s)]
    for place, limit in enumerate(output.envelope.limits):
        ages.append((("envelope", "limits", place, "max_age_s"), limit.max_age_s))
    for path, age_s in ages:
        if age_s > SILENT_MAX_S:
            text = (
                f"a probe that died is believed for {age_s / 60:.0f} minutes more, and this runs on; set it to "
                f"{SILENT_MAX_S:g} or less"
            )
            yield path, text


def _welded(output: OutputCommon) -> Mistakes:
    effect = output.effect
    if not output.cutoff:
        yield (
            ("cutoff",),
            (
                "nothing can switch it off when its contact is welded, the way relays end; put a second switch before "
                f'it, one {APART}: an output with kind = "cutoff" and default = 1; name it here as cutoff, and '
                "add [outputs.effect] with series and off_change, which sees that the contact is welded"
            ),
        )
    elif effect is None or effect.off_change is None:
        yield (
            ("effect",) if effect is not None else ("cutoff",),
            (
                f"{output.cutoff} never opens by itself, because nothing sees that the contact is welded; add "
                "[outputs.effect] with series and off_change"
            ),
        )


# -------------------------------------------------------------------------------------------------- breath


def _breath(output: OutputCommon) -> Mistakes:
    kind = output.kind.value
    if not output.safe:
        yield (
            ("safe",),
            (
                f"with safe = 0 the {kind} pump stands still whenever the daemon does, and animals suffocate in hours; "
                'set safe = 1 (on a relay with contact = "nc")'
            ),
        )
    if not output.envelope.off_max_s:
        yield (
            ("envelope", "off_max_s"),
            (
                f"nothing bounds how long an override or an interlock keeps the {kind} pump off; add off_max_s = 1800 "
                "and off_window_s = 7200 under [outputs.envelope]"
            ),
        )
