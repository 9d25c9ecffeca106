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

from edge.clock import SystemClock, iso_utc
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


async def unfold(page: Browser) -> None:
    """Show what a small screen shows only when it is asked."""
    await page.evaluate(
        "document.querySelectorAll('details').forEach(e => { e.open = true; });"
        " document.querySelector('#more-events').click()"
    )


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
    assert "now" not in row
    assert "ago" not in row
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
async def test_an_event_is_told_without_the_keys_of_programs_and_what_is_over_as_over(
    page: Browser, served: Served
) -> None:
    spare = "sump.temperature cannot be used"
    told = [
        ("input-lost", "heater", {"ended": True, "text": "heater has no input"}),
        ("spare-probe-lost", "sump", {"ended": True, "text": spare, "still": "heater has no input"}),
        ("clock-confirmed", "now", {"uid": 0, "who": "root", "why": "", "ahead_ms": 90_000}),
        (
            "override-set",
            "light",
            {"who": "ada", "level": 0.4, "for_s": 600.0, "ramp_s": 0.0, "blind": False},
        ),
    ]
    served.site.more_events += [
        {
            "seq": 58 + number, "ts": "2026-01-01T00:00:00.000Z", "kind": kind, "subject": subject,
            "severity": "info", "body": body,
        }
        for number, (kind, subject, body) in enumerate(told)
    ]  # fmt: skip
    await open_page(page, served)
    await page.until("document.querySelector('#events').textContent.includes('override set')")
    lines = await page.evaluate(
        "[...document.querySelectorAll('#events li')].map(e => e.querySelector('.what').innerText)"
    )
    assert [line.replace("\n", " ") for line in lines][: len(told)] == [
        "override set light 40 % · for 10 min · by ada",
        "clock confirmed now ahead 1 min · by root",
        "spare probe lost sump not over: heater has no input",
        "input lost heater over: heater has no input",
    ]


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
    await unfold(page)
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
    await unfold(page)
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
async def test_a_small_screen_begins_with_what_a_keeper_looks_at(page: Browser, served: Served) -> None:
    await page.screen(390, 844)
    await open_page(page, served)
    await page.until("document.querySelectorAll('#events li').length > 5")
    shown = "[...document.querySelectorAll('#events li')].filter(e => e.checkVisibility()).length"
    assert await page.evaluate(shown) == 5
    assert not await page.evaluate("document.querySelector('#devices').checkVisibility()")
    height = await page.evaluate("document.documentElement.scrollHeight")
    await unfold(page)
    assert await page.evaluate(shown) == 6
    assert await page.evaluate("document.querySelector('#devices').checkVisibility()")
    assert await page.evaluate("document.documentElement.scrollHeight") > height * 1.3
    single = await page.evaluate(
        "[...document.querySelectorAll('.card.is-single')].map(e => e.dataset.device)"
    )
    assert single == ["cabinet"]  # return_probe fails, which its heading tells
    assert (await page.text(ROW.format("cabinet.temperature"))).startswith("cabinet\ntemperature")
    await page.screen(1280, 900)
    await page.until("document.querySelector('#store').checkVisibility()")


@pytest.mark.anyio
async def test_an_age_stands_only_where_a_value_is_not_fresh(page: Browser, served: Served) -> None:
    served.site.older_s["cabinet"] = 95.0  # it is read once a minute
    await open_page(page, served)
    ages = "[...document.querySelectorAll('.age')].filter(e => e.checkVisibility()).map(e => e.textContent)"
    cabinet, probe = sorted(await page.evaluate(ages))
    assert cabinet in ("1 min ago", "2 min ago")
    assert probe == "no value yet"
    assert "old value" not in await page.text(ROW.format("cabinet.temperature"))
    served.site.older_s["tank"] = 200.0
    await page.until("document.querySelector('[data-series=\"tank.ph\"]').textContent.includes('3 min ago')")
    assert "old value" in await page.text(ROW.format("tank.ph"))


