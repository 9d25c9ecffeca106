"""What options a config model has: finding the field behind a key, its secrets, its range, its help.

Sections are pydantic models; a list of devices is a union of models told apart by `driver`.  A field whose
type is known only at run time carries an `AtRunTime` in its annotation.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, GetCoreSchemaHandler, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from edge.tomllines import KeyPath

DISCRIMINATOR: Final = "driver"
SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|postgres$|api_?key|private_key$")
MASK: Final = "********"
HEX_FORMAT: Final = "hex"


@dataclass(frozen=True, slots=True)
class AtRunTime:
    """Annotation of a field whose true type is made by `resolve` (from the catalog of drivers)."""

    resolve: Callable[[], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.resolve())


def concrete_types(annotation: Any, metadata: Iterable[Any] = ()) -> list[Any]:
    """The types an annotation allows, with Annotated, unions and run-time types taken apart."""
    for mark in metadata:
        if isinstance(mark, AtRunTime):
            return concrete_types(mark.resolve())
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        return concrete_types(inner, marks)
    if origin is Union or origin is types.UnionType:
        return [found for part in get_args(annotation) for found in concrete_types(part)]
    return [annotation]


def field_types(field: FieldInfo) -> list[Any]:
    return concrete_types(field.annotation, field.metadata)


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def model_for(kinds: Sequence[Any], values: Any) -> type[BaseModel] | None:
    """The model that a table of `values` is read by; what all have in common where its driver is unknown."""
    models: list[type[BaseModel]] = [kind for kind in kinds if is_model(kind)]
    if len(models) <= 1:
        return models[0] if models else None
    tag = values.get(DISCRIMINATOR) if isinstance(values, Mapping) else None
    return next((model for model in models if tag in tags_of(model)), _common(models))


def _common(models: Sequence[type[BaseModel]]) -> type[BaseModel] | None:
    """The nearest model that all these are derived from; None where there is no other than BaseModel."""
    shared = (base for base in models[0].__mro__ if all(issubclass(model, base) for model in models))
    return next((base for base in shared if base is not BaseModel and is_model(base)), None)


def tags_of(model: type[BaseModel]) -> tuple[Any, ...]:
    """The driver names a device model stands for."""
    field = model.model_fields.get(DISCRIMINATOR)
    return get_args(field.annotation) if field else ()


def item_types(kinds: Sequence[Any], key: str | int) -> list[Any]:
    """What a list (for an index) or a dict (for a key) of these types holds."""
    wanted = (list, tuple, set, frozenset, Sequence) if isinstance(key, int) else (dict, Mapping)
    return [
        found
        for kind in kinds
        if get_origin(kind) in wanted and get_args(kind)
        for found in concrete_types(get_args(kind)[-1 if isinstance(key, str) else 0])
    ]


def find_field(model: type[BaseModel], path: KeyPath, values: Any) -> FieldInfo | None:
    """The field that `path` leads to, steered by the values there; None where there is no such option."""
    kinds: list[Any] = [model]
    field: FieldInfo | None = None
    for key in path:
        here = model_for(kinds, values) if isinstance(key, str) else None
        if here is not None:
            field = here.model_fields.get(str(key))
            if field is None:
                return None
            kinds = field_types(field)
        else:
            field = None
            kinds = item_types(kinds, key)
            if not kinds:
                return None
        values = value_at(values, (key,))
    return field


def find_model(model: type[BaseModel], path: KeyPath, values: Any) -> type[BaseModel] | None:
    """The model whose table `path` leads to, if it is one."""
    kinds: list[Any] = [model]
    for key in path:
        here = model_for(kinds, values) if isinstance(key, str) else None
        if here is not None:
            if key not in here.model_fields:
                return None
            kinds = field_types(here.model_fields[str(key)])
        else:
            kinds = item_types(kinds, key)
        values = value_at(values, (key,))
    return model_for(kinds, values)


def value_at(values: Any, path: KeyPath) -> Any:
    """What stands at `path`, None where nothing does."""
    for key in path:
        if isinstance(key, int):
            values = values[key] if isinstance(values, list | tuple) and key < len(values) else None
        else:
            values = values.get(key) if isinstance(values, Mapping) else None
    return values


def leaves(values: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value that is not a table; a list of plain values is one."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    elif isinstance(values, list | tuple) and values and all(isinstance(item, Mapping) for item in values):
        for index, item in enumerate(values):
            yield from leaves(item, (*path, index))
    else:
        yield path, values


def is_secret(name: str, field: FieldInfo | None) -> bool:
    """Whether a value of this option must never be shown."""
    kinds = field_types(field) if field else []
    return SecretStr in kinds or SecretBytes in kinds or SECRET_NAME.search(name.lower()) is not None


def is_hex(field: FieldInfo | None) -> bool:
    """Whether people read and write this number in hex (`format` in its schema): an address on a bus."""
    extra = field.json_schema_extra if field else None
    return isinstance(extra, Mapping) and extra.get("format") == HEX_FORMAT


def number_text(number: Any, as_hex: bool) -> str:
    """A number as it stands in the config."""
    return f"0x{number:02x}" if as_hex and isinstance(number, int) and number >= 0 else f"{number}"


def range_text(field: FieldInfo) -> str:
    """The numbers an option accepts, in words: "from 1 to 65535"; "" where there is no bound."""
    low = high = ""
    as_hex = is_hex(field)
    for mark in field.metadata:
        for part in mark if isinstance(mark, annotated_types.GroupedMetadata) else (mark,):
            match part:
                case annotated_types.Ge(ge):
                    low = number_text(ge, as_hex)
                case annotated_types.Gt(gt):
                    low = f"above {number_text(gt, as_hex)}"
                case annotated_types.Le(le):
                    high = number_text(le, as_hex)
                case annotated_types.Lt(lt):
                    high = f"below {number_text(lt, as_hex)}"
    if low and high and not low.startswith("above") and not high.startswith("below"):
        return f"from {low} to {high}"
    words = [low if low.startswith("above") else f"at least {low}"] if low else []
    words += [high if high.startswith("below") else f"at most {high}"] if high else []
    return " and ".join(words)


def help_text(field: FieldInfo) -> str:
    """Description and default of an option, for the end of a message."""
    parts = [field.description or ""]
    default = field.get_default(call_default_factory=False)
    if isinstance(default, bool):
        parts.append(f"default {str(default).lower()}")
    elif isinstance(default, int | float) or (isinstance(default, str) and default):
        parts.append(f"default {number_text(default, is_hex(field))}")
    return "; ".join(part for part in parts if part)


def nearest(word: str, words: Iterable[str]) -> str:
    """The known word that was probably meant, "" if none is near."""
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(words), n=1, cutoff=0.6)
    return found[0] if found else ""
