"""`tidewatt scan`: what is connected to this machine, and the config for it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from drivers import boards
from drivers.catalog import Driver, catalog, output_catalog
from drivers.discovery import chips, kernel, lan
from drivers.discovery.found import DEVICES, OUTPUTS, Found, Look, Search
from drivers.ds18b20 import probes_of
from edge.cli.support import Cli, json_option, pass_cli, print_json
from edge.cli.table import Column, colour, printable, render, terminal_width
from edge.clock import SystemClock
from edge.config import Config
from edge.mistakes import ConfigInvalid

COLUMNS: Final = (
    Column(title="where", cut=True),
    Column(title="what"),
    Column(title="in the config"),
    Column(title="by what", cut=True),
)
LOOK_COLUMNS: Final = (Column(title="looked at", cut=True), Column(title="what is there", cut=True))
NAME_MAX: Final = 50
BEGIN: Final = (
    'to begin without any probe: driver = "sim" is a tank that is simulated (tidewatt help first-sensor has the '
    "config to begin with), and tidewatt demo needs no config"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One that was found.  known_as: the name that the config has it by; config: its table to paste; or ""."""

    found: Found
    known_as: str = ""
    config: str = ""


@click.command(
    epilog="""\b
Examples:
  tidewatt scan
  tidewatt scan --lan
  tidewatt scan >> config.toml      (what was found goes to the file, how to the terminal)
  tidewatt scan --json | jq '.found[].what'
"""
)
@click.option(
    "--lan", "with_lan", is_flag=True, help="Ask the local network too (mDNS, Kasa), for 3 seconds."
)
@click.option(
    "--i2c", "buses", type=click.IntRange(0, 255), multiple=True, metavar="N", help="Only this I2C bus."
)
@click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), default="/", hidden=True, help="Another /."
)
@json_option
@pass_cli
def scan(cli: Cli, with_lan: bool, buses: tuple[int, ...], root: Path, as_json: bool) -> None:
    """Look what is connected: I2C, 1-Wire, IIO, hwmon, GPIO, and with --lan the local network.

    It only reads, and leaves alone what the config has already.  The config for what is new goes to standard
    output, ready to paste; what was looked at, and what to do where something is missing, to standard error.
    Where nothing is connected it gives this machine itself, which can always be read.
    """
    config, looks = _config_of(cli)
    known = known_keys(config) if config else {}
    result = Search(looks=looks)
    board = boards.read(root)
    result.add(
        (
            kernel.search_board(root, board=board),
            chips.search(root, buses=buses, known=known, board=board),
            kernel.search_w1(root, board=board, known=known),
            kernel.search_chips(root),
            _search_by_drivers(),
        )
    )
    if with_lan:
        click.echo(f"asking the local network for {lan.LISTEN_S:g} s", err=True)
        result.add((lan.search(SystemClock()),))
    alone = not result.found
    entries = entries_of(result.found or [kernel.THIS_MACHINE], config, known)
    if as_json:
        print_json(_as_json(result.looks, entries))
        return
    _report(result.looks, entries, alone=alone)
    for entry in entries:
        if entry.config:
            click.echo(entry.config)
    if alone:
        click.echo(BEGIN, err=True)


def _config_of(cli: Cli) -> tuple[Config | None, list[Look]]:
    """The config, or why there is none."""
    try:
        return cli.config(), []
    except ConfigInvalid as invalid:
        why = str(invalid).splitlines()[0]
        return None, [
            Look(where="config", said="not read", todo=f"{why}; until then everything counts as new")
        ]


def known_keys(config: Config) -> dict[str, str]:
    """What the config has: key as in `Found.keys` to the name there."""
    drivers, output_drivers = catalog(), output_catalog()
    keys: dict[str, str] = {}
    devices: tuple[Any, ...] = config.devices  # each has its driver's options too
    for device in devices:
        driver = drivers[device.driver]
        keys |= {_key(claim.what): device.name for claim in (driver.claims(device) if driver.claims else ())}
        if device.driver == "ds18b20":
            keys |= dict.fromkeys(probes_of(device).values(), device.name)
    for output in config.outputs:
        claims = output_drivers[output.driver].claims(output)
        keys |= {_key(claim.what): output.name for claim in claims}
    return keys


def _key(claimed: str) -> str:
    """A chip for its channel; anything else is itself."""
    return claimed.partition(" channel ")[0]


def _search_by_drivers() -> Search:
    """What drivers find by themselves, those of other packages too."""
    result = Search()
    result.add(_search_by(driver) for driver in catalog().values() if driver.find is not None)
    return result