@pytest.mark.anyio
async def test_bytes_and_degrees_are_told_in_numbers_of_a_few_digits(page: Browser, served: Served) -> None:
    await page.goto(f"{served.url}page/icon.svg")
    asked = [
        (241_498.608, "MB", 3),
        (0.5, "MB", 3),
        (2e12, "B", 0),
        (1500, "kB/s", 1),
        (25.5625, "°C", 3),
        (18.512, "kWh", 3),
    ]
    told = await page.evaluate(
        "import('/page/format.js').then((m) => "
        + json.dumps(asked)
        + ".map((one) => m.quantity(...one).join(' ')))"
    )
    assert told == ["241.5 GB", "500.0 kB", "2.0 TB", "1.5 MB/s", "25.56 °C", "18.512 kWh"]
    asked_axes = [(240_000, 241_500, "MB"), (241_498, 241_498.5, "MB"), (0, 900, "B/s"), (24, 26, "°C")]
    axes = await page.evaluate(
        "import('/page/format.js').then((m) => "
        + json.dumps(asked_axes)
        + ".map((one) => m.scaling(...one)))"
    )
    assert axes == [[0.001, "GB"], [1, "MB"], [1, "B/s"], [1, "°C"]]


@pytest.mark.anyio
async def test_a_chart_marks_where_the_calibration_or_the_clock_was_changed(
    page: Browser, served: Served
) -> None:
    now_ms = served.site.clock.now_ms()
    told: list[tuple[str, str, dict[str, Any]]] = [
        ("calibration-changed", "tank.temperature", {"old": "", "new": "a1"}),
        ("calibration-changed", "sump.temperature", {"old": "", "new": "b2"}),
        ("clock-stepped", "synced", {"step_ms": -90_000}),
        ("clock-confirmed", "2026-01-01T00:00:00.000Z", {"ahead_ms": 12}),
    ]
    served.site.more_events += [
        {
            "seq": 58 + number, "ts": iso_utc(now_ms - (number + 2) * 600_000), "kind": kind, "subject": subject,
            "severity": "info", "body": body,
        }
        for number, (kind, subject, body) in enumerate(told)
    ]  # fmt: skip
    await open_page(page, served)
    await page.click(ROW.format("tank.temperature"))
    await page.until("document.querySelectorAll('.chart .change').length === 2")
    text = await page.text("#changes")
    assert text.count("calibration changed") == 1
    assert "clock set 1 min back" in text
    await page.press("Escape")
    await page.until("!document.querySelector('#chart').open")
    await page.click(ROW.format("tank.ph"))
    await page.until("document.querySelectorAll('.chart .change').length === 1")


@pytest.mark.anyio
async def test_delivery_that_is_switched_off_takes_one_line(page: Browser, served: Served) -> None:
    served.site.delivery.update(state="disabled", bound=False, ledger="", backlog=0)
    await open_page(page, served)
    await page.until("document.querySelector('#delivery').textContent.includes('Switched off')")
    assert await page.text("#delivery") == "Switched off. Everything is kept here."
    served.site.delivery.update(state="connected", bound=True)
    await page.until("document.querySelector('#delivery .streams li')?.checkVisibility()")


@pytest.mark.anyio
async def test_the_wear_is_told_by_who_wrote_and_a_life_only_of_a_card(page: Browser, served: Served) -> None:
    await open_page(page, served)
    store = await page.text("#store")
    assert "70.2 MB since the start, 55.0 MB a day" in store
    assert "By other programs" in store
    assert "685 MB a day to the same disk" in store
    assert "over 50 years" in store
    served.site.wear.update(bytes_written_day=None, disk_written_day_bytes=None, card_life_years=None)
    await page.until(
        "document.querySelector('#store').textContent.includes('told after an hour of measuring')"
    )
    assert "By other programs" not in await page.text("#store")
    assert "a day" not in await page.text("#store")
    served.site.wear.update(on_card=False, bytes_written_day=55e6, disk_written_day_bytes=8.39e11)
    await page.until("document.querySelector('#store').textContent.includes('839 GB a day to the same disk')")
    assert "card" not in await page.text("#store")


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
