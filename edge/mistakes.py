"""Mistakes of a config file in the words of the person who made it: what is wrong, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edge.options import (
    DISCRIMINATOR,
    MASK,
    concrete_types,
    field_types,
    find_field,
    find_model,
    help_text,
    is_hex,
    is_model,
    is_secret,
    item_types,
    leaves,
    nearest,
    number_text,
    range_text,
    tags_of,
    value_at,
)
from edge.tomllines import KeyPath

SECTION_OPTION: Final = 2  # keys in a path like uplink.port
SHOWN_CHARACTERS_MAX: Final = 40
SECRET_CHARACTERS_MIN: Final = 3

_KEY: Final = re.compile(r"[\w-]+(?:\.[\w-]+)*")


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to put right.

    line   in the file, 0 where it does not stand in the file
    where  "FILE:LINE", "FILE" or "environment NAME"
    key    dotted, "" for the file as a whole
    """

    line: int
    where: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.text) if part)


class ConfigInvalid(Exception):
    """The config cannot be used; `mistakes` holds all that is wrong with it, in the file's order."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def value_mistakes(
    model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[ErrorDetails]
) -> Iterator[tuple[KeyPath, str]]:
    """What pydantic found, as (path, text), a text for each path."""
    texts: dict[KeyPath, list[str]] = {}
    for error in _with_hidden(model, values, errors):
        path = true_path(error, values)
        path, text = _pointed(path, _error_text(model, values, path, error), values)
        if text not in texts.setdefault(path, []):
            texts[path].append(text)
    for path, found in texts.items():
        yield path, min(found, key=len) if len(found) > 2 else ", or ".join(found)


def _with_hidden(
    model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[ErrorDetails]
) -> Iterator[ErrorDetails]:
    """The errors, and those that an unknown driver hides: in the options that every driver has."""
    for error in errors:
        yield error
        if error["type"] not in ("union_tag_invalid", "union_tag_not_found"):
            continue
        path = true_path(error, values)
        table, common = value_at(values, path), _common(model, path, values)
        if common is None or not isinstance(table, Mapping):
            continue
        try:
            common.model_validate({key: value for key, value in table.items() if key in common.model_fields})
        except ValidationError as hidden:
            for found in hidden.errors(include_url=False):
                if found["loc"] and found["loc"][0] != DISCRIMINATOR:
                    yield {**found, "loc": (*path, *found["loc"])}


def _common(model: type[BaseModel], path: KeyPath, values: Mapping[str, Any]) -> type[BaseModel] | None:
    """What the tables of a list have in common, whatever their driver."""
    field = find_field(model, path[:-1], values)
    kinds = [kind for kind in item_types(field_types(field), 0) if is_model(kind)] if field else []
    shared = (
        (base for base in kinds[0].__mro__ if all(issubclass(kind, base) for kind in kinds)) if kinds else ()
    )
    return next((base for base in shared if base is not BaseModel and is_model(base)), None)


def _pointed(path: KeyPath, text: str, values: Mapping[str, Any]) -> tuple[KeyPath, str]:
    """A validator of a whole table may begin its text with the key below it that it means: "points.ph: …"."""
    key, colon, rest = text.partition(": ")
    below = (*path, *key.split("."))
    if colon and _KEY.fullmatch(key) and value_at(values, below) is not None:
        return below, rest
    return path, text


def true_path(error: ErrorDetails, values: Mapping[str, Any]) -> KeyPath:
    """The path in the file: pydantic puts the names of union members into its own."""
    path: KeyPath = ()
    here: Any = values
    loc = error["loc"]
    for index, key in enumerate(loc):
        last = index == len(loc) - 1
        tag = (
            isinstance(here, Mapping)
            and path
            and isinstance(path[-1], int)
            and here.get(DISCRIMINATOR) == key
        )
        if tag and isinstance(loc[index - 1], int):
            continue
        present = value_at(here, (key,)) is not None
        if present or (last and error["type"] == "missing"):
            path = (*path, key)
            here = value_at(here, (key,))
        elif not last and isinstance(here, Mapping) and isinstance(key, str) and "[" not in key:
            return path
    return path


def _error_text(model: type[BaseModel], values: Mapping[str, Any], path: KeyPath, error: ErrorDetails) -> str:
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
    if family in ("list", "tuple") and isinstance(value, dict):
        return f"stands once, as a table; write [[{_table(path)}]], with two brackets, before each{advice}"
    if family in _EXPECTED and kind not in ("string_sub_type",):
        return f"{_EXPECTED[family]}{_is(shown)}{advice}"
    return f"{_lower(error['msg'])}{_is(shown)}{advice}"


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
    near = nearest(key, known)
    if near:
        return f"there is no such option; did you mean {near}?"
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


def _driver_text(model: type[BaseModel], values: Mapping[str, Any], path: KeyPath) -> str:
    field = find_field(model, path[:-1], values)
    kinds = item_types(field_types(field), 0) if field else []
    known = sorted({str(tag) for kind in kinds if is_model(kind) for tag in tags_of(kind)})
    driver = value_at(values, (*path, DISCRIMINATOR))
    if driver is None:
        return f'the driver is missing; add driver = "…" with one of {", ".join(known)}'
    near = nearest(str(driver), known)
    guess = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    return f"there is no driver {shown_value(driver) or 'like this'}; {guess}"


def slips(model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Values that pydantic would quietly turn into another type, which TOML need not: "5", 1 for true."""
    for path, value in leaves(values):
        field = find_field(model, path, values)
        if field is None or not isinstance(value, bool | int | float | str):
            continue
        kinds = concrete_types(field.annotation, field.metadata)
        numeric = {int, float} & set(kinds)
        if bool in kinds:
            slip = "" if isinstance(value, bool) else "must be true or false, without quotes"
        elif numeric and str not in kinds and isinstance(value, bool | str):
            wanted = "a number" if float in numeric else "a whole number"
            slip = f"must be {wanted}, without quotes" if isinstance(value, str) else f"must be {wanted}"
        else:
            slip = ""
        if slip:
            advice = f"; {help_text(field)}" if help_text(field) else ""
            yield path, f"{slip}, is {shown_value(value)}{advice}"


def secrets_in(model: type[BaseModel], values: Mapping[str, Any]) -> set[str]:
    """The secret texts that stand in these values, so that no message repeats them."""
    return {
        value
        for path, value in leaves(values)
        if isinstance(value, str) and len(value) >= SECRET_CHARACTERS_MIN and path
        if is_secret(str(path[-1]), find_field(model, path, values))
    }


def masked(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
