"""The page in a real browser, against the real server: what a keeper sees and can do."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest

from edge.clock import SystemClock
from edge.web.backend import EventsQuery
from edge.web.config import WebConfig
from edge.web.server import WebServer
from edge.web.sse import STREAMS_MAX
from tests.acceptance.browser import Browser
from tests.webdata import ERROR, FakeSite

ROW: Final = '[data-series="{}"]'
LIVE: Final = "document.querySelector('#connection').textContent.includes('Live')"
SPARKS: Final = "document.querySelectorAll('.spark .line').length"
MARKUP: Final = '<img src=x onerror="document.title=1"> & `tidewatt test return_probe`'
#: The lowest contrast that WCAG 2 AA allows for text of this size.
CONTRAST_MIN: Final = 4.5
CONTRAST: Final = """(() => {
  const luminance = (colour) => {
    const parts = colour.match(/[\\d.]+/g).map(Number);
    const [r, g, b] = parts.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const shown = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!shown || !node.checkVisibility() || node.closest('noscript, .skip, dialog')) continue;
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(ground(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.className + ': ' + node.textContent.slice(0, 40)]);
  }
  return found;
})()"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Served:
    """A site behind a server that can be stopped and started."""

    def __init__(self) -> None:
        self.site = FakeSite(SystemClock())
        self.config = WebConfig(port=free_port())
        self.url = f"http://127.0.0.1:{self.config.port}/"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = WebServer(self.config, self.site, self.site.clock, version="0.1.0")
        async with anyio.create_task_group() as group:
            group.start_soon(server.run)
            await server.wait_listening()
            yield
            group.cancel_scope.cancel()


@pytest.fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with Browser.start(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    async with made.running():
        yield made


@pytest.fixture
async def page(browser: Browser, served: Served) -> AsyncIterator[Browser]:
    """The tab of a browser, left before the server stops; it must not have complained about anything."""
    browser.errors.clear()
    await browser.screen(1280, 900)
    yield browser
    await browser.goto("about:blank")
    assert browser.errors == []


async def open_page(page: Browser, served: Served, *, sparks: int = 1) -> None:
    await page.goto(served.url)
    await page.until(f"{LIVE} && {SPARKS} >= {sparks}")


@pytest.mark.anyio
async def test_a_keeper_sees_the_site_its_values_and_what_is_wrong(page: Browser, served: Served) -> None:
    await page.screen(1280, 4000)
    await open_page(page, served, sparks=24)
    assert await page.text("#site") == "reef-1"
    assert "Needs attention" in await page.text("#health")
    problems = await page.text("#problem-list")
    assert ERROR in problems
    assert "correct its high in the config" in problems
    row = await page.text(ROW.format("tank.temperature"))
    assert "temperature" in row
    assert "°C" in row
    assert "now" in row
    assert "bad: above-range" in await page.text(ROW.format("sump.water_level"))
    assert "estimated: fallback" in await page.text(ROW.format("room.humidity"))
    assert "no value yet" in await page.text(ROW.format("return_probe.temperature"))
    assert "1,234 records on the way" in await page.text("#delivery")
    assert "oldest 3 min" in await page.text("#delivery")
    failing = await page.text("#devices tr:nth-child(7)")
    assert "failing" in failing
    assert ERROR in failing
    assert "device failed" in await page.text("#events")
    assert "at most the last 5 s" in await page.text("#store")
    assert "synced" in await page.text("#about")
    origins = await page.evaluate(
        "[...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).origin + '/'))]"
    )
    assert origins == [served.url]


@pytest.mark.anyio
async def test_values_problems_and_events_follow_without_a_reload(page: Browser, served: Served) -> None:
    await open_page(page, served)
    served.site.overrides["tank.ph"] = 6.66
    await page.until("document.querySelector('[data-series=\"tank.ph\"] .number').textContent === '6.66'")
    served.site.problems = []
    await page.until("document.querySelector('#health').textContent.includes('All is well')")
    assert await page.evaluate("document.querySelector('#problems').hidden")
    served.site.more_events.append(
        {
            "seq": 58, "ts": "2026-01-01T00:00:00.000Z", "kind": "device-parked", "subject": "cabinet",
            "severity": "warning", "body": {"error": "no such chip", "tried": [1, 2]},
        }
    )  # fmt: skip
    await page.until("document.querySelector('#events').textContent.includes('device parked')")
    assert "tried: 1, 2" in await page.text("#events li")


@pytest.mark.anyio
async def test_a_switch_is_told_once_and_in_people_s_words(page: Browser, served: Served) -> None:
    """The journal has it twice, with what programs join it by."""
    change = {
        "change": "72017dc8-1a2b-7", "from": 0.0, "to": 1.0, "layer": "safety", "guard": "too-cold",
        "cause": "tank", "text": "tank.temperature is 24.1, below 24.3",
    }  # fmt: skip
    told = [("heater", change | {"state": "pending"}), ("heater", change | {"state": "success"})]
    told += [
        ("light", change | {"change": "72017dc8-1a2b-8", "state": "pending", "to": 0.35, "text": "it is day"})
    ]
    served.site.more_events += [
        {
            "seq": 58 + number, "ts": "2026-01-01T00:00:00.000Z", "kind": "output", "subject": subject,
            "severity": "info", "body": body,
        }
        for number, (subject, body) in enumerate(told)
    ]  # fmt: skip
    await open_page(page, served)
    await page.until("document.querySelector('#events').textContent.includes('switched')")
    lines = await page.evaluate(
        "[...document.querySelectorAll('#events li')].map(e => e.querySelector('.what').innerText)"
    )
    switched = [line.replace("\n", " ") for line in lines if line.startswith("switched")]
    assert switched == [
        "switched light off → 35 % · … on its way · it is day",
        "switched heater off → on · tank.temperature is 24.1, below 24.3",
    ]
    text = await page.text("#events")
    assert [word for word in ("72017dc8", "pending", "success", "guard", "None yet") if word in text] == []


@pytest.mark.anyio
async def test_nobody_says_that_there_are_no_events_before_they_came(page: Browser, served: Served) -> None:
    asked, answer = anyio.Event(), anyio.Event()
    events = served.site.events

    async def slow(query: EventsQuery) -> Sequence[Mapping[str, Any]]:
        asked.set()
        await answer.wait()
        return await events(query)

    served.site.events = slow  # type: ignore[method-assign]
    await page.goto(served.url)
    with anyio.fail_after(60):
        await asked.wait()
    assert await page.text("#no-events") == "Looking…"
    answer.set()
    await page.until("document.querySelector('#no-events').hidden")


@pytest.mark.anyio
@pytest.mark.parametrize("width", [360, 390, 768, 1280])
async def test_nothing_overflows_on_any_screen(page: Browser, served: Served, width: int) -> None:
    served.site.last_error = "no-blanks-at-all/" * 30
    served.site.problems = ["/sys/bus/w1/devices/" + "x" * 200, "short"]
    await page.screen(width, 800)
    await open_page(page, served)
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    outside = await page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.closest('.skip')"
        f" && e.getBoundingClientRect().right > {width} + 1).map(e => e.className + e.textContent)"
    )
    assert outside == []


