"""`tidewatt config check | show | schema`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from pydantic import SecretBytes, SecretStr

from drivers.catalog import problems
from edge.cli.support import Cli, json_option, pass_cli, print_json
from edge.cli.table import Column, show
from edge.config import Config, UpstreamConfig, model_of
from edge.control.circuits import CircuitLoad, circuit_loads
from edge.mistakes import ConfigInvalid, Mistake
from edge.options import MASK, find_field, is_hex, number_text
from edge.settings import effective, keys_of, load, warnings

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


@click.group()
def config() -> None:
    """Check a config file, show what is in force, print the schema."""


@config.command(
    epilog="""\b
Examples:
  tidewatt config check /boot/firmware/tidewatt.toml
  tidewatt config check --json config.toml | jq '.mistakes[].line'
  tidewatt config check --json config.toml | jq '.warnings[].text'
"""
)
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@json_option
@pass_cli
def check(cli: Cli, file: Path | None, as_json: bool) -> int:
    """Tell every mistake in FILE at once: FILE:LINE: key: what is wrong; what to do.

    Where there is none, warnings say what the config allows and could do harm; they do not count as a failure.
    Environment variables and systemd credentials count too, as they would for the daemon.
    """
    path = file or cli.config_path
    try:
        loaded, origins = load(path, model_of(path))
        advised = warnings(path, model_of(path))
    except ConfigInvalid as invalid:
        return _refuse(path, invalid, as_json)
    changed = sum(origin != "default" for origin in origins.values())
    loads = circuit_loads(loaded) if isinstance(loaded, Config) else []
    if as_json:
        print_json(
            {"file": str(path), "ok": True, "mistakes": [], "warnings": _as_json(advised), "options_set": changed}
            | {"circuits": [asdict(load) for load in loads]}
        )  # fmt: skip
        return 0
    for warning in advised:
        click.echo(f"{warning.where}: {warning.key}: warning: {warning.text}")
    click.echo(f"{path}: OK: {_summary(loaded)}, {changed} options set{_count(advised)}")
    for load_ in loads:
        click.echo(_load_words(load_))
    _tell_problems()
    return 0


def _count(advised: list[Mistake]) -> str:
    return f", {len(advised)} warning{'s' if len(advised) > 1 else ''}" if advised else ""


def _load_words(load: CircuitLoad) -> str:
    names = f" ({', '.join(load.released)})" if load.released else ""
    return (
        f"circuit {load.name}: {load.released_w:g} W come on at once at boot{names}, {load.all_w:g} W with everything "
        f"on, of {load.max_w:g} W"
    )


def _as_json(mistakes: Iterable[Mistake]) -> list[dict[str, Any]]:
    return [
        {"line": mistake.line or None, "where": mistake.where, "key": mistake.key, "text": mistake.text}
        for mistake in mistakes
    ]


def _refuse(path: Path, invalid: ConfigInvalid, as_json: bool) -> int:
    if as_json:
        print_json({"file": str(path), "ok": False, "mistakes": _as_json(invalid.mistakes), "warnings": []})
        return 1
    for mistake in invalid.mistakes:
        click.echo(str(mistake))
    _tell_problems(str(invalid))
    count = len(invalid.mistakes)
    click.echo(f"{count} mistake{'s' if count > 1 else ''}", err=True)
    return 1


def _tell_problems(told: str = "") -> None:
    """What other packages brought and cannot be used, but for what is told already."""
    for problem in problems():
        if problem not in told:
            click.echo(f"! {problem}", err=True)


def _summary(loaded: Config | UpstreamConfig) -> str:
    if isinstance(loaded, UpstreamConfig):
        return f"the upstream process, from {loaded.sink.host}:{loaded.sink.port} into Postgres"
    enabled = sum(device.enabled for device in loaded.devices)
    count = len(loaded.devices)
    devices = "1 device" if count == 1 else f"{count} devices"
    words = f"site {loaded.site.name}, {devices}" + (f" ({enabled} enabled)" if enabled != count else "")
    driven = len(loaded.outputs)
    return words + (f", {driven} output{'s' if driven > 1 else ''}" if driven else "")


@config.command(name="show")
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@click.option("--changed", is_flag=True, help="Only what is not the default.")
@json_option
@pass_cli
def show_config(cli: Cli, file: Path | None, changed: bool, as_json: bool) -> None:
    """Show every option that is in force, and where its value comes from.  Secrets are masked."""
    path = file or cli.config_path
    model = model_of(path)
    loaded, origins = load(path, model)
    values = loaded.model_dump()
    rows = [
        (key, _masked(value), origins[key], is_hex(find_field(model, at, values)))
        for key, (at, value) in zip(keys_of(loaded), effective(loaded), strict=True)
        if not (isinstance(loaded, UpstreamConfig) and at[0] not in ("log", "sink"))
        if not (changed and origins[key] == "default")
    ]
    if as_json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin, _ in rows})
        return
    columns = [Column(title="option"), Column(title="value", cut=True), Column(title="from", cut=True)]
    show(columns, [(key, _as_toml(value, as_hex), origin) for key, value, origin, as_hex in rows])


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, tuple | list):
        return [_masked(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _as_toml(value: Any, as_hex: bool = False) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_as_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else number_text(value, as_hex)


@config.command(
    epilog="""\b
Example, for editors that speak TOML (put the #:schema line first in the config):
  tidewatt config schema > tidewatt.schema.json
  #:schema ./tidewatt.schema.json
"""
)
@click.option("--sink", "upstream", is_flag=True, help="Of the upstream process's file.")
def schema(upstream: bool) -> None:
    """Print the JSON Schema of the config, with every installed driver's options."""
    model: type[Config] | type[UpstreamConfig] = UpstreamConfig if upstream else Config
    made = model.model_json_schema()
    print_json({"$schema": SCHEMA_DIALECT, **made, "title": "tidewatt config"})