def _search_by(driver: Driver) -> Search:
    try:
        there = list(driver.find()) if driver.find else []
    except Exception as error:  # noqa: BLE001  # another package's code may raise anything
        said = f"failed ({type(error).__name__}: {error})"
        return Search(looks=[Look(where=f"driver {driver.name}", said=said, todo="update its package")])
    found = [
        Found(where=f"driver {driver.name}", what=driver.summary, sure=True, table=DEVICES,
              options={"driver": driver.name, **options})
        for options in there
    ]  # fmt: skip
    return Search(looks=[Look(where=f"driver {driver.name}", said=f"{len(found)} found")], found=found)


def entries_of(found: list[Found], config: Config | None, known: Mapping[str, str]) -> list[Entry]:
    """Each with its name in the config, or else with the table to paste."""
    taken = {
        DEVICES: {device.name for device in config.devices} if config else set[str](),
        OUTPUTS: {output.name for output in config.outputs} if config else set[str](),
    }
    entries = []
    for one in found:
        name = next((known[key] for key in one.keys if key in known), "") or _served(one, config)
        text = _table(one, taken[one.table]) if one.table and not name else ""
        entries.append(Entry(found=one, known_as=name, config=text))
    return entries


def _served(found: Found, config: Config | None) -> str:
    """The name of the device that reads this chip by way of the kernel, or is just what its driver found."""
    devices: tuple[Any, ...] = config.devices if config else ()
    for device in devices:
        if device.driver != found.options.get("driver"):
            continue
        if device.driver in ("iio", "hwmon"):
            same = device.chip == found.options["chip"] and device.at in found.where
        else:
            same = not found.keys and all(
                getattr(device, key) == value for key, value in found.options.items()
            )
        if same:
            return str(device.name)
    return ""


def _table(found: Found, taken: set[str]) -> str:
    """Its table; one of an output is commented out, for it would be switched as soon as it is there."""
    options = dict(found.options)
    driver = options.pop("driver")
    base = found.name or options.get("chip") or (options.get("kind") if driver == "ezo" else "") or driver
    name = _free_name(str(base), taken)
    lines = [f"[[{found.table}]]", f'name = "{name}"', f"driver = {toml(driver)}"]
    lines += [f"{key} = {_value(key, value)}" for key, value in options.items()]
    guess = found.what if found.sure else f"a guess: {found.what}"
    comments = [f"{found.where}: {guess}" + (f" ({found.evidence})" if found.evidence else "")]
    comments += [found.note] if found.note else []
    head = [f"# {printable(line)}" for line in comments]
    mark = "#" if found.table == OUTPUTS else ""
    return "\n".join([*head, *(f"{mark}{line}" for line in lines)]) + "\n"


def _free_name(base: str, taken: set[str]) -> str:
    slug = re.sub(r"[^a-z0-9_-]+", "-", base.lower()).strip("-_")[:NAME_MAX] or "device"
    name, count = slug, 1
    while name in taken:
        count += 1
        name = f"{slug}-{count}"
    taken.add(name)
    return name


def _value(key: str, value: object) -> str:
    return f"0x{value:02x}" if key == "address" and isinstance(value, int) else toml(value)


def toml(value: object) -> str:
    """A value as TOML writes it, tables inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _report(looks: Collection[Look], entries: Collection[Entry], *, alone: bool) -> None:
    """alone: nothing is connected, and this machine itself is all there is."""
    for line in render(LOOK_COLUMNS, [(look.where, look.said) for look in looks], width=terminal_width()):
        click.echo(line, err=True)
    for line in _todos(looks, entries):
        click.echo(f"{colour('warning', '!')} {printable(line)}", err=True)
    click.echo(err=True)
    if alone:
        click.echo("nothing was found that is connected; this machine itself can be read:", err=True)
    rows = [
        (entry.found.where, _guess(entry.found), entry.known_as or "no", entry.found.evidence)
        for entry in entries
    ]
    for line in render(COLUMNS, rows, width=terminal_width()):
        click.echo(line, err=True)
    click.echo(err=True)


def _todos(looks: Collection[Look], entries: Collection[Entry]) -> Iterator[str]:
    """What a person can do; a note that stands in a table to paste is told there."""
    yield from (f"{look.where}: {look.said}; {look.todo}" for look in looks if look.todo)
    for entry in entries:
        if entry.found.note and not entry.config and not entry.known_as:
            yield f"{entry.found.where}: {entry.found.what}; {entry.found.note}"


def _guess(found: Found) -> str:
    return found.what if found.sure or not found.table else f"{found.what}?"


def _as_json(looks: Collection[Look], entries: Collection[Entry]) -> dict[str, Any]:
    return {
        "looked": [asdict(look) for look in looks],
        "found": [
            {
                "where": entry.found.where,
                "what": entry.found.what,
                "sure": entry.found.sure,
                "evidence": entry.found.evidence,
                "note": entry.found.note,
                "in_config": entry.known_as or None,
                "config": entry.config or None,
            }
            for entry in entries
        ],
    }
