"""A Shelly behind its local HTTP interface, generation 1 and 2."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: The status of a Shelly EM with an add-on (generation 1), and of a Plus 1PM and a Pro 3EM as one (2).
SHELLY_STATUS: dict[int, dict[str, Any]] = {
    1: {
        "relays": [{"ison": True, "has_timer": False}],
        "meters": [{"power": 12.0, "is_valid": True, "total": 90}, {"power": 298.5, "total": 600}],
        "emeters": [{"power": -642.1, "voltage": 231.4, "total": 12345.6, "total_returned": 98765.4}],
        "inputs": [{"input": 0, "event": ""}, {"input": 1, "event": "S"}],
        "ext_temperature": {"0": {"hwID": "28ff", "tC": 24.75, "tF": 76.55}},
        "temperature": 51.2,
    },
    2: {
        "switch:0": {
            "id": 0,
            "output": True,
            "apower": 298.5,
            "voltage": 230.2,
            "current": 1.3,
            "aenergy": {"total": 4567.89, "by_minute": [4.1, 4.9, 4.9], "minute_ts": 1795291200},
            "temperature": {"tC": 48.3, "tF": 118.9},
        },
        "input:0": {"id": 0, "state": True},
        "input:1": {"id": 1, "state": None},
        "temperature:100": {"id": 100, "tC": 24.8, "tF": 76.6},
        "em:1": {"id": 1, "total_act_power": -1203.4, "total_current": 5.4},
        "emdata:1": {"id": 1, "total_act": 100_200.5, "total_act_ret": 7.25},
        "sys": {"uptime": 7134, "restart_required": False},
    },
}


class FakeShelly:
    """A Shelly's HTTP server with one switch, its flip-back timer on a clock of its own, and bad days.

    mood  "well", "slow" (no answer until it is well), "garbage", "broken" (500), "starting" (knows nothing yet)
    mute  a path that it does not know yet
    """

    def __init__(self, generation: int = 2, password: str = "", *, meter: bool = True) -> None:
        self.generation = generation
        self.password = password
        self.meter = meter
        self.on = False
        self.seen: list[float] = []
        self.initial_state = "restore_last"
        #: Its own auto-on and auto-off, seconds; 0: none.
        self.auto = {"auto_on": 0.0, "auto_off": 0.0}
        self.keeps_timer = False
        #: What it says when asked for everything.
        self.status: dict[str, Any] = SHELLY_STATUS[min(generation, 2)]
        self.clicks = 0
        self.flips_at_s: float | None = None
        self.now_s = 0.0
        self.mood = "well"
        self.mute = ""
        self.asked: list[str] = []
        self.flash_writes = 0
        self._well = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.plug()

    def plug(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def unplug(self) -> None:
        """Gone from the network; the load stays as it is and the timer runs on."""
        if self._server is not None:
            self._well.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        if self.flips_at_s is not None and self.now_s >= self.flips_at_s:
            self._command(not self.on, None)

    def timer_runs(self) -> bool:
        return self.flips_at_s is not None

    def heal(self) -> None:
        self.mood = "well"
        self._well.set()

    def _set(self, on: bool) -> None:
        if on != self.on:
            self.clicks += 1
            self.seen.append(float(on))
        self.on = on

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append(handler.path)
        if self.mood == "slow":
            self._well.wait(60)
            return
        if not self._allowed(handler):
            return
        body: object
        if self.mood == "garbage":
            status, body = 200, "<html>a router's login</html>"
        elif self.mood == "starting" or url.path == self.mute:
            status, body = 404, "Not Found"
        elif self.mood == "broken":
            status, body = 500, {"code": -114, "message": "Resource unavailable"}
        elif self.generation == 1:
            status, body = self._first(url.path, query)
        else:
            status, body = self._second(url.path, query)
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    def _allowed(self, handler: BaseHTTPRequestHandler) -> bool:
        if not self.password or handler.path == "/shelly":
            return True
        given = handler.headers.get("Authorization", "")
        if self.generation == 1:
            right = given.startswith("Basic ") and b64decode(given[6:]) == f"admin:{self.password}".encode()
            challenge = 'Basic realm="shelly"'
        else:
            right = self._digest_right(given, handler.path)
            challenge = 'Digest qop="auth", realm="shellyplus1-aabb", nonce="64a1", algorithm=SHA-256'
        if right:
            return True
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", challenge)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return False

    def _digest_right(self, given: str, path: str) -> bool:
        part = dict(re.findall(r'(\w+)="?([^",]+)"?', given))

        def sha(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        secret = sha(f"admin:shellyplus1-aabb:{self.password}")
        words = (secret, "64a1", part.get("nc"), part.get("cnonce"), "auth", sha(f"GET:{path}"))
        return part.get("response") == sha(":".join(map(str, words)))

    def _command(self, on: bool, timer: str | None) -> None:
        self._set(on)
        after_s = float(timer) if timer else self.auto["auto_off" if on else "auto_on"]
        if after_s or not self.keeps_timer:
            self.flips_at_s = self.now_s + after_s if after_s else None

    def _second(self, path: str, query: dict[str, str]) -> tuple[int, object]:
        if path == "/shelly":
            return 200, {
                "id": "shellyplus1-aabb",
                "model": "SNSW-001X16EU",
                "gen": 2,
                "auth_en": bool(self.password),
            }
        if path == "/rpc/Shelly.GetStatus":
            return 200, self.status
        if query.get("id") != "0":
            return 500, {"code": -105, "message": f"Argument 'id', value {query.get('id')} not found!"}
        if path == "/rpc/Switch.Set":
            was = self.on
            self._command(query["on"] == "true", query.get("toggle_after"))
            return 200, {"was_on": was}
        if path == "/rpc/Switch.GetStatus":
            power = {"apower": 298.5 if self.on else 0.0} if self.meter else {}
            timer = {"timer_started_at": 1.0, "timer_duration": 30.0} if self.timer_runs() else {}
            return 200, {"id": 0, "source": "HTTP_in", "output": self.on, **power, **timer}
        if path == "/rpc/Switch.GetConfig":
            auto = {key: bool(seconds) for key, seconds in self.auto.items()}
            return 200, {"id": 0, "initial_state": self.initial_state, **auto}
        if path == "/rpc/Switch.SetConfig":
            config = json.loads(query["config"])
            self.initial_state = config.get("initial_state", self.initial_state)
            self.auto |= {key: float(config[key]) for key in self.auto if key in config}
            self.flash_writes += 1
            return 200, {"restart_required": False}
        return 404, {"code": 404, "message": "No handler"}

    def _first(self, path: str, query: dict[str, str]) -> tuple[int, object]:
        if path == "/shelly":
            return 200, {"type": "SHPLG-S", "mac": "AABBCCDDEEFF", "auth": bool(self.password)}
        if path == "/status":
            return 200, self.status
        if path == "/relay/0":
            if "turn" in query:
                self._command(query["turn"] == "on", query.get("timer"))
            return 200, {"ison": self.on, "has_timer": self.flips_at_s is not None}
        if path == "/meter/0" and self.meter:
            return 200, {"power": 298.5 if self.on else 0.0, "is_valid": True}
        if path == "/settings/relay/0":
            if query:
                self.initial_state = query.get("default_state", self.initial_state)
                self.auto |= {key: float(query[key]) for key in self.auto if key in query}
                self.flash_writes += 1
            return 200, {"default_state": self.initial_state, **self.auto}
        return 404, "Not Found"


@contextmanager
def shelly(generation: int = 2, password: str = "", *, meter: bool = True) -> Iterator[FakeShelly]:
    fake = FakeShelly(generation, password, meter=meter)
    try:
        yield fake
    finally:
        fake.unplug()
