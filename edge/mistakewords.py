"""The words for one mistake in a config's values: what is wrong with it, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edge.options import (
    DISCRIMINATOR,
    field_types,
    find_field,
    find_model,
    help_text,
    is_hex,
    is_model,
    is_secret,
    item_types,
    nearest,
    number_text,
    range_text,
    tags_of,
    value_at,
)
from edge.tomllines import KeyPath

SECTION_OPTION: Final = 2  # keys in a path like uplink.port
SHOWN_CHARACTERS_MAX: Final = 40


def error_text(model: type[BaseModel], values: Mapping[str, Any], path: KeyPath, error: ErrorDetails) -> str:
    """What is wrong with the value at `path`, and what to do."""
    field = find_field(model, path, values)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(model, values, path)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _driver_text(model, values, path)
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind == "missing" and isinstance(path[-1], int):
        around = find_field(model, tuple(path[: _first_index(path)]), values)
        return f"has too few values; {around.description if around else 'see the example config'}"
    if kind == "missing":
        example = _heading(field, path) or f"{path[-1]} = …"
        described = f" ({help_text(field)})" if field and help_text(field) else ""
        return f"is missing; add {example}{described}"
    return _type_text(field, path, error, value_at(values, path))


def _heading(field: FieldInfo | None, path: KeyPath) -> str:
    """How a missing table is begun, with the first option that it has to have; "" for what is no table."""
    kinds = [kind for kind in field_types(field) if is_model(kind)] if field else []
    if not kinds:
        return ""
    needed = [name for name, inner in kinds[0].model_fields.items() if inner.is_required()]
    if not needed:
        return f"[{_table(path)}]"
    value = '"…"' if str in field_types(kinds[0].model_fields[needed[0]]) else "…"
    return f"[{_table(path)}] with {needed[0]} = {value}"


def _table(path: KeyPath) -> str:
    """The path as a heading spells it, without places in lists."""
    return ".".join(key for key in path if isinstance(key, str))


def _first_index(path: KeyPath) -> int:
    """Where the trailing list indices of a path begin."""
    return max(index for index, key in enumerate(path) if isinstance(key, str)) + 1


_EXPECTED: Final = {
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a number that is not nan or inf",
    "string": "must be text in quotes",
    "list": "must be a list in brackets: [1, 2]",
    "tuple": "must be a list in brackets: [1, 2]",
    "dict": "must be a table",
    "model": "must be a table",
}


def _type_text(field: FieldInfo | None, path: KeyPath, error: ErrorDetails, value: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    shown = "" if not path or is_secret(str(path[-1]), field) else shown_value(value, is_hex(field))
    advice = f"; {help_text(field)}" if field and help_text(field) else ""
    family = kind.split("_")[0]
    if kind in ("literal_error", "enum"):
        allowed = [word.strip("'") for word in re.split(r", | or ", str(context.get("expected", "")))]
        near = nearest(value, allowed) if isinstance(value, str) else ""
        guess = f"; did you mean {near}?" if near else ""
        return f"must be one of {', '.join(allowed)}{_is(shown)}{guess}"
    if kind.startswith(("greater_than", "less_than")):
        wanted = range_text(field) if field else ""
        return (
            f"must be {wanted}{_is(shown)}{advice}"
            if wanted
            else f"{_lower(error['msg'])}{_is(shown)}{advice}"
        )
    if kind == "string_too_short":
        return f"must not be empty{advice}"
    if kind == "string_too_long":
        return f"is too long; use at most {context.get('max_length')} characters{advice}"
    if kind == "string_pattern_mismatch":
        return f"does not fit{_is(shown)}{advice.replace('; ', '; write ', 1)}"
    if kind in ("too_short", "too_long"):
        wanted = (
            f"at least {context.get('min_length')}"
            if kind == "too_short"
            else f"at most {context.get('max_length')}"
        )
        return f"must have {wanted} entries, has {context.get('actual_length')}{advice}"
    if family in ("list", "tuple") and isinstance(value, dict):
        return f"stands once, as a table; write [[{_table(path)}]], with two brackets, before each{advice}"
    if family in ("list", "tuple") and isinstance(value, str) and str in _items(field):
        return f"must be a list in brackets: [{shown}]{advice}"
    if family in _EXPECTED and kind not in ("string_sub_type",):
        return f"{_EXPECTED[family]}{_is(shown)}{advice}"
    return f"{_lower(error['msg'])}{_is(shown)}{advice}"


def _items(field: FieldInfo | None) -> list[Any]:
    return item_types(field_types(field), 0) if field else []


def _is(shown: str) -> str:
    return f", is {shown}" if shown else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def shown_value(value: Any, as_hex: bool = False) -> str:
    """A value as it stands in TOML, cut; "" for what is too big to show."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        cut = value if len(value) <= SHOWN_CHARACTERS_MAX else value[:SHOWN_CHARACTERS_MAX] + "…"
        return (
            '"' + cut.encode("unicode_escape").decode("ascii") + '"' if not cut.isprintable() else f'"{cut}"'
        )
    if isinstance(value, int | float):
        return number_text(value, as_hex)
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else ""


def unknown_key(model: type[BaseModel], values: Mapping[str, Any], path: KeyPath) -> str:
    """Says that there is no such option, and which was probably meant."""
    key = str(path[-1])
    parent = find_model(model, path[:-1], values)
    known = list(parent.model_fields) if parent else []
    below = [name for name in known if parent and key in _keys_below(parent.model_fields[name])]
    if below:
        return f"there is no such option here; it belongs under [{_table((*path[:-1], below[0]))}]"
    near = nearest(key, known)
    if near:
        meant = parent.model_fields[near].description if parent else ""
        another_unit = "_" in near and key.rpartition("_")[2] != near.rpartition("_")[2]
        return f"there is no such option; did you mean {near}?" + (
            f" ({meant})" if meant and another_unit else ""
        )
    homes = [
        name
        for name, field in model.model_fields.items()
        for kind in field_types(field)
        if is_model(kind) and key in kind.model_fields
    ]
    if homes and len(path) == SECTION_OPTION:
        return f"there is no such option here; it belongs under [{'] or ['.join(homes)}]"
    return (
        f"there is no such option; there are {', '.join(known)}"
        if known
        else "there is no such option; remove it"
    )


def _keys_below(field: FieldInfo) -> set[str]:
    """The options of a table that stands below its parent's."""
    return {name for kind in field_types(field) if is_model(kind) for name in kind.model_fields}


def _driver_text(model: type[BaseModel], values: Mapping[str, Any], path: KeyPath) -> str:
    known = drivers_at(model, path, values)
    driver = value_at(values, (*path, DISCRIMINATOR))
    if driver is not None and not isinstance(driver, str):
        return f"driver: must be text in quotes, is {shown_value(driver)}; one of {', '.join(known)}"
    if driver is None:
        return f'the driver is missing; add driver = "…" with one of {", ".join(known)}'
    return f"driver: {no_driver(driver, known)}"


def drivers_at(model: type[BaseModel], path: KeyPath, values: Mapping[str, Any]) -> list[str]:
    """The drivers that a table at this path may name."""
    field = find_field(model, path[:-1], values)
    kinds = item_types(field_types(field), 0) if field else []
    return sorted({str(tag) for kind in kinds if is_model(kind) for tag in tags_of(kind)})


def no_driver(driver: Any, known: list[str]) -> str:
    near = nearest(str(driver), known)
    guess = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    return f"there is no driver {shown_value(driver) or 'like this'}; {guess}"
