"""The Markdown of the handbook as HTML, by markdown-it: CommonMark and tables, and no HTML of the text's own.

Imported when somebody opens the handbook, for it is 1.5 MB that stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

Link = Callable[[str], str]


def render(text: str, link: Link = str) -> str:
    """The HTML of a whole chapter; `link` turns the targets of links and pictures into addresses."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(following.content))
    for token in _targets(tokens):
        name = "href" if token.type == "link_open" else "src"
        token.attrSet(name, link(str(token.attrGet(name))))
    html = str(reader.renderer.render(tokens, reader.options, {}))
    # What is wider than the page is scrolled, by the keyboard too.
    html = html.replace("<pre>", '<pre tabindex="0">')
    return html.replace("<table>", '<div class="wide" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )


def anchor(heading: str) -> str:
    """What a link to a heading names, as GitHub makes it: "A first sensor" -> "a-first-sensor"."""
    plain = re.sub(r"[^\w\- ]", "", heading.lower())
    return plain.strip().replace(" ", "-")


def _targets(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type in ("link_open", "image"):
            yield token
        yield from _targets(token.children or ())
