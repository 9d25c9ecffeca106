"""`python -m tests.picture [FILE]`: the picture of the page, taken of the demo by a real browser; `make picture`.

The demo runs as `make demo` runs it, in a folder of its own.  Once its tank has lived long enough that heater, light
and top-off have had something to do, the page is opened as a person opens it, and photographed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio

from edge import local
from edge.demo.process import Child, free_port
from edge.demo.session import command
from tests.acceptance.browser import Browser
from tests.bench.site import until

PICTURE: Final = Path(__file__).parents[1] / "edge" / "web" / "handbook" / "page.png"
WIDTH, HEIGHT = 1180, 980
BYTES_MAX: Final = 200_000
LIVED_S: Final = 300.0
"""A day of the tank, whose time runs 300 times faster."""
START_S: Final = 120.0
FRESH_S: Final = 3.0
"""With the page open until every number on it came live."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make picture", description="The picture of the page, of the demo.")
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE, help=f"where to ({PICTURE})")
    parser.add_argument(
        "--lived",
        type=float,
        default=LIVED_S,
        metavar="SECONDS",
        help=f"how long the demo has run ({LIVED_S:g})",
    )
    arguments = parser.parse_args()
    size = anyio.run(take, arguments.file, arguments.lived)
    print(f"{arguments.file}: {size / 1000:.0f} kB")


async def take(file: Path, lived_s: float) -> int:
    """Write the picture and return its bytes.  Raises RuntimeError where the page complains, or it is too large."""
    with tempfile.TemporaryDirectory(prefix="tidewatt-picture-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the demo's Postgres runs as nobody
        with demo(folder) as port:
            await anyio.sleep(lived_s)
            until(lambda: is_lit(folder / "demo"), "the demo's light is on", within_s=START_S)
            fresh = folder / "page.png"
            await photograph(f"http://127.0.0.1:{port}/", fresh, folder / "browser")
        size = fresh.stat().st_size
        if size > BYTES_MAX:
            raise RuntimeError(f"the picture has {size:,} bytes, more than {BYTES_MAX:,}: make it smaller")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fresh, file)
    return size


@contextmanager
def demo(folder: Path) -> Iterator[int]:
    """A demo that answers, while the block runs; the port of its page."""
    port = free_port()
    options = ["demo", "--dir", str(folder / "demo"), "--port", str(port)]
    child = Child("tidewatt demo", command(*options), log=folder / "demo.log")
    child.start()
    try:
        until(
            lambda: not child.running or outputs(folder / "demo") is not None,
            "the demo",
            within_s=START_S,
        )
        if not child.running:
            raise RuntimeError(f"the demo ended:\n{child.log_tail()}")
        yield port
    finally:
        child.stop(within_s=60.0)


def outputs(folder: Path) -> dict[str, float] | None:
    """The level of each output, None while the demo's daemon does not answer."""
    try:
        answer = local.call(folder / "tidewatt.sock", "outputs", {}, timeout_s=5.0)
    except (local.LocalUnavailable, local.LocalRefused):
        return None
    return {output["name"]: output["level"] or 0.0 for output in answer["outputs"]}


def is_lit(folder: Path) -> bool:
    """A tank in the dark is no picture."""
    return (outputs(folder) or {}).get("light", 0.0) > 0.0


async def photograph(url: str, file: Path, profile: Path) -> None:
    """The page as it is on a light screen of moderate size.  Raises RuntimeError where the browser complains."""
    async with Browser.start(profile) as browser:
        await browser.screen(WIDTH, HEIGHT)
        await browser.goto(url)
        await browser.until("document.body.innerText.includes('tank')")
        await anyio.sleep(FRESH_S)
        await browser.screenshot(file)
        if browser.errors:
            raise RuntimeError("the page complains: " + "; ".join(browser.errors))


if __name__ == "__main__":
    main()