@pytest.mark.anyio
@pytest.mark.parametrize("dark", [False, True])
async def test_every_text_can_be_read_in_light_and_dark(page: Browser, served: Served, dark: bool) -> None:
    served.site.delivery.update(bound=False, ledger="", advice="bind it: `tidewatt sync bind tw1-9c2f`")
    await page.screen(390, 844, dark=dark)
    await open_page(page, served)
    await page.until("document.querySelector('#delivery .notice').checkVisibility()")
    found: list[tuple[float, str]] = await page.evaluate(CONTRAST)
    assert len(found) > 100
    assert [part for part in found if part[0] < CONTRAST_MIN] == []
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) is dark


@pytest.mark.anyio
async def test_a_chart_is_opened_and_read_with_the_keyboard_alone(page: Browser, served: Served) -> None:
    await open_page(page, served)
    row = ROW.format("tank.temperature")
    for _ in range(20):
        await page.press("Tab")
        if await page.evaluate(f"document.activeElement?.matches({json.dumps(row)})"):
            break
    else:
        pytest.fail("the row cannot be reached with the Tab key")
    await page.press("Enter")
    await page.until("document.querySelector('.chart .line')?.getAttribute('d')")
    assert await page.text("#chart-title") == "tank · temperature"
    assert await page.evaluate("document.querySelector('.chart .unit').textContent") == "°C"
    assert "Highest" in await page.text("#summary")
    assert "Bad values" in await page.text("#summary")
    await page.evaluate("document.querySelector('.chart').focus()")
    await page.press("ArrowLeft")
    await page.until("/^\\d\\d:\\d\\d:\\d\\d: /.test(document.querySelector('#readout').textContent)")
    await page.press("Escape")
    await page.until("!document.querySelector('#chart').open")
    assert await page.evaluate(f"document.activeElement.matches({json.dumps(row)})")


@pytest.mark.anyio
@pytest.mark.parametrize("choice", ["24h", "7d", "30d"])
async def test_a_chart_goes_back_a_month_and_has_an_address(
    page: Browser, served: Served, choice: str
) -> None:
    await page.screen(390, 844)
    await open_page(page, served)
    await page.click(ROW.format("house.load"))
    await page.until("document.querySelector('.chart .line')?.getAttribute('d')")
    await page.click(f"input[value='{choice}']")
    await page.until("document.querySelector('.chart .band')?.getAttribute('d')")
    labels = await page.evaluate("[...document.querySelectorAll('.chart .middle')].map(e => e.textContent)")
    assert len(labels) >= 2
    assert await page.evaluate("decodeURIComponent(location.hash)") == f"#house.load/{choice}"
    await page.click("#chart-close")
    await page.until("!document.querySelector('#chart').open && !location.hash")
    await page.goto(f"{served.url}#house.load/{choice}")
    await page.until("document.querySelector('#chart').open && document.querySelector('.chart .band')")
    assert await page.evaluate("document.querySelector('input[name=range]:checked').value") == choice


