"""The OpenAPI document: well-formed, complete, and true of what the routes answer."""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator

from edge.clock import FakeClock
from edge.web import openapi
from edge.web.server import create_app
from tests.webdata import FakeSite

#: What of OpenAPI 3.1 is used here; the schemas inside are checked by JSON Schema's own metaschema.
CONTENT: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "required": ["schema"],
        "properties": {"schema": {"type": "object"}},
        "additionalProperties": False,
    },
}
PARAMETER: Final = {
    "type": "object",
    "required": ["name", "in", "required", "description", "schema"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "in": {"enum": ["query", "path"]},
        "required": {"type": "boolean"},
        "description": {"type": "string", "minLength": 1},
        "schema": {"type": "object", "required": ["type"]},
    },
    "additionalProperties": False,
}
OPERATION: Final = {
    "type": "object",
    "required": ["operationId", "summary", "tags", "parameters", "responses", "x-role"],
    "properties": {
        "operationId": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
        "summary": {"type": "string", "minLength": 1},
        "description": {"type": "string", "minLength": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "parameters": {"type": "array", "items": PARAMETER},
        "responses": {
            "type": "object",
            "required": ["200"],
            "patternProperties": {
                "^[2-5][0-9][0-9]$": {
                    "type": "object",
                    "required": ["description", "content"],
                    "properties": {"description": {"type": "string"}, "content": CONTENT},
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
        "x-role": {"enum": ["viewer", "operator", "admin"]},
    },
    "additionalProperties": False,
}
OPENAPI: Final = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "additionalProperties": {"type": "string"},
        },
        "servers": {"type": "array", "items": {"type": "object", "required": ["url"]}},
        "paths": {
            "type": "object",
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "properties": {"get": OPERATION},
                    "additionalProperties": False,
                    "minProperties": 1,
                }
            },
            "additionalProperties": False,
        },
        "components": {"type": "object", "required": ["schemas"]},
    },
    "additionalProperties": False,
}
QUERIES: Final = {
    "/api/v1/readings": [
        "?series=tank.ph&series=sump.water_level",
        "?series=tank.temperature&resolution=PT1M&limit=9",
        "?series=return_probe.temperature&from=-7d",
    ],
    "/api/v1/events": ["", "?kind=device-failed", "?limit=1"],
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    site = FakeSite(FakeClock())
    transport = httpx.ASGITransport(app=create_app(site, site.clock, version="1.2.3"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/api/v1/openapi.json")).json()
    return found


def references(part: Any) -> Iterator[str]:
    """Every $ref in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def close(part: Any) -> None:
    """Let every object schema with properties allow those only: what is undocumented shall be noticed."""
    if isinstance(part, dict):
        if "properties" in part:
            part.setdefault("additionalProperties", False)
        for value in part.values():
            close(value)
    elif isinstance(part, list):
        for value in part:
            close(value)


@pytest.mark.anyio
async def test_the_document_is_well_formed(document: dict[str, Any]) -> None:
    Draft202012Validator(OPENAPI).validate(document)
    assert document["info"]["version"] == "1.2.3"
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} == set(schemas)
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.anyio
async def test_every_route_answers_as_documented(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    closed = copy.deepcopy(document)
    close(closed["components"]["schemas"])
    checked = 0
    for path, operations in document["paths"].items():
        content = operations["get"]["responses"]["200"]["content"]
        for query in QUERIES.get(path, [""]):
            if "application/json" not in content:
                continue
            answered = await client.get(path + query)
            assert answered.status_code == 200, answered.text
            schema = {**content["application/json"]["schema"], "components": closed["components"]}
            Draft202012Validator(schema).validate(answered.json())
            checked += 1
    assert checked == 12


@pytest.mark.anyio
async def test_what_is_not_documented_is_noticed(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    close(document["components"]["schemas"])
    body = (await client.get("/api/v1/status")).json()
    schema = {"$ref": "#/components/schemas/Status", "components": document["components"]}
    validator = Draft202012Validator(schema)
    assert validator.is_valid(body)
    assert not validator.is_valid({**body, "surprise": 1})
    assert not validator.is_valid({key: value for key, value in body.items() if key != "problems"})
    assert not validator.is_valid({**body, "started": "2026-01-31"})


@pytest.mark.anyio
async def test_errors_are_as_documented(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Error", "components": document["components"]}
    for path, status in (
        ("/api/v1/readings", 400),
        ("/api/v1/readings?series=no.such", 404),
        ("/api/v1/events?limit=0", 400),
    ):
        answered = await client.get(path)
        assert answered.status_code == status
        assert str(status) in document["paths"][path.partition("?")[0]]["get"]["responses"]
        Draft202012Validator(schema).validate(answered.json())


@pytest.mark.anyio
async def test_the_documented_limits_are_the_real_ones(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    parameters = document["paths"]["/api/v1/readings"]["get"]["parameters"]
    limit = next(part["schema"] for part in parameters if part["name"] == "limit")
    for value, status in (
        (limit["minimum"] - 1, 400),
        (limit["minimum"], 200),
        (limit["maximum"], 200),
        (limit["maximum"] + 1, 400),
    ):
        answered = await client.get(f"/api/v1/readings?series=tank.ph&limit={value}")
        assert answered.status_code == status
    resolution = next(part["schema"] for part in parameters if part["name"] == "resolution")
    for word in resolution["enum"]:
        assert (await client.get(f"/api/v1/readings?series=tank.ph&resolution={word}")).status_code == 200


@pytest.mark.anyio
async def test_the_docs_page_names_every_route_without_a_script(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    page = (await client.get("/api/v1/docs")).text
    for path in document["paths"]:
        assert path in page
    assert "<script" not in page
    assert "style=" not in page


@pytest.mark.anyio
async def test_the_document_is_made_beside_the_loop_that_control_runs_on(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made_by = openapi.document, list[threading.Thread]()

    def noting(*arguments: Any) -> dict[str, Any]:
        made_by.append(threading.current_thread())
        return make(*arguments)

    monkeypatch.setattr(openapi, "document", noting)
    for _ in range(2):
        assert (await client.get("/api/v1/openapi.json")).status_code == 200
    assert len(made_by) == 1
    assert made_by != [threading.current_thread()]
