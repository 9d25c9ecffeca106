"""Mistakes of a config file in the words of the person who made it: what is wrong, and what to do."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge.mistakewords import drivers_at, error_text, no_driver, shown_value
from edge.options import (
    DISCRIMINATOR,
    MASK,
    concrete_types,
    find_field,
    find_model,
    help_text,
    is_secret,
    leaves,
    nearest,
    tags_of,
    value_at,
)
from edge.tomllines import KeyPath

SECRET_CHARACTERS_MIN: Final = 3
TABLE_KEYS: Final = 2
"""Keys in the path of a table in a list: devices, 0."""

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
    """The config cannot be used; `mistakes` holds all that is wrong with it, in the file's order.

    advice  what can be done instead of putting it right, or why nothing can; the last line of the text
    """

    def __init__(self, mistakes: Iterable[Mistake], advice: str = "") -> None:
        self.mistakes = tuple(sorted(mistakes))
        lines = [str(mistake) for mistake in self.mistakes]
        super().__init__("\n".join([*lines, advice] if advice else lines))


def value_mistakes(
    model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[ErrorDetails]
) -> Iterator[tuple[KeyPath, str]]:
    """What pydantic found, as (path, text), a text for each path."""
    texts: dict[KeyPath, list[str]] = {}
    every = list(_with_hidden(model, values, errors))
    meant = {_meant_key(model, values, error) for error in every}
    for error in every:
        path = true_path(error, values)
        if error["type"] == "missing" and path in meant:
            continue  # it is there, misspelt, which is told
        path, text = _pointed(path, error_text(model, values, path, error), values)
        if text not in texts.setdefault(path, []):
            texts[path].append(text)
    for path, found in texts.items():
        yield path, min(found, key=len) if len(found) > 2 else ", or ".join(found)


def _meant_key(model: type[BaseModel], values: Mapping[str, Any], error: ErrorDetails) -> KeyPath:
    """The path of the option that a misspelt one probably means; () for any other mistake."""
    if error["type"] != "extra_forbidden":
        return ()
    path = true_path(error, values)
    parent = find_model(model, path[:-1], values)
    near = nearest(str(path[-1]), parent.model_fields if parent else ())
    return (*path[:-1], near) if near else ()


def meant_drivers(
    model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[ErrorDetails]
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The values with each misspelt driver as it was probably meant, and what is wrong with each of these.

    What else is wrong with such a table can then be told at once, and not only when its driver is put right.
    """
    meant, wrong = dict(values), dict[KeyPath, str]()
    for error in errors:
        path = true_path(error, values)
        table = value_at(values, path)
        if error["type"] != "union_tag_invalid" or not isinstance(table, Mapping):
            continue
        if not isinstance(table[DISCRIMINATOR], str):
            continue
        section, index = str(path[0]), path[-1]
        known = drivers_at(model, path, values)
        near = nearest(table[DISCRIMINATOR], known)
        if near and isinstance(index, int):
            meant[section] = [
                *meant[section][:index],
                {**table, DISCRIMINATOR: near},
                *meant[section][index + 1 :],
            ]
            wrong[(*path, DISCRIMINATOR)] = no_driver(table[DISCRIMINATOR], known)
    return meant, wrong


def meant_options(
    model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[ErrorDetails]
) -> dict[str, Any]:
    """The values with each misspelt option of a table in a list as it was probably meant.

    An option that every such table has is left at its default where it is wrong.  What such slips hide, settings of a
    point that the device does not have, can then be told at once.  Tables with any other mistake stay as they are.
    """
    tables: dict[KeyPath, list[tuple[KeyPath, str]]] = {}
    for error in errors:
        path = true_path(error, values)
        tables.setdefault(path[:TABLE_KEYS], []).append((path, error["type"]))
    whole = copy.deepcopy(dict(values))
    for at, found in tables.items():
        mended = copy.deepcopy(value_at(values, at))
        common = find_model(model, at, {})
        if common is None or not isinstance(mended, dict) or not isinstance(at[-1], int):
            continue
        if all(_mend(mended, path[TABLE_KEYS:], kind, find_model(model, path[:-1], values), common)
               for path, kind in found):  # fmt: skip
            whole[str(at[0])][at[1]] = mended
    return whole


def _mend(
    table: dict[str, Any], below: KeyPath, kind: str, model: type[BaseModel] | None, common: type[BaseModel]
) -> bool:
    """Put one mistake of a table right, if it is plain what was meant.

    below  where it stands in the table
    model  of the table that it stands in
    """
    inner = value_at(table, below[:-1]) if below else None
    if not isinstance(inner, dict) or model is None:
        return False
    key = str(below[-1])
    if kind == "extra_forbidden" and (near := nearest(key, model.model_fields)):
        inner.setdefault(near, inner.pop(key))
        return True
    field = common.model_fields.get(key) if len(below) == 1 else None
    if field is None or field.is_required():
        return False
    inner.pop(key, None)
    return True


def _with_hidden(
    model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[ErrorDetails]
) -> Iterator[ErrorDetails]:
    """The errors, and those that a driver nobody knows hides: in the options that every driver has."""
    for error in errors:
        yield error
        path = true_path(error, values)
        table, common = value_at(values, path), find_model(model, path, values)
        if common is None or not isinstance(table, Mapping) or error["loc"] != path or tags_of(common):
            continue
        try:
            common.model_validate({key: value for key, value in table.items() if key in common.model_fields})
        except ValidationError as hidden:
            for found in hidden.errors(include_url=False):
                if found["loc"] and found["loc"][0] != DISCRIMINATOR:
                    yield {**found, "loc": (*path, *found["loc"])}


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
