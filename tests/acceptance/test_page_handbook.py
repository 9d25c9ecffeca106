"""The handbook in a real browser: it can be read on any screen, in light and dark, and walked through."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edge.web import handbook
from tests.acceptance.browser import Browser
from tests.acceptance.test_page import CONTRAST, CONTRAST_MIN, Served, browser, page, served

__all__ = ["browser", "page", "served"]

ADDRESSES = [chapter.address for chapter in (handbook.HANDBOOK, *handbook.chapters())]
#: What is wider than the screen may only be so within something that scrolls by itself.
OUTSIDE = """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.closest('.skip, pre, .wide')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture
async def reader(page: Browser, served: Served) -> AsyncIterator[Browser]:
    """A browser whose console must stay empty: the security policy was broken by nothing."""
    yield page
    assert page.errors == []


@pytest.mark.anyio
@pytest.mark.parametrize(("width", "dark"), [(360, True), (768, False), (1280, False)])
async def test_every_chapter_can_be_read(reader: Browser, served: Served, width: int, dark: bool) -> None:
    await reader.screen(width, 900, dark=dark)
    for address in ADDRESSES:
        await reader.goto(served.url.rstrip("/") + address)
        assert await reader.evaluate("document.documentElement.scrollWidth") == width, address
        assert await reader.evaluate(OUTSIDE) == [], address
        found: list[tuple[float, str]] = await reader.evaluate(CONTRAST)
        assert len(found) > 20, address
        assert [part for part in found if part[0] < CONTRAST_MIN] == [], address
        assert await reader.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


async def follow(reader: Browser, link: str, title: str) -> None:
    """Go where a link of the page leads, and wait for its heading."""
    await reader.goto(await reader.evaluate(f"document.querySelector({link!r}).href"))
    await reader.until(f"document.querySelector('h1')?.innerText === {title!r}")


@pytest.mark.anyio
async def test_a_newcomer_finds_the_way_from_the_page(reader: Browser, served: Served) -> None:
    await reader.goto(served.url)
    await follow(reader, "footer a[href='/handbook']", "Handbook")
    await follow(reader, "article a[href='/handbook/first-sensor']", "A first sensor")
    assert await reader.text("[aria-current]") == "A first sensor"
    await follow(reader, "a[rel=next]", "Outputs that fail safe")
    await follow(reader, "nav a[href='/handbook/commands']", "Commands")
    await reader.click("article a[href='#tidewatt-doctor']")
    await reader.until("document.querySelector('#tidewatt-doctor').getBoundingClientRect().top < 200")
    await follow(reader, "nav .home", "reef-1")


@pytest.mark.anyio
async def test_an_address_of_no_chapter_is_a_page_with_the_way_back(reader: Browser, served: Served) -> None:
    await reader.screen(360, 740)
    await reader.goto(f"{served.url}handbook/frist-sensor")
    assert await reader.text("h1") == "No such chapter"
    assert await reader.evaluate("document.documentElement.scrollWidth") == 360
    await follow(reader, "article a[href='/handbook']", "Handbook")
    # The browser itself notes the 404.
    reader.errors[:] = [error for error in reader.errors if "404" not in error]
