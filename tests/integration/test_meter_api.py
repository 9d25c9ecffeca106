"""Meters, intervals and files over HTTP: the answers are what the database says, in the shape the document says."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import click
import httpx
import pytest
from jsonschema import Draft202012Validator

from edge.cli.intervals import intervals as command
from edge.clock import FakeClock, SystemClock
from edge.demo import meterfile
from edge.meters.config import MetersConfig
from edge.meters.importer import Importer
from edge.meters.intervals import RESOLUTIONS
from edge.meters.queries import MeterHistory
from edge.meters.questions import MeterQuestions
from edge.web import meters
from edge.web.server import create_app
from tests import stores
from tests.webdata import FakeSite

pytestmark = pytest.mark.anyio

NMI = "6102000001"
FIRST = date(2026, 1, 20)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The API over a database with a good file and one that is none."""
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    with good.open("w", newline="") as out:
        out.writelines(meterfile.nem12(meterfile.meters(1), FIRST, 40, created="202603201200"))
    bad.write_text("this is a letter\n")
    clock = SystemClock()
    async with stores.opened(tmp_path, clock) as store:
        importer = Importer(store, MetersConfig(), clock)
        for path in (good, bad):
            await importer.take(path, name=path.name, source="inbox")
    fake = FakeClock()
    app = create_app(
        FakeSite(fake), fake, routes=meters.routes(MeterQuestions(tmp_path / "tidewatt.db")),
        loopback_only=lambda: False,
    )  # fmt: skip
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8080"
    ) as found:
        yield found


async def asked(client: httpx.AsyncClient, path: str, /, **params: Any) -> Any:
    """The answer, checked against the document."""
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    document = (await client.get("/api/v1/openapi.json")).json()
    route = path if path in document["paths"] else "/api/v1/files/{hash}"
    schema = document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
    return answer.json()


async def test_meters_are_listed(client: httpx.AsyncClient) -> None:
    (meter,) = (await asked(client, "/api/v1/meters"))["meters"]
    assert (meter["nmi"], meter["utc_offset_min"], meter["reads"]) == (NMI, 600, [])
    assert [(one["suffix"], one["unit"], one["interval_min"], one["days"]) for one in meter["channels"]] == [
        ("B1", "kWh", 30, 40), ("E1", "kWh", 30, 40),
    ]  # fmt: skip
    assert meter["channels"][0]["first"] == "2026-01-20"


async def test_intervals_with_their_digits_and_totals_that_are_exact(client: httpx.AsyncClient) -> None:
    day = {"nmi": NMI, "suffix": "E1", "from": "2026-01-19T14:00:00Z", "to": "2026-01-20T14:00:00Z"}
    raw = await asked(client, "/api/v1/intervals", **day)
    total = await asked(client, "/api/v1/intervals", **day, resolution="P1D")
    assert (raw["total"], len(raw["intervals"]), raw["utc_offset"]) == (48, 48, "+10:00")
    assert raw["intervals"][0]["start"] == "2026-01-19T14:00:00.000Z"
    assert all(len(row["value"].partition(".")[2]) == 3 for row in raw["intervals"])
    (whole,) = total["intervals"]
    assert Decimal(whole["value"]) == sum(Decimal(row["value"]) for row in raw["intervals"])
    assert (whole["count"], whole["expected"]) == (48, 48)


async def test_all_there_is_comes_in_pages(client: httpx.AsyncClient) -> None:
    page = await asked(
        client, "/api/v1/intervals", nmi=NMI, suffix="B1", resolution="P1D", limit=7, offset=35
    )
    assert (page["total"], len(page["intervals"])) == (40, 5)
    begin = datetime.fromisoformat(page["intervals"][-1]["start"])
    assert begin == datetime(2026, 2, 27, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("params", "status", "told"),
    [
        ({"suffix": "E1"}, 400, "nmi is missing"),
        ({"nmi": NMI, "suffix": "E9"}, 404, "it has: B1, E1"),
        ({"nmi": NMI, "suffix": "E1", "resolution": "PT5M"}, 400, "of 30 minutes, which PT5M cannot show"),
        ({"nmi": NMI, "suffix": "E1", "resolution": "P1Y"}, 400, "must be one of raw"),
        ({"nmi": NMI, "suffix": "E1", "from": "-1d", "to": "-2d"}, 400, "from must be before"),
        ({"nmi": NMI, "suffix": "E1", "limit": "100000"}, 400, "limit must be"),
    ],
)
async def test_what_cannot_be_answered_is_told(
    client: httpx.AsyncClient, params: dict[str, str], status: int, told: str
) -> None:
    answer = await client.get("/api/v1/intervals", params=params)
    assert (answer.status_code, told in answer.json()["error"]) == (status, True), answer.text


async def test_files_with_what_was_wrong_in_them(client: httpx.AsyncClient) -> None:
    files = (await asked(client, "/api/v1/files"))["files"]
    assert {file["name"]: file["state"] for file in files} == {"good.csv": "completed", "bad.csv": "failed"}
    (failed,) = (await asked(client, "/api/v1/files", state="failed"))["files"]
    detail = await asked(client, f"/api/v1/files/{failed['hash'][:12]}")
    assert detail["file"] == failed
    assert failed["error"]
    good = next(file for file in files if file["state"] == "completed")
    assert (good["days"], good["values"], good["problems"]) == (80, 80 * 48, 0)
    missing = await client.get("/api/v1/files/0123456789abcdef")
    assert (missing.status_code, "no files have a hash" in missing.text) == (404, True)
    wrong = await client.get("/api/v1/files", params={"state": "gone"})
    assert (wrong.status_code, "must be one of pending" in wrong.text) == (400, True)


def test_page_command_line_and_queries_know_the_same_resolutions() -> None:
    (option,) = [option for option in command.params if option.name == "resolution"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == meters.RESOLUTIONS == RESOLUTIONS


async def test_a_question_that_takes_too_long_ends_with_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on in its thread for ever, and take a turn from those that follow."""
    began, ended = threading.Event(), threading.Event()
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def forever(history: MeterHistory) -> list[Any]:
        began.set()
        try:
            return list(history.connection.execute(endless))
        finally:
            ended.set()

    stores.migrated(tmp_path)
    monkeypatch.setattr(MeterHistory, "meters", forever)
    async with anyio.create_task_group() as group:
        group.start_soon(MeterQuestions(tmp_path / "tidewatt.db").meters)
        assert await anyio.to_thread.run_sync(began.wait, 60.0)
        group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(ended.wait, 60.0)
