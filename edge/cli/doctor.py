"""`tidewatt doctor`: is everything there that this site stands on?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.table import colour
from edge.cli.waiting import tell

if TYPE_CHECKING:
    from edge.doctor.checks import Check, Finding

STATE_WIDTH: Final = len("warning")


@click.command(
    epilog="""\b
Examples:
  tidewatt doctor
  sudo tidewatt doctor                       (reads what only the daemon may)
  tidewatt --config my.toml doctor --json | jq '.checks[] | select(.state != "ok")'

Exit code 0 when nothing failed (there may be warnings), else 1.
"""
)
@json_option
@pass_cli
def doctor(cli: Cli, as_json: bool) -> int:
    """Check config, rights, hardware, clock, disk, database, broker, sink and service; say what to do.

    Works with and without the daemon, and changes nothing: of a broker that the daemon is not connected to it asks for
    one value that nobody keeps.
    """
    from edge.config import UpstreamConfig, model_of
    from edge.doctor import patient as patients
    from edge.doctor.checks import examine

    if model_of(cli.config_path) is UpstreamConfig:
        raise Refused(f"{cli.config_path} is of the upstream process; tidewatt sink status looks at that")
    tell("looking at the site")
    patient = patients.look(cli.config_path)
    checks = _checks(valid=patient.config is not None)
    width = max(map(len, checks))
    found: list[Finding] = []
    for finding in examine(patient, checks, begins=tell):
        found.append(finding)
        if not as_json:
            tell("")
            click.echo(_line(finding, width))
    tell("")
    counts = Counter[str](finding.state for finding in found)
    if as_json:
        print_json({"ok": not counts["failed"], "checks": [asdict(finding) for finding in found]})
    else:
        click.echo(f"\n{_summary(counts)}")
        if patient.config is None:
            click.echo("The rest is checked when the config is valid.")
    return int(counts["failed"] > 0)


def _checks(*, valid: bool) -> Mapping[str, Check]:
    """Name -> check, in the order in which they are told; without a valid config only what needs none."""
    from edge.doctor import delivery, machine, records, service

    without = {"config": service.config, "service": service.unit}
    if not valid:
        return without
    return {
        "config": service.config,
        "software": service.software,
        "daemon": service.daemon,
        "service": service.unit,
        "rights": machine.rights,
        "buses": machine.buses,
        "clock": machine.clock,
        "disk": machine.disk,
        "database": records.database,
        "meter files": records.folders,
        "safe file": records.safe_file,
        "broker": delivery.broker,
        "sink": delivery.sink,
        "backlog": delivery.drain,
    }


def _line(finding: Finding, width: int) -> str:
    state = colour(finding.state, f"{finding.state:{STATE_WIDTH}}")
    return f"{state}  {finding.check:{width}}  {finding.text}"


def _summary(counts: Mapping[str, int]) -> str:
    warnings = "warning" if counts.get("warning") == 1 else "warnings"
    parts = [
        f"{counts[state]} {colour(state, word)}"
        for state, word in (("failed", "failed"), ("warning", warnings))
        if counts.get(state)
    ]
    return ", ".join(parts) if parts else colour("ok", "all is well")
