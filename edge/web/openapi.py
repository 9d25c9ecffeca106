"""The OpenAPI 3.1 document and its page, made from the table of routes.  Imported when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from pydantic import TypeAdapter

from edge.web import models
from edge.web.routes import Param, Route

ERROR_WORDS: Final = {
    400: "A parameter is wrong",
    403: "The role does not suffice",
    404: "It does not exist",
    408: "Nothing more came",
    413: "It is too large",
    415: "It comes in a form that is not read",
    503: "It cannot be answered now",
    507: "There is no room for it",
}
DESCRIPTION: Final = (
    "The local interface of a tidewatt site. Times are ISO 8601 in UTC with milliseconds, ids of 64 bits are "
    "strings, and every error is an object with `error`: what is wrong, and what to do. Clients ignore keys "
    "they do not know."
)


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The OpenAPI document."""
    table = list(routes)
    types = {route.response.__name__: route.response for route in table if route.response is not None}
    types[models.Error.__name__] = models.Error
    _, schemas = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter(type_)) for name, type_ in types.items()],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tidewatt", "version": version, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(route: Route) -> dict[str, Any]:
    answers = {"200": {"description": route.summary, "content": _content(route)}}
    for status in route.errors:
        answers[str(status)] = {
            "description": ERROR_WORDS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    if route.path == "/readyz":
        answers["503"] = {"description": "It does not, and why", "content": _content(route)}
    return {
        "operationId": operation_id(route),
        "summary": route.summary,
        **({"description": route.description} if route.description else {}),
        "tags": [route.tag],
        "parameters": [_parameter(param) for param in route.params],
        "responses": answers,
        "x-role": str(route.role),
    }


def operation_id(route: Route) -> str:
    """A name for generated clients: "get_status"."""
    words = route.path.removeprefix("/api/v1").replace("{", "").replace("}", "").replace(".", "_")
    return route.method.lower() + words.replace("/", "_")


def _content(route: Route) -> dict[str, Any]:
    if route.response is None:
        return {route.media: {"schema": {"type": "string"}}}
    return {route.media: {"schema": {"$ref": f"#/components/schemas/{route.response.__name__}"}}}


def _parameter(param: Param) -> dict[str, Any]:
    schema = dict(param.schema)
    if param.default is not None and "default" not in schema:
        schema["default"] = param.default
    if param.many_max:
        schema = {"type": "array", "items": schema, "maxItems": param.many_max}
    return {
        "name": param.name,
        "in": param.place,
        "required": param.required or param.place == "path",
        "description": param.description,
        "schema": schema,
    }


def page(routes: Sequence[Route], version: str) -> str:
    """The document for people, without a script."""
    parts = [_section(route) for route in routes]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>tidewatt API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/page/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/page/style.css">'
        f'</head><body class="docs"><main><h1>tidewatt {escape(version)} API</h1><p>{_prose(DESCRIPTION)}</p>'
        '<p><a href="/api/v1/openapi.json">OpenAPI document</a> · <a href="/">Status page</a></p>'
        f"{''.join(parts)}</main></body></html>"
    )


def _section(route: Route) -> str:
    path = escape(route.path)
    shown = f'<a href="{path}">{path}</a>' if route.method == "GET" and not _needs_arguments(route) else path
    rows = "".join(
        f"<tr><th scope=row><code>{escape(param.name)}</code></th><td>{escape(_kind(param))}</td>"
        f"<td>{_prose(param.description)}</td></tr>"
        for param in route.params
    )
    head = "<thead><tr><th>Parameter<th>Value<th>Meaning</thead>"
    table = f"<table>{head}<tbody>{rows}</tbody></table>" if rows else ""
    result = route.response.__name__ if route.response is not None else route.media
    return (
        f'<section class="panel"><h2><code>{route.method} {shown}</code></h2><p>{_prose(route.summary)}.'
        f" {_prose(route.description)}</p>{table}<p>Answers with <code>{escape(result)}</code>;"
        f" for role {route.role} and above.</p></section>"
    )


def _needs_arguments(route: Route) -> bool:
    return any(param.required or param.place == "path" for param in route.params)


def _kind(param: Param) -> str:
    schema = _parameter(param)["schema"]
    inner = schema.get("items", schema)
    words = " | ".join(inner["enum"]) if "enum" in inner else str(inner["type"])
    if "minimum" in inner:
        words += f" {inner['minimum']} to {inner['maximum']}"
    if "default" in inner:
        words += f", {inner['default']} if not given"
    return words + (" (required)" if param.required else "")


def _prose(words: str) -> str:
    """Escaped text with `code` in it."""
    parts = escape(words).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
