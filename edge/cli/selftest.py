"""`tidewatt selftest`: every fault on the site's own config, in simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.waiting import tell

if TYPE_CHECKING:
    from edge.config import Config
    from edge.control.faults import Shown
    from edge.control.selftest import Case
    from edge.control.simulate import Wiring
    from edge.image import Reading
    from edge.poll.config import DeviceCommon
    from edge.poll.point import PointFlow


@click.command(
    epilog="""\b
Examples:
  tidewatt selftest --config /boot/firmware/tidewatt.toml
  tidewatt selftest --unsafe
  tidewatt selftest --json | jq '.cases[] | select(.safe | not)'
"""
)
@click.option("--unsafe", "unsafe_only", is_flag=True, help="Show only what ends unsafe.")
@json_option
@pass_cli
def selftest(cli: Cli, unsafe_only: bool, as_json: bool) -> int:
    """Break every input and part of the site, one after another, in simulation, and show what each output does.

    Nothing real is touched, and the daemon may run.  What is safe is judged by rules of its own.  Exit code 1 if
    anything ends unsafe.  Takes a minute or two.
    """
    from edge.control.compile import compile_rules
    from edge.control.selftest import selftest as run

    config = cli.config()
    if not config.outputs:
        raise Refused(f"{cli.config_path} has no outputs: nothing can go wrong; add [[outputs]] tables first")
    cases = []
    for case in run(compile_rules(config), wirings_of(config), Polled(config)):
        cases.append(case)
        tell("")
        if not as_json and not (unsafe_only and case.safe):
            _show(case)
        tell(f"{len(cases)} faults tried")
    tell("")
    bad = [case for case in cases if not case.safe]
    if as_json:
        print_json({"cases": [_body(case) for case in cases if not (unsafe_only and case.safe)]})
    else:
        click.echo(f"{len(cases)} faults: " + (f"{len(bad)} end UNSAFE" if bad else "every output ends safe"))
    return 1 if bad else 0


def _show(case: Case) -> None:
    click.echo(f"{case.input}: {case.fault}: {'safe' if case.safe else 'UNSAFE: ' + case.why}")
    for name, shows in case.outputs.items():
        click.echo(f"    {name} {_level(shows.level)}: {shows.cause}")


def _level(level: float) -> str:
    return "off" if level <= 0.0 else "on" if level >= 1.0 else f"{level:.0%}"


def _body(case: Case) -> dict[str, Any]:
    outputs = {
        name: {"level": round(shows.level, 4), "cause": shows.cause} for name, shows in case.outputs.items()
    }
    return {"fault": case.fault, "input": case.input, "outputs": outputs, "safe": case.safe, "why": case.why}


def wirings_of(config: Config) -> Mapping[str, Wiring]:
    """On which bus each output is, and who holds it; outputs are made, and none is opened."""
    from drivers.catalog import installed
    from edge.clock import SystemClock
    from edge.control.config import make_output
    from edge.control.simulate import Wiring

    drivers, clock = installed().outputs, SystemClock()
    return {
        output.name: Wiring(
            bus=make_output(output, clock).bus,
            held_by=drivers[output.driver].hold_by(output),
            hold_s=output.hold_s,
        )
        for output in config.outputs
    }


class Polled:
    """What polling would make of a driver's value: the site's own calibration, ranges and rates."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._flows: dict[str, PointFlow] = {}

    def __call__(self, series: str, value: Shown, wall_ms: int, monotonic_s: float) -> Reading:
        from drivers.base import Quality, Sample
        from edge.control.faults import Silence

        flow = self._flows.get(series)
        if flow is None:
            flow = self._flows[series] = self._flow(series)
        if isinstance(value, Silence) or self._known_sentinel(series, value):
            return flow.absent("unavailable", wall_ms, monotonic_s)
        for source in self._passed_through(series):
            reading = self(source, value, wall_ms, monotonic_s)
            if reading.quality is Quality.BAD:
                return flow.absent(f"{source}: {reading.reason}", wall_ms, monotonic_s)
        return flow.take(Sample(point="value", value=cast(float, value)), wall_ms, monotonic_s)

    def _flow(self, series: str) -> PointFlow:
        from drivers.base import Point
        from drivers.catalog import installed
        from edge.poll.config import PointConfig
        from edge.poll.point import PointFlow

        device, name = self._device(series), series.partition(".")[2]
        if device is None:
            return PointFlow(series, Point(unit=""), PointConfig())
        points_of = installed().drivers[device.driver].points
        points = points_of(device) if points_of is not None else ()
        point = points.get(name) if isinstance(points, Mapping) else None
        config = device.points.get(name, PointConfig())
        # What is simulated is the true value: a calibrated probe shows it as it is.
        config = config.model_copy(update={"offset": 0.0, "points": ()})
        return PointFlow(series, point if isinstance(point, Point) else Point(unit=""), config)

    def _device(self, series: str) -> DeviceCommon | None:
        name = series.partition(".")[0]
        return next((device for device in self._config.devices if device.name == name), None)

    def _passed_through(self, series: str) -> tuple[str, ...]:
        """The inputs of a derived point that has the value of one of them, were they all to say the same."""
        from edge.poll.derived import same_valued

        device = self._device(series)
        return () if device is None else same_valued(device, series.partition(".")[2])

    def _known_sentinel(self, series: str, value: Shown) -> bool:
        """The 1-Wire driver knows its chip's own error values and gives them as bad."""
        device = self._device(series)
        return device is not None and device.driver == "ds18b20" and value in (85.0, -127.0)
