"""`tidewatt calibrate POINT`: through the references with a person, to a calibration that is in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from edge.cli.calibrateasked import Given, Wanted, comma_mistake, given_of
from edge.cli.calibratestore import How
from edge.cli.calibratewalk import Walk
from edge.cli.outputs import Duration
from edge.cli.support import Cli, json_option, pass_cli, why_option
from edge.cli.terminal import Terminal
from edge.poll.calibrating import LEASE_S
from edge.poll.calibration_kinds import KINDS

WINDOW_S: Final = 30.0
WINDOWS_S: Final = (1.0, 3600.0)
PATIENCE_S: Final = 300.0
USUAL: Final = frozenset(true for kind in KINDS.values() for true in (*kind.references, *kind.others))
"""References of any kind: before the daemon has said of which the point is."""


class References(click.ParamType[Given]):
    """7,10 or 7=7.12,10=9.87."""

    name = "true[=raw],..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Given:
        if isinstance(value, Given):
            return value
        try:
            return given_of(str(value))
        except ValueError:
            self.fail(
                f"{value!r} are no references; write 7,10 or, with raw values, 7=7.12,10=9.87", param, ctx
            )


@click.command(
    epilog="""\b
Examples:
  tidewatt calibrate tank.ph                      pH 7 and 10, step by step
  tidewatt calibrate tank.ph --at 7.02,10.06      what the bottles say at your temperature
  tidewatt calibrate sump.temperature --at 25.3   one reference: an offset
  tidewatt calibrate scale.weight --at 0,20,50    more of them: straight lines between
  tidewatt calibrate tank.ph --at 7 --yes --dry-run --json     measure one, for a program
  sudo tidewatt calibrate tank.ph --at 7=7.12,10=9.87 --yes    store what was measured

\b
Settled: over the window (--window, 30s) the raw value neither drifts nor scatters by more than the point's
kind asks for (pH: 0.01), or by more than its own noise, and has no more than that left to go.  Enter takes it
earlier; Ctrl-C changes nothing.
A single reference moves the point as a whole: the slope of a calibration that is there stays.
Atlas EZO circuits keep a calibration of their own in the chip, which tidewatt never writes: this one comes on
top of it.
"""
)
@click.argument("point", metavar="DEVICE.POINT")
@click.option(
    "--at",
    "at",
    type=References(),
    multiple=True,
    help="True values, with commas between them (decimals have a point) or again and again; TRUE=RAW where it was "
    "measured already.",
)
@click.option(
    "--window",
    type=Duration(),
    default=WINDOW_S,
    help="How long a reading has to stand still. [default: 30s]",
)
@click.option(
    "--patience",
    type=Duration(),
    default=PATIENCE_S,
    help="After that long it is said what keeps it from settling. [default: 5m]",
)
@click.option("--alone", is_flag=True, help="Only this point is out of its place, not what shares its body.")
@click.option("--dry-run", is_flag=True, help="Measure and say what would change; store nothing.")
@click.option("--print", "print_only", is_flag=True, help="Print what to paste; leave the config file alone.")
@click.option("--yes", is_flag=True, help="Ask nothing: the probe is where it belongs.")
@click.option("--force", is_flag=True, help="Take references and store a calibration that cannot be right.")
@why_option
@click.option("--lease", "lease_s", type=Duration(), default=LEASE_S, hidden=True)
@json_option
@pass_cli
def calibrate(
    cli: Cli,
    point: str,
    at: tuple[Given, ...],
    window: float,
    patience: float,
    alone: bool,
    dry_run: bool,
    print_only: bool,
    yes: bool,
    force: bool,
    why: str,
    lease_s: float,
    as_json: bool,
) -> int:
    """Calibrate DEVICE.POINT by references: buffers, ice water, weights.

    The daemon reads the probe.  Until the end, what the probe says is stored as bad (calibrating) and control does not
    go by it, over a restart too; if this terminal dies, it counts again by itself after five minutes.  Other points of
    its device go on where their sensors stay in their place.  The calibration is written into the config file, which
    keeps its comments, and taken over at once.
    """
    _check_usage(point, at, window, yes=yes)
    how = How(store=not (dry_run or print_only), yes=yes, force=force, why=why or f"calibrate {point}")
    if how.store:
        cli.config()  # one with a mistake could not be stored into: better told before the probe is moved
    wanted = Wanted(
        given=at, rule_s=window, patience_s=max(patience, 2.0 * window),
        alone=alone, lease_s=lease_s, storing=how,
    )  # fmt: skip
    return Walk(cli, Terminal(to_err=as_json), wanted, as_json=as_json).through(point)


def _check_usage(point: str, at: Sequence[Given], window: float, *, yes: bool) -> None:
    """Raises click.UsageError."""
    device, _, name = point.partition(".")
    if not device or not name:
        raise click.BadParameter(f"{point!r} is no point; write DEVICE.POINT, as tank.ph", param_hint="POINT")
    low, high = WINDOWS_S
    if not low <= window <= high:
        raise click.BadParameter(f"{window:g} s; {low:g} s to 1 h are possible", param_hint="--window")
    measured = sum(one.raw is None for given in at for one in given.at)
    if yes and not at:
        raise click.UsageError("--yes asks nothing, so name the references: --at 7")
    if yes and measured > 1:
        for given in at:
            if mistake := comma_mistake(given, USUAL):
                raise click.BadParameter(mistake, param_hint="--at")
        raise click.UsageError(
            "--yes asks nothing, so nobody would move the probe; measure one at a time (--at 7 --yes --dry-run "
            "--json), then store them all: --at 7=RAW,10=RAW --yes"
        )
