"""The page's panel of meters in a real browser: a file dropped into the inbox appears while one looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge.clock import SystemClock
from edge.demo import meterfile
from edge.meters.config import MetersConfig
from edge.meters.questions import MeterQuestions
from edge.meters.room import Room
from edge.meters.service import Meters
from edge.supervisor import Problems
from edge.web import meters
from edge.web.config import WebConfig
from edge.web.server import WebServer
from tests import stores
from tests.acceptance.browser import Browser
from tests.acceptance.test_page import CONTRAST, CONTRAST_MIN, LIVE, free_port
from tests.webdata import FakeSite

NAME = '<b>"&NEM12#1.csv'


class Site(FakeSite):
    """One that takes meter files in."""

    def __init__(self, taking: Meters) -> None:
        super().__init__(SystemClock())
        self._taking = taking

    def status(self) -> dict[str, Any]:
        return {**super().status(), "meter_files": self._taking.status()}


class Noted(list[str]):
    def put(self, kind: str, _subject: str, _severity: str, _body: Mapping[str, Any] | None) -> None:
        self.append(kind)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """Address of the page and the inbox."""
    clock = SystemClock()
    async with stores.opened(folder, clock) as store:
        config = MetersConfig(scan_interval_s=0.1)
        taking = Meters(
            store=store, config=config, clock=clock, put_event=Noted().put, problems=Problems(),
            room=Room(store.path, None, disk_min_bytes=0),
        )  # fmt: skip
        web = WebConfig(port=free_port())
        routes = meters.routes(MeterQuestions(store.path))
        server = WebServer(web, Site(taking), clock, routes=routes, version="0.1.0")
        async with anyio.create_task_group() as group:
            group.start_soon(server.run)
            group.start_soon(taking.run)
            await server.wait_listening()
            yield f"http://127.0.0.1:{web.port}/", config.inbox_folder(store.path)
            group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
async def test_a_dropped_file_is_seen_to_arrive(tmp_path: Path, width: int, dark: bool) -> None:
    file = tmp_path / "file.csv"
    with file.open("w", newline="") as out:
        out.writelines(meterfile.nem12(meterfile.meters(1), date(2026, 1, 1), 31, created="202602011200"))
    async with (
        Browser.start(tmp_path / "chromium") as page,
        served(tmp_path) as (url, inbox),
    ):
        await page.screen(width, 780, dark=dark)
        await page.goto(url)
        await page.until(LIVE)
        assert await page.evaluate("document.getElementById('meters-section').hidden")
        file.rename(inbox / NAME)
        (inbox / "letter.csv").write_text("Dear customer,\n")
        await page.until("document.querySelectorAll('#files li').length === 2")
        await page.until("!document.getElementById('files').textContent.includes('… ')")
        await page.until("document.querySelectorAll('#channels li').length === 2")
        files, channels = await page.text("#files"), await page.text("#channels")
        assert f"✓ completed {NAME}" in files
        assert "2,976 values" in files
        assert "✕ failed letter.csv" in files
        assert "6102000001 B1, kWh" in channels
        assert "2026-01-01 to 2026-01-31 · 31 days" in channels
        assert await page.text("#meters-sum") == "1 meter, 2 channels"
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        pale = [found for found in await page.evaluate(CONTRAST) if found[0] < CONTRAST_MIN]
        assert pale == []
        await page.goto("about:blank")
        assert page.errors == []
