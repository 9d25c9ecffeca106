"""A real chromium, driven over its DevTools pipe: no driver program and no package beyond Debian's `chromium`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio

MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
WAIT_S: Final = 60.0
LOOK_S: Final = 0.05
FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
#: chromium talks on descriptors 3 and 4; this puts the pipes there and becomes chromium.
LAUNCH: Final = (
    "import os, sys; r, w = int(sys.argv[1]), int(sys.argv[2]);"
    " a = os.dup(r); b = os.dup(w); os.dup2(a, 3); os.dup2(b, 4);"
    " os.set_inheritable(3, True); os.set_inheritable(4, True); os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One tab.  `errors` collects what the console and the content security policy complain about."""

    def __init__(self, reader: asyncio.StreamReader, write: int) -> None:
        self._reader = reader
        self._write = write
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._loaded = asyncio.Event()
        self.errors: list[str] = []

    @staticmethod
    @asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Browser]:
        """A fresh chromium with its profile in `folder`."""
        program = shutil.which("chromium")
        assert program, "chromium is missing; apt-get install chromium"
        to_it, from_it = os.pipe(), os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LAUNCH, str(to_it[0]), str(from_it[1]),
            program, *FLAGS, f"--user-data-dir={folder}", "about:blank",
            pass_fds=(to_it[0], from_it[1]), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_it[0])
        os.close(from_it[1])
        reader = asyncio.StreamReader(limit=MESSAGE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_it[0], "rb", buffering=0)
        )
        browser = Browser(reader, to_it[1])
        listening = asyncio.create_task(browser._listen())
        try:
            await browser._attach()
            yield browser
        finally:
            with anyio.CancelScope(shield=True):
                with contextlib.suppress(OSError, TimeoutError):
                    await browser._say("Browser.close", session=False)
                listening.cancel()
                transport.close()
                os.close(to_it[1])
                with anyio.move_on_after(10):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def goto(self, url: str) -> None:
        """Load an address, or move within the page that is there."""
        self._loaded.clear()
        answer = await self._say("Page.navigate", url=url)
        if "loaderId" in answer:
            with anyio.fail_after(WAIT_S):
                await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        answer = await self._say(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"], indent=1)[:2000])
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true in the page; fails with what the page shows then."""
        with anyio.move_on_after(WAIT_S):
            while True:
                if await self.evaluate(f"Boolean({expression})"):
                    return
                await anyio.sleep(LOOK_S)
        text = await self.evaluate("document.body.innerText")
        raise AssertionError(
            f"{expression} did not come true; the page shows:\n{text}\nerrors: {self.errors}"
        )

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def click(self, selector: str) -> None:
        """A real click in the middle of an element."""
        await self.evaluate(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})"
        )
        at = await self.evaluate(
            f"(r => ({{x: r.x + r.width / 2, y: r.y + r.height / 2}}))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self._say("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    async def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        more: dict[str, Any] = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self._say(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **more,
            )

    async def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the window in CSS pixels, and the scheme that the person prefers."""
        await self._say(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._say("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path, *, whole: bool = False) -> None:
        answer = await self._say("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def _attach(self) -> None:
        targets = (await self._say("Target.getTargets", session=False))["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        answer = await self._say(
            "Target.attachToTarget", session=False, targetId=page["targetId"], flatten=True
        )
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._say(f"{domain}.enable")

    async def _say(self, method: str, *, session: bool = True, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = self._session
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with anyio.fail_after(WAIT_S):
            found = await answer
        if "error" in found:
            raise AssertionError(f"{method}: {found['error']}")
        result: dict[str, Any] = found["result"]
        return result

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                answer = self._answers.pop(message.get("id", 0), None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
                else:
                    self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"])[:600])
