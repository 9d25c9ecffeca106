"""The handbook: chapters in Markdown beside this file, for the page (`/handbook`), `tidewatt help` and a forge.

Which chapters there are, and in which order, is what `handbook/README.md` links to.  Rendered when first asked for.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "handbook"
CONTENTS: Final = "README"
PICTURES: Final = ("page.png",)
TOPIC_LENGTH_MAX: Final = 80
_ENTRY: Final = re.compile(r"^(?:\d+\.|-) \[([^\]]+)\]\(([\w-]+)\.md\)(?:: (.+(?:\n  .+)*))?", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """topic: its file's name, "first-sensor"; title and summary: as the table of contents says them."""

    topic: str
    title: str
    summary: str

    @property
    def text(self) -> str:
        """Its Markdown."""
        return (FOLDER / f"{self.topic}.md").read_text(encoding="utf-8")

    @property
    def address(self) -> str:
        return "/handbook" if self.topic == CONTENTS else f"/handbook/{self.topic}"


HANDBOOK: Final = Chapter(topic=CONTENTS, title="Handbook", summary="")


@functools.cache
def chapters() -> tuple[Chapter, ...]:
    """All of them, in the order in which a person needs them."""
    return tuple(
        Chapter(topic=topic, title=title, summary=" ".join(summary.split()))
        for title, topic, summary in _ENTRY.findall(HANDBOOK.text)
    )


def find(topic: str) -> Chapter | None:
    """The chapter of that name; the table of contents for ""."""
    return next((chapter for chapter in (HANDBOOK, *chapters()) if topic == chapter.topic), None)


def has(topic: str) -> bool:
    """Whether there is a chapter or a picture of that name."""
    return topic in PICTURES or find(topic) is not None


def mentions(words: str) -> list[str]:
    """The chapters that say these words, by topic."""
    wanted = words.casefold()
    return [chapter.topic for chapter in chapters() if wanted in chapter.text.casefold()]


def page(chapter: Chapter) -> str:
    """A chapter as the local page shows it."""
    from edge.web.markdown import render

    return _page(chapter.title, render(chapter.text, _address), _steps(chapter), chapter)


def missing(topic: str) -> str:
    """What a browser shows of a chapter that there is not, with the way to those that there are."""
    words = (
        f"<h1>No such chapter</h1><p>The handbook has no chapter “{escape(topic[:TOPIC_LENGTH_MAX])}”. "
        f'<a href="{HANDBOOK.address}">All chapters</a></p>'
    )
    return _page("No such chapter", words)


def _page(title: str, article: str, steps: str = "", here: Chapter | None = None) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)} · tidewatt</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="/page/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/page/style.css"><link rel="stylesheet" href="/page/handbook.css">'
        '</head><body class="handbook"><a class="skip" href="#chapter">To the chapter</a>'
        f'<nav aria-label="Chapters"><a class="home" href="/">← Status page</a>{_contents(here)}</nav>'
        f'<main id="chapter" tabindex="-1"><article>{article}</article>{steps}</main></body></html>'
    )


def _contents(here: Chapter | None) -> str:
    entries = "".join(
        f'<li><a href="{chapter.address}"{_current(chapter, here)}>{escape(chapter.title)}</a></li>'
        for chapter in (HANDBOOK, *chapters())
    )
    return f"<ul>{entries}</ul>"


def _current(chapter: Chapter, here: Chapter | None) -> str:
    return ' aria-current="page"' if chapter == here else ""


def _steps(here: Chapter) -> str:
    """Links to the chapters before and after."""
    line = (HANDBOOK, *chapters())
    at = line.index(here)
    before = "".join(_step("prev", one, f"← {one.title}") for one in line[max(0, at - 1) : at])
    after = "".join(_step("next", one, f"{one.title} →") for one in line[at + 1 : at + 2])
    return f'<p class="steps">{before}{after}</p>'


def _step(rel: str, chapter: Chapter, words: str) -> str:
    return f'<a rel="{rel}" href="{chapter.address}">{escape(words)}</a>'


def _address(target: str) -> str:
    """Where a link of a chapter leads on the page: "outputs.md#safe" -> "/handbook/outputs#safe"."""
    if target in PICTURES:
        return f"/handbook/{target}"
    file, mark, place = target.partition("#")
    if not file.endswith(".md"):
        return target
    chapter = find(file.removesuffix(".md"))
    return (chapter.address if chapter else "/handbook") + mark + place
