"""What to write where a command misses an argument or an option: its help, and what there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

SHOWN_MAX: Final = 8
LISTED_BY: Final[Mapping[str, str]] = {
    "nmi": "tidewatt meters",
    "suffix": "tidewatt meters",
    "names": "tidewatt series",
    "device": "tidewatt devices",
}
"""Argument -> the command that tells what there is, where nothing can be told here."""


def advice(error: click.MissingParameter) -> str:
    """More about the missing parameter, "" where nothing is known of it."""
    parameter, context = error.param, error.ctx
    if parameter is None or context is None or isinstance(parameter.type, click.Choice):
        return ""  # click itself names the choices
    told = [parameter.help] if isinstance(parameter, click.Option) and parameter.help else []
    names = [item.value for item in parameter.shell_complete(context, "") if item.type == "plain"]
    listed = LISTED_BY.get(parameter.name or "")
    if names:
        more = ", …" if len(names) > SHOWN_MAX else ""
        told.append(f"There {'are' if len(names) > 1 else 'is'} {', '.join(names[:SHOWN_MAX])}{more}.")
    elif listed:
        told.append(f"{listed} lists what there is.")
    return " ".join(told)
