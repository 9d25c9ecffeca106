"""Routes as data: what a slice hands over, what the OpenAPI document and the router are made from."""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from edge.times import parse_time

TEXT_MAX: Final = 200
DIGITS_MAX: Final = 20
UNESCAPED_PLUS: Final = re.compile(r" (\d\d:?\d\d)$")
"""A zone's "+" that the caller did not escape arrives as a blank."""


class Role(enum.StrEnum):
    """Who may call a route; each role may do what the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class BadParameter(ValueError):
    """A parameter that cannot be used: which one, and what to write instead."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name} {text}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A parameter in the query, or in the path.

    schema    JSON Schema of one value
    parse     (text, now_ms) -> value; its ValueError says what is wrong with the text
    many_max  0 for a single value, else how often it may be repeated; the handler then gets a tuple
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    parse: Callable[[str, int], Any]
    default: Any = None
    required: bool = False
    many_max: int = 0
    place: Literal["query", "path"] = "query"


Arguments = Mapping[str, Any]
Handler = Callable[[Request, Arguments], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method on one path.

    response  the type that the JSON body has; None for a body that is no JSON
    errors    which statuses it can answer with, beside the result
    instead   what to do where the role does not suffice
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    role: Role
    handler: Handler
    summary: str
    description: str = ""
    tag: str = "site"
    params: tuple[Param, ...] = ()
    response: Any = None
    media: str = "application/json"
    errors: tuple[int, ...] = ()
    instead: str = "use the command line"


def integer(name: str, description: str, *, low: int, high: int, default: int | None = None) -> Param:
    """A whole number in a range."""

    def parse(text: str, _now_ms: int) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else -1
        if not low <= number <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return number

    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    return Param(name=name, description=description, schema=schema, parse=parse, default=default)


def choice(name: str, description: str, values: Mapping[str, Any], *, default: str) -> Param:
    """One of some words; the handler gets what the word stands for."""

    def parse(text: str, _now_ms: int) -> Any:
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return values[text]

    schema = {"type": "string", "enum": list(values), "default": default}
    return Param(name=name, description=description, schema=schema, parse=parse, default=values[default])


def text(name: str, description: str, *, required: bool = False, many_max: int = 0) -> Param:
    """A short text."""

    def parse(value: str, _now_ms: int) -> str:
        if not 0 < len(value) <= TEXT_MAX:
            raise ValueError(f"must have 1 to {TEXT_MAX} characters")
        return value

    schema = {"type": "string", "minLength": 1, "maxLength": TEXT_MAX}
    return Param(
        name=name, description=description, schema=schema, parse=parse, required=required, many_max=many_max
    )


def moment(name: str, description: str) -> Param:
    """A time; the handler gets UTC milliseconds, or None."""

    def parse(value: str, now_ms: int) -> int:
        return parse_time(UNESCAPED_PLUS.sub(r"+\1", value), now_ms)

    schema = {"type": "string", "examples": ["-6h", "2026-01-31T08:00:00Z", "now"]}
    return Param(name=name, description=description, schema=schema, parse=parse)


def arguments(route: Route, query: QueryParams, path: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """The handler's arguments out of a request.  Raises BadParameter."""
    known = [param.name for param in route.params if param.place == "query"]
    for name in query:
        if name not in known:
            raise BadParameter(
                name[:TEXT_MAX], f"is not known here; this takes {', '.join(known) or 'no parameters'}"
            )
    return {
        param.name: _argument(param, query.getlist(param.name), now_ms)
        if param.place == "query"
        else _argument(param, [str(path[param.name])], now_ms)
        for param in route.params
    }


def _argument(param: Param, texts: Sequence[str], now_ms: int) -> Any:
    if not texts:
        if param.required:
            raise BadParameter(param.name, "is missing; " + param.description)
        return () if param.many_max and param.default is None else param.default
    if len(texts) > max(1, param.many_max):
        raise BadParameter(param.name, f"stands there {len(texts)} times; {max(1, param.many_max)} at most")
    try:
        values = tuple(param.parse(text, now_ms) for text in texts)
    except BadParameter:
        raise
    except ValueError as error:
        raise BadParameter(param.name, str(error)) from None
    return values if param.many_max else values[0]
