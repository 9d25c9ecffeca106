"""The handbook: whole, rendered as its Markdown means, served with the page's headers, and shown by the terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from edge.cli.main import run
from edge.clock import FakeClock
from edge.web import handbook, markdown, security
from edge.web.server import create_app
from tests.handbook import CHAPTERS, README, ROOT, commands_chapter, config_chapter
from tests.webdata import FakeSite

LINK = re.compile(r"\]\(([^)\s]+)\)")
AGAIN = "say `make handbook`, and look at what changed"
PAGES = pytest.mark.parametrize(
    "page", [README, *CHAPTERS], ids=lambda page: page.parent.name + "-" + page.stem
)


def test_the_contents_lead_to_every_chapter_once() -> None:
    topics = [chapter.topic for chapter in handbook.chapters()]
    assert sorted([*topics, handbook.CONTENTS]) == sorted(path.stem for path in CHAPTERS)
    assert all(chapter.summary for chapter in handbook.chapters())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("## A *first* `sensor`\n", '<h2 id="a-first-sensor">A <em>first</em> <code>sensor</code></h2>'),
        ("[`b`](b.md#c)\n", '<p><a href="/at/b.md#c"><code>b</code></a></p>'),
        ("![d](page.png)\n", '<img src="/at/page.png" alt="d" />'),
        ("- [b](b.md)\n", '<li><a href="/at/b.md">b</a></li>'),
        ("a <script>alert(1)</script>\n", "<p>a &lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("```sh\nls <here>\n```\n", '<pre tabindex="0"><code class="language-sh">ls &lt;here&gt;\n</code></pre>'),
        ("| a |\n|---|\n| `x \\| y` |\n", "<td><code>x | y</code></td>"),
        ("| a |\n|---|\n| b |\n", '<div class="wide" tabindex="0"><table>'),
        ("[a](javascript:alert(1))\n", "<p>[a](javascript:alert(1))</p>"),
    ],
)  # fmt: skip
def test_what_it_makes_of_markdown(text: str, wanted: str) -> None:
    assert wanted in markdown.render(text, "/at/{}".format)


@PAGES
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        file, _, place = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), f"{page.name} links to {target}"
        if place:
            headings = re.findall(r"^#{1,4} (.+)$", path.read_text("utf-8"), re.MULTILINE)
            assert place in [markdown.anchor(heading) for heading in headings], f"{page.name}: {target}"


@pytest.mark.parametrize(("topic", "made"), [("commands", commands_chapter), ("config-keys", config_chapter)])
def test_what_is_made_from_the_program_is_up_to_date(topic: str, made: object) -> None:
    assert callable(made)
    assert (handbook.FOLDER / f"{topic}.md").read_text("utf-8") == made(), AGAIN


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    clock = FakeClock()
    transport = httpx.ASGITransport(create_app(FakeSite(clock), clock))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


@pytest.mark.anyio
async def test_every_chapter_is_served_and_leads_on(client: httpx.AsyncClient) -> None:
    line = (handbook.HANDBOOK, *handbook.chapters())
    for chapter, following in zip(line, (*line[1:], None), strict=True):
        answer = await client.get(chapter.address)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-security-policy"] == security.CONTENT_SECURITY_POLICY
        assert f'<a href="{chapter.address}" aria-current="page">' in answer.text
        if following:
            assert f'<a rel="next" href="{following.address}">' in answer.text
        for target in re.findall(r'(?:href|src)="(/[^"#]*)', answer.text):
            assert (await client.get(target)).status_code == 200, target
        again = await client.get(chapter.address, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.anyio
@pytest.mark.parametrize(
    "topic", ["nothing", "../../pyproject", "%2e%2e%2fsecurity", "README.md", "page.jpg"]
)
async def test_what_is_no_chapter_is_not_there(client: httpx.AsyncClient, topic: str) -> None:
    answer = await client.get(f"/handbook/{topic}", headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert "there is" in answer.json()["error"] or "/handbook lists" in answer.json()["error"]


@pytest.mark.anyio
@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml,*/*;q=0.8"])
async def test_a_reader_who_asks_for_no_chapter_is_led_back(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.get("/handbook/frist-sensor%3Cscript%3E" + "x" * 100, headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == security.CONTENT_SECURITY_POLICY
    assert "no chapter “frist-sensor&lt;script&gt;x" in answer.text
    assert "x" * 81 not in answer.text
    assert '<a href="/handbook">All chapters</a>' in answer.text
    assert '<a href="/handbook/first-sensor">' in answer.text
    assert "aria-current" not in answer.text


@pytest.mark.anyio
async def test_the_page_leads_to_it(client: httpx.AsyncClient) -> None:
    assert '<a href="/handbook">' in (await client.get("/")).text


def test_nothing_of_it_is_in_the_daemon_before_somebody_looks() -> None:
    code = "import sys, edge.app; print([m for m in sys.modules if 'markdown' in m])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_it_is_in_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in (*CHAPTERS, *(handbook.FOLDER / picture for picture in handbook.PICTURES)):
        assert f"edge/web/handbook/{path.name}" in names


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(["help", *words]) == code
    told = capsys.readouterr()
    return told.err if code else told.out


def test_help_lists_the_chapters_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    listed = said(capsys)
    assert all(f"  {chapter.topic} " in listed for chapter in handbook.chapters())
    assert said(capsys, "safe-outputs").startswith("# Outputs that fail safe\n")


def test_help_shows_a_commands_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "outputs", "set").startswith("Usage: tidewatt outputs set ")
    assert said(capsys, "status").startswith("Usage: tidewatt status ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["first-sensr"], "did you mean first-sensor?"),
        (["stauts"], "did you mean status?"),
        (["driver"], "did you mean drivers or write-a-driver?"),
        (["PCA9685"], "these speak of it: "),
        (["quantum", "foam"], "there are install, first-sensor, "),
    ],
)
def test_help_leads_back_who_asks_for_what_is_not_there(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in said(capsys, *words, code=2)
