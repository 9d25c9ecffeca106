"""`tidewatt drivers`: what can be connected, and with which options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import click

from drivers.catalog import (
    ENTRY_POINT_GROUP,
    Driver,
    OutputDriver,
    catalog,
    installed,
    output_catalog,
    problems,
)
from edge.cli.support import Refused, json_option, print_json
from edge.cli.table import Column, colour, show
from edge.options import HEX_FORMAT, nearest, number_text

COLUMNS: Final = (
    Column(title="driver"),
    Column(title="what it is", cut=True),
    Column(title="options", cut=True),
)
OUTPUT_COLUMNS: Final = (
    Column(title="output driver"),
    Column(title="what it is", cut=True),
    Column(title="who makes it safe without the daemon", cut=True),
    Column(title="options", cut=True),
)
OPTION_COLUMNS: Final = (
    Column(title="option"),
    Column(title="type"),
    Column(title="default"),
    Column(title="meaning", cut=True),
)


@click.command(
    epilog="""\b
Examples:
  tidewatt drivers
  tidewatt drivers ds18b20
  tidewatt drivers relay
"""
)
@click.argument("name", required=False)
@json_option
def drivers(name: str | None, as_json: bool) -> None:
    """What can be read and what can be driven; with NAME, every option of that driver.

    `tidewatt scan` looks what is connected, and prints the config for it.
    """
    devices, outputs = catalog(), output_catalog()
    if name is not None:
        _refuse_unusable(name)
    for problem in problems():
        click.echo(f"{colour('warning', '!')} {problem}", err=True)
    if name is not None:
        if name not in devices and name not in outputs:
            known = sorted({*devices, *outputs})
            near = nearest(name, known)
            all_of_them = (
                f"there are {', '.join(known)}; another package's needs an entry point in {ENTRY_POINT_GROUP}"
            )
            guess = f"did you mean {near}?" if near else all_of_them
            raise Refused(f"there is no driver {name!r}; {guess}", exit_code=2)
        devices = {key: driver for key, driver in devices.items() if key == name}
        outputs = {key: driver for key, driver in outputs.items() if key == name}
    if as_json:
        print_json(
            {
                "drivers": [_described(driver) for driver in devices.values()],
                "outputs": [_described(driver) | {"held": driver.held} for driver in outputs.values()],
                "problems": list(problems()),
            }
        )
    elif name:
        _print_one(devices.get(name), outputs.get(name))
    else:
        show(COLUMNS, [(one.name, one.summary, _options(one)) for one in devices.values()])
        click.echo()
        show(OUTPUT_COLUMNS, [(one.name, one.summary, one.held, _options(one)) for one in outputs.values()])


def _refuse_unusable(name: str) -> None:
    """Who asks for a driver that cannot be used wants to know why, and nothing else."""
    found = installed()
    wrong = [broken[name] for broken in (found.broken, found.broken_outputs) if name in broken]
    if wrong and name not in found.drivers and name not in found.outputs:
        raise Refused("\n".join(wrong))


def _options(driver: Driver | OutputDriver) -> str:
    return ", ".join(driver.options.model_fields)


def _described(driver: Driver | OutputDriver) -> dict[str, Any]:
    return {"name": driver.name, "summary": driver.summary, "options": driver.options.model_json_schema()}


def _print_one(device: Driver | None, output: OutputDriver | None) -> None:
    """A name may stand for a device, for an output, or for both."""
    if device is not None:
        _print_options(device, "[[devices]]")
        click.echo(
            "\nEvery device also has name, interval_s, timeout_s, enabled, bus and points; see config.example.toml"
        )
    if device is not None and output is not None:
        click.echo()
    if output is not None:
        _print_options(output, "[[outputs]]")
        click.echo(f"\nWho makes it safe while the daemon is hung or dead: {output.held}")
        click.echo("Every output also has name, kind, safe and its envelope; see config.example.toml")


def _print_options(driver: Driver | OutputDriver, table: str) -> None:
    click.echo(f"{click.style(driver.name, bold=True)}  {driver.summary}; a {table} table\n")
    schema = driver.options.model_json_schema()
    needed = set(schema.get("required", []))
    rows = [
        (
            name,
            type_words(option, schema),
            "(must be given)" if name in needed else default_words(option),
            str(option.get("description", "")),
        )
        for name, option in schema.get("properties", {}).items()
    ]
    show(OPTION_COLUMNS, rows, empty="it has no options of its own")


def type_words(option: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A JSON Schema type as a person would say it."""
    if "$ref" in option:
        option = schema.get("$defs", {}).get(str(option["$ref"]).rpartition("/")[2], {})
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
             "array": "list", "object": "table", "null": ""}  # fmt: skip
    if "enum" in option:
        return " | ".join(str(value) for value in option["enum"])
    if "anyOf" in option:
        return " or ".join(
            dict.fromkeys(text for part in option["anyOf"] if (text := type_words(part, schema)))
        )
    return names.get(str(option.get("type", "")), "")


def default_words(option: Mapping[str, Any]) -> str:
    """The default in a JSON Schema as it would stand in the file; "" for none."""
    value = option.get("default")
    if value is None:
        return ""
    if option.get("format") == HEX_FORMAT:
        return number_text(value, as_hex=True)
    return json.dumps(value, ensure_ascii=False)