@pytest.mark.anyio
async def test_a_series_without_history_says_so(page: Browser, served: Served) -> None:
    await open_page(page, served)
    await page.click(ROW.format("return_probe.temperature"))
    await page.until("document.querySelector('#plot').textContent.includes('No values in this time')")


@pytest.mark.anyio
async def test_a_lost_connection_is_told_and_comes_back_by_itself(page: Browser) -> None:
    served = Served()
    async with served.running():
        await open_page(page, served)
    await page.until("document.querySelector('#lost').checkVisibility()")
    assert "Connection lost since" in await page.text("#lost")
    assert "Not known now" in await page.text("#health")
    async with served.running():
        await page.until(LIVE)
        assert not await page.evaluate("document.querySelector('#lost').checkVisibility()")
        assert "Needs attention" in await page.text("#health")
    # The browser itself notes each attempt that found nobody.
    page.errors[:] = [error for error in page.errors if "ERR_" not in error]


@pytest.mark.anyio
async def test_with_all_streams_taken_the_page_asks_instead(page: Browser, served: Served) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits) as client, anyio.create_task_group() as group:
        for _ in range(STREAMS_MAX):
            group.start_soon(_hold, client, f"{served.url}api/v1/live")
        while (await client.head(f"{served.url}api/v1/live")).status_code == 200:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        await page.goto(served.url)
        await page.until("document.querySelector('#connection').textContent.includes('Every few seconds')")
        assert "°C" in await page.text(ROW.format("tank.temperature"))
        assert "Needs attention" in await page.text("#health")
        group.cancel_scope.cancel()
    await page.until(LIVE)
    page.errors[:] = [error for error in page.errors if "503" not in error]


async def _hold(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("GET", url) as response:
        async for _ in response.aiter_lines():
            pass


@pytest.mark.anyio
async def test_text_from_outside_is_shown_as_text(page: Browser, served: Served) -> None:
    served.site.problems = [MARKUP]
    served.site.last_error = MARKUP
    served.site.more_events.append(
        {
            "seq": 58, "ts": "2026-01-01T00:00:00.000Z", "kind": MARKUP, "subject": MARKUP, "severity": "alarm",
            "body": {MARKUP: MARKUP},
        }
    )  # fmt: skip
    await open_page(page, served)
    await page.until("document.querySelector('#events').textContent.includes('onerror')")
    assert MARKUP.replace("`", "") in await page.text("#problem-list")
    assert await page.evaluate("document.images.length") == 0
    assert "reef-1" in await page.evaluate("document.title")


@pytest.mark.anyio
async def test_every_control_has_a_name_and_every_heading_its_place(page: Browser, served: Served) -> None:
    await open_page(page, served)
    nameless = await page.evaluate(
        "[...document.querySelectorAll('button, a, input, progress')].filter(e =>"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label')?.textContent.trim()))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    levels = await page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter(e => e.checkVisibility()).map(e => +e.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert await page.evaluate("document.documentElement.lang") == "en"


async def called(page: Browser, served: Served, call: str) -> Any:
    """The result of a function of the page's chart module."""
    await page.goto(f"{served.url}page/icon.svg")
    return await page.evaluate(f"import('/page/chart.js').then((chart) => chart.{call})")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (24.9, 25.6, [25, 25.2, 25.4, 25.6]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 4000, [0, 1000, 2000, 3000, 4000]),
        (18518.1, 18518.9, [18518.2, 18518.4, 18518.6, 18518.8]),
    ],
)
async def test_values_have_round_ticks(
    page: Browser, served: Served, low: float, high: float, ticks: list[float]
) -> None:
    found = await called(page, served, f"valueTicks({low}, {high}, 4)")
    assert found["ticks"] == pytest.approx(ticks)


@pytest.mark.anyio
async def test_lines_break_at_gaps_and_bad_values(page: Browser, served: Served) -> None:
    points = [
        {"t": t, "v": v, "bad": bad}
        for t, v, bad in (
            (0, 1, False),
            (1, 2, False),
            (2, 9, True),
            (3, 3, False),
            (9, 4, False),
            (10, None, False),
        )
    ]
    runs = await called(page, served, f"runs({json.dumps(points)}, 4)")
    assert [[point["t"] for point in run] for run in runs] == [[0, 1], [3], [9]]


@pytest.mark.anyio
async def test_screenshots_are_of_the_size_asked_for(page: Browser, served: Served, tmp_path: Path) -> None:
    """The screenshots of the README are made with this."""
    await page.screen(390, 844)
    await open_page(page, served)
    await page.screenshot(tmp_path / "page.png")
    content = (tmp_path / "page.png").read_bytes()
    assert content[:4] == b"\x89PNG"
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (390, 844)
