"""The API's routes, their limits and what they say to mistakes."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from edge.clock import FakeClock
from edge.times import parse_time
from edge.web.backend import EventsQuery, ReadingsQuery, Unavailable
from edge.web.replies import ROWS_PER_PIECE, answer
from edge.web.routes import Arguments, Role, Route, integer
from edge.web.server import create_app
from tests.webdata import FakeSite

NOW_MS = 1_767_225_600_000


@pytest.fixture
def site() -> FakeSite:
    return FakeSite(FakeClock(now_ms=NOW_MS))


@pytest.fixture
async def client(site: FakeSite) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(site) as made:
        yield made


def connect(site: FakeSite, *, routes: Sequence[Route] = ()) -> httpx.AsyncClient:
    app = create_app(site, site.clock, routes=routes, version="0.1.0")
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


@pytest.mark.anyio
async def test_status_devices_series_and_events_come_from_the_backend(
    client: httpx.AsyncClient, site: FakeSite
) -> None:
    assert (await client.get("/api/v1/status")).json() == json.loads(json.dumps(site.status()))
    devices = (await client.get("/api/v1/devices")).json()["devices"]
    assert [device["name"] for device in devices if device["state"] != "up"] == ["return_probe"]
    assert len((await client.get("/api/v1/series")).json()["series"]) == 24
    events = (await client.get("/api/v1/events", params={"limit": 2})).json()["events"]
    assert [event["kind"] for event in events] == ["readings-dropped", "device-recovered"]
    page = (await client.get("/api/v1/events", params={"before": events[-1]["seq"], "limit": 1})).json()
    assert page["events"][0]["kind"] == "device-failed"
    picked = (await client.get("/api/v1/events?kind=started&kind=clock-trusted")).json()["events"]
    assert [event["kind"] for event in picked] == ["clock-trusted", "started"]


class Noting(FakeSite):
    """Keeps what was asked."""

    asked: ReadingsQuery | None = None

    async def readings(self, query: ReadingsQuery) -> Sequence[Mapping[str, Any]]:
        self.asked = query
        return await super().readings(query)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (NOW_MS - 3_600_000, NOW_MS, 1000, 0)),
        ("&from=-90m&limit=5", (NOW_MS - 5_400_000, NOW_MS, 5, 0)),
        ("&from=-2d&to=-1d&resolution=PT1M", (NOW_MS - 172_800_000, NOW_MS - 86_400_000, 1000, 60)),
        ("&from=2025-12-01T00:00:00Z&resolution=PT1H", (1_764_547_200_000, NOW_MS, 1000, 3600)),
        ("&to=2025-12-01T10:00:00+10:00", (1_764_543_600_000, 1_764_547_200_000, 1000, 0)),
        ("&to=2025-12-01T10:00:00%2B10:00", (1_764_543_600_000, 1_764_547_200_000, 1000, 0)),
        ("&to=now&series=tank.ph", (NOW_MS - 3_600_000, NOW_MS, 1000, 0)),
    ],
)
async def test_readings_are_asked_for_as_the_parameters_say(
    query: str, asked: tuple[int, int, int, int]
) -> None:
    site = Noting(FakeClock(now_ms=NOW_MS))
    async with connect(site) as client:
        answered = await client.get(f"/api/v1/readings?series=tank.ph{query}")
    assert answered.status_code == 200
    assert site.asked is not None
    got = site.asked
    assert (got.from_ms, got.to_ms, got.limit, got.resolution_s) == asked
    assert got.series == ("tank.ph",)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "param", "words"),
    [
        ("/api/v1/readings", "series", "is missing"),
        ("/api/v1/readings?serie=tank.ph", "serie", "is not known here; this takes series, from"),
        ("/api/v1/readings?series=", "series", "1 to 200 characters"),
        (
            "/api/v1/readings?" + "&".join(f"series=a.{i}" for i in range(33)),
            "series",
            "33 times; 32 at most",
        ),
        ("/api/v1/readings?series=tank.ph&limit=0", "limit", "from 1 to 10000"),
        ("/api/v1/readings?series=tank.ph&limit=-5", "limit", "from 1 to 10000"),
        ("/api/v1/readings?series=tank.ph&limit=" + "9" * 5000, "limit", "from 1 to 10000"),
        ("/api/v1/readings?series=tank.ph&limit=" + "0" * 19 + "1" + "9" * 9, "limit", "from 1 to 10000"),
        ("/api/v1/readings?series=tank.ph&limit=٣", "limit", "from 1 to 10000"),
        ("/api/v1/readings?series=tank.ph&limit=5&limit=6", "limit", "2 times; 1 at most"),
        ("/api/v1/readings?series=tank.ph&from=yesterday", "from", "-90m, -6h or -7d"),
        ("/api/v1/readings?series=tank.ph&from=2026-01-01T00:00:00", "from", "no time zone"),
        ("/api/v1/readings?series=tank.ph&from=now", "from", "must be before `to`"),
        ("/api/v1/readings?series=tank.ph&from=-8d", "from", "coarser resolution"),
        ("/api/v1/readings?series=tank.ph&from=-90d&resolution=PT1M", "from", "coarser resolution"),
        ("/api/v1/readings?series=tank.ph&resolution=PT5M", "resolution", "one of raw, PT1M, PT1H"),
        (
            "/api/v1/readings?" + "&".join(f"series=a.{i}" for i in range(6)) + "&limit=10000",
            "limit",
            "times 6 series is more than 50000",
        ),
        ("/api/v1/events?limit=1001", "limit", "from 1 to 1000"),
        ("/api/v1/status?verbose=1", "verbose", "no parameters"),
    ],
)
async def test_a_wrong_parameter_is_named_with_what_to_write(
    client: httpx.AsyncClient, path: str, param: str, words: str
) -> None:
    answered = await client.get(path)
    assert answered.status_code == 400
    assert answered.json()["param"] == param
    assert words in answered.json()["error"]


@pytest.mark.parametrize("wrong", ["-1y", "--1h", "-1.5h", "12:00", "0", "9" * 400, "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|has no time zone"):
        parse_time(wrong, NOW_MS)


@pytest.mark.anyio
async def test_history_in_pieces_is_the_whole_history(client: httpx.AsyncClient) -> None:
    """More rows than one piece holds, several series, one of them empty; compressed and plain alike."""
    query = "series=tank.ph&series=return_probe.temperature&series=room.humidity&limit=600"
    plain = await client.get(f"/api/v1/readings?{query}", headers={"accept-encoding": "identity"})
    packed = await client.get(f"/api/v1/readings?{query}", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.json() == packed.json()
    rows = [len(part["readings"]) for part in plain.json()["readings"]]
    assert rows == [600, 0, 600]
    assert ROWS_PER_PIECE < 600


@pytest.mark.anyio
async def test_an_unknown_series_is_not_found(client: httpx.AsyncClient) -> None:
    answered = await client.get("/api/v1/readings?series=tank.nothing")
    assert answered.status_code == 404
    assert "/api/v1/series" in answered.json()["error"]


class Closed(FakeSite):
    async def events(self, query: EventsQuery) -> Sequence[Mapping[str, Any]]:
        raise Unavailable("the database is being checked; ask again in a minute")

    async def series(self) -> Sequence[Mapping[str, Any]]:
        raise RuntimeError("secret detail of the inside")


@pytest.mark.anyio
async def test_what_cannot_be_answered_now_says_when_and_a_fault_tells_nothing_of_the_inside() -> None:
    async with connect(Closed(FakeClock())) as client:
        closed = await client.get("/api/v1/events")
        broken = await client.get("/api/v1/series")
    assert closed.status_code == 503
    assert closed.headers["retry-after"] == "5"
    assert closed.json() == {"error": "the database is being checked; ask again in a minute"}
    assert broken.status_code == 500
    assert "secret" not in broken.text
    assert "log" in broken.json()["error"]


@pytest.mark.anyio
async def test_probes(client: httpx.AsyncClient, site: FakeSite) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    assert (await client.get("/readyz")).json() == {"ready": True, "problems": []}
    site.not_ready = ["polling has not begun"]
    not_ready = await client.get("/readyz")
    assert not_ready.status_code == 503
    assert not_ready.json() == {"ready": False, "problems": ["polling has not begun"]}
    assert (await client.get("/healthz")).status_code == 200
    metrics = await client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "tidewatt_backlog_rows" in metrics.text


@pytest.mark.anyio
async def test_nothing_there_and_wrong_method_are_json_with_a_hint(client: httpx.AsyncClient) -> None:
    for path in (
        "/api/v1/nothing",
        "/nothing",
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/api/v1/status/",
    ):
        answered = await client.get(path)
        assert answered.status_code == 404
        assert "/api/v1/docs" in answered.json()["error"]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answered = await client.request(method, "/api/v1/status")
        assert answered.status_code == 405
        assert answered.headers["allow"]
        assert method in answered.json()["error"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/page/app.js", "/api/v1/status", "/api/v1/live", "/healthz"])
async def test_head_has_the_headers_and_no_body(client: httpx.AsyncClient, path: str) -> None:
    answered = await client.head(path)
    assert answered.status_code == 200
    assert answered.content == b""
    assert answered.headers["content-type"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/nothing", "/api/v1/readings", "/page/style.css"])
async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


@pytest.mark.anyio
async def test_the_page_is_revalidated_and_data_is_not_kept(client: httpx.AsyncClient) -> None:
    first = await client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    again = await client.get("/", headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get("/", headers={"if-none-match": '"other"'})).status_code == 200
    plain = await client.get("/", headers={"accept-encoding": "identity"})
    assert plain.content == first.content
    assert (await client.get("/api/v1/status")).headers["cache-control"] == "no-store"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8080", 200), ("127.0.0.1:8080", 200), ("127.8.8.8", 200), ("[::1]:8080", 200),
        ("reef.localhost:1", 200), ("evil.example", 421), ("127.0.0.1.evil.example:8080", 421), ("192.168.1.9", 421),
        ("", 421), ("localhost.evil.example", 421), ("[::1].evil", 421),
    ],
)  # fmt: skip
async def test_a_page_bound_to_loopback_answers_to_loopback_names_only(
    client: httpx.AsyncClient, host: str, status: int
) -> None:
    answered = await client.get("/api/v1/status", headers={"host": host})
    assert answered.status_code == status
    if status == 421:
        assert "[web] host" in answered.json()["error"]


@pytest.mark.anyio
async def test_a_page_on_the_network_answers_to_any_name(site: FakeSite) -> None:
    app = create_app(site, site.clock, loopback_only=lambda: False)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://reef.lan") as client:
        assert (await client.get("/healthz")).status_code == 200


async def _double(request: Request, args: Arguments) -> Response:
    return answer(request, {"double": args["number"] * 2})


@pytest.mark.anyio
@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 200), (Role.OPERATOR, 403), (Role.ADMIN, 403)])
async def test_a_slice_hands_over_routes_and_only_reading_is_open(
    site: FakeSite, role: Role, status: int
) -> None:
    number = integer("number", "any", low=0, high=9)
    route = Route(
        method="GET", path="/api/v1/double", role=role, handler=_double, summary="Twice", params=(number,)
    )
    async with connect(site, routes=[route]) as client:
        answered = await client.get("/api/v1/double?number=4")
    assert answered.status_code == status
    if status == 200:
        assert answered.json() == {"double": 8}


@pytest.mark.anyio
async def test_large_answers_are_compressed_for_those_who_take_it(site: FakeSite) -> None:
    site.problems = ["word " * 2000]
    async with connect(site) as client:
        request = client.build_request("GET", "/api/v1/status", headers={"accept-encoding": "gzip"})
        answered = await client.send(request, stream=True)
        raw = b"".join([piece async for piece in answered.aiter_raw()])
    assert len(raw) < 2000
    assert json.loads(gzip.decompress(raw))["problems"] == site.problems
