"""The page's panel of outputs in a real browser: what each does and why, on a phone, in light and dark."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.clock import iso_utc
from tests.acceptance.browser import Browser
from tests.acceptance.test_page import CONTRAST, CONTRAST_MIN, LIVE, MARKUP, Served
from tests.webdata import OUTPUT_ERROR, SITE_OUTPUTS, cause, output

SHOWN = "document.querySelectorAll('#outputs > li').length"
#: Screenshots for a person to look at are kept there, where it is set.
KEEP = "TIDEWATT_TEST_SCREENSHOTS"


def item(name: str) -> str:
    return f'#outputs [data-output="{name}"]'


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
    """A tab of a phone's size on the site's page; it must not have complained about anything."""
    browser.errors.clear()
    await browser.screen(360, 780)
    await browser.goto(served.url)
    await browser.until(f"{LIVE} && {SHOWN} === {SITE_OUTPUTS}")
    yield browser
    await browser.goto("about:blank")
    assert browser.errors == []


@pytest.mark.anyio
async def test_a_keeper_sees_what_is_on_and_why(page: Browser) -> None:
    heater = await page.text(item("heater"))
    assert "off" in heater
    assert "Safety" in heater
    assert "because sump.temperature is 27.2 °C, above the limit 27 °C" in heater
    assert "since " in heater
    assert "Overruled: thermostat tank wants on (25.1 °C is too cold for 25.5 °C)" in heater
    light = await page.text(item("light"))
    assert "35 %" in light
    assert "By hand" in light
    assert "until " in light
    assert "Reason given: water change" in light
    assert "On its way: now 20 %" in light
    assert "Overruled: schedule daylight wants 80 %" in light
    assert "because it is on" not in await page.text(item("return")), "a default says no more than that"
    assert "The hardware says off" in await page.text(item("air"))
    outlet = await page.text(item("outlet"))
    assert f"faulted: {OUTPUT_ERROR}" in outlet
    assert "should be on" in outlet
    assert await page.text("#outputs-sum") == "4 of 5 on · ⚠ 1 held by safety · ✕ 1 fault"


@pytest.mark.anyio
async def test_the_last_changes_are_there_with_their_causes(page: Browser) -> None:
    await page.click(f"{item('heater')} summary")
    await page.until(f"document.querySelector('{item('heater')} .changes').checkVisibility()")
    first, second = (
        await page.text(f"{item('heater')} .changes li"),
        await page.text(f"{item('heater')} .changes li:nth-child(2)"),
    )
    assert "on → off" in first
    assert "above the limit 27 °C" in first
    assert "off → on ✕ failed" in second
    assert OUTPUT_ERROR in second
    assert "Without the daemon: off, by the pull of its line." in await page.text(f"{item('heater')} details")
    await page.click(f"{item('return')} summary")
    assert "None yet." in await page.text(f"{item('return')} details")


@pytest.mark.anyio
async def test_what_was_written_and_what_the_hardware_says_are_both_there(page: Browser) -> None:
    for name, words in (
        ("heater", "Written: off; it says off."),
        ("air", "Written: on; it says off."),
        ("light", "Written: 20 %; it says 20 %."),
        ("outlet", "Nothing written yet; it cannot be read back."),
    ):
        await page.click(f"{item(name)} summary")
        assert words in await page.text(f"{item(name)} details")


@pytest.mark.anyio
async def test_how_it_stood_at_the_start_is_told_as_that(page: Browser, served: Served) -> None:
    began = {
        "ts": iso_utc(served.site.clock.now_ms()),
        "change": "b-0",
        "state": "success",
        "to": 1.0,
        "text": "idle",
    }
    served.site.outputs_told[1] = served.site.outputs_told[1] | {"changes": [began]}
    await page.click(f"{item('return')} summary")
    await page.until(f"document.querySelector('{item('return')} .changes li')")
    assert "at the start → on" in await page.text(f"{item('return')} .changes")


@pytest.mark.anyio
async def test_the_level_has_a_chart(page: Browser) -> None:
    await page.click(f"{item('light')} summary")
    await page.click(f"{item('light')} .link")
    await page.until("document.querySelector('.chart .line')?.getAttribute('d')")
    assert "light.level" in await page.text("#chart-title")


@pytest.mark.anyio
async def test_changes_are_told_without_a_reload(page: Browser, served: Served) -> None:
    await page.click(f"{item('heater')} summary")
    told = served.site.outputs_told
    wants = cause("controller", "tank", "thermostat tank: 25.1 °C is too cold for 25.5 °C", 1.0)
    now = iso_utc(served.site.clock.now_ms())
    told[0] = output("heater", "heater", 1.0, wants, since=now)
    await page.until(f"document.querySelector('{item('heater')} .level').textContent.includes('on')")
    assert "Overruled" not in await page.text(item("heater"))
    assert await page.evaluate(f"document.querySelector('{item('heater')} details').open")
    served.site.outputs_told = told[1:]
    await page.until(f"{SHOWN} === {SITE_OUTPUTS - 1}")
    served.site.outputs_told = []
    await page.until("!document.querySelector('#outputs-section').checkVisibility()")


@pytest.mark.anyio
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
async def test_it_fits_and_can_be_read_on_any_screen(
    page: Browser, served: Served, width: int, dark: bool, tmp_path: Path
) -> None:
    served.site.outputs_told[4] = served.site.outputs_told[4] | {"fault": "no-blanks-at-all/" * 30}
    await page.screen(width, 780, dark=dark)
    await page.goto(served.url)
    await page.until(f"{LIVE} && {SHOWN} === {SITE_OUTPUTS}")
    await page.evaluate(
        "document.querySelectorAll('#outputs details').forEach((details) => { details.open = true; })"
    )
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    found: list[tuple[float, str]] = await page.evaluate(CONTRAST)
    assert [part for part in found if part[0] < CONTRAST_MIN] == []
    small = await page.evaluate(
        "[...document.querySelectorAll('#outputs summary')].filter(e => e.getBoundingClientRect().height < 44).length"
    )
    assert small == 0
    folder = Path(os.environ.get(KEEP, tmp_path))
    await page.screenshot(folder / f"outputs-{width}-{'dark' if dark else 'light'}.png", whole=True)


@pytest.mark.anyio
async def test_text_from_outside_is_shown_as_text(page: Browser, served: Served) -> None:
    odd: dict[str, Any] = cause("override", MARKUP, MARKUP, 1.0)
    served.site.outputs_told = [
        output("heater", MARKUP, 1.0, odd, fault=MARKUP, state="faulted", overruled=[odd], since=None)
    ]
    await page.until(f"{SHOWN} === 1")
    assert "onerror" in await page.text(item("heater"))
    assert await page.evaluate("document.images.length") == 0
