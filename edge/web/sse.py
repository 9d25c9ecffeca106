"""The live stream: what changed, once a second, to a bounded number of listeners.

A listener's whole state is the number of the round it saw last, so a slow one costs nothing and gets the
newest values when it takes them; what came between is not kept.  Those who keep up share one message.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import anyio
import structlog
from anyio.lowlevel import checkpoint
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge.clock import Clock, iso_utc
from edge.image import Reading
from edge.web.backend import Backend
from edge.web.replies import encode

STREAMS_MAX: Final = 8
ROUND_S: Final = 1.0
DEVICE_ROUNDS: Final = 5
"""Counters of devices, and ages of outputs, are told this seldom; a change of state is told at once."""

PASSING: Final = frozenset({"age_s", "since_s", "written", "remaining_s", "sentence", "override", "until"})
"""What of an output differs at each look, though nothing has changed."""

VALUES_PER_TURN: Final = 50
"""Values encoded before the loop gets its turn: control runs on it too."""

RETRY_MS: Final = 3000

log = structlog.get_logger("web")


def live_value(reading: Reading, monotonic_s: float) -> dict[str, Any]:
    """One newest value as the page gets it."""
    value = reading.value
    return {
        "series": reading.series,
        "unit": reading.unit,
        "decimals": reading.decimals,
        "value": value if value is not None and math.isfinite(value) else None,
        "quality": reading.quality.label,
        "reason": reading.reason,
        "ts": iso_utc(reading.ts_ms),
        "age_s": round(max(0.0, monotonic_s - reading.monotonic_s), 3),
    }


def lasting(output: Mapping[str, Any]) -> dict[str, Any]:
    """What of an output differs only when something has changed."""
    kept = {key: value for key, value in output.items() if key not in PASSING}
    causes = [output["cause"], *output["overruled"]]
    told = [{key: cause[key] for key in cause if key not in PASSING} for cause in causes if cause]
    return kept | {"cause": told, "overruled": (), "by hand": bool(output["override"])}


class Hub:
    """Looks at the backend once a round while anybody listens."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self.listeners = 0
        self.closed = False
        self._round = 0
        self._beginning = 0
        self._readings: dict[str, tuple[int, Reading]] = {}
        self._gone: dict[str, int] = {}
        self._status = b""
        self._newest = b""
        self._devices = b""
        self._devices_round = 0
        self._device_states: list[tuple[Any, ...]] = []
        self._outputs = b""
        self._outputs_round = 0
        self._output_states: list[dict[str, Any]] | None = None
        self._wake = anyio.Event()
        self._turn = anyio.Event()

    async def run(self) -> None:
        """Begin a round each second; sleeps without one while nobody listens."""
        while True:
            if not self.listeners:
                self._wake = anyio.Event()
                await self._wake.wait()
            await self._look()
            await self._clock.sleep(ROUND_S)

    def open(self) -> None:
        """Take listeners (again)."""
        self.closed = False
        self._turn = anyio.Event()

    def close(self) -> None:
        """End every stream."""
        self.closed = True
        self._turn.set()

    @contextmanager
    def join(self) -> Iterator[None]:
        """Count as a listener; the caller has looked at `full`."""
        if not self.listeners:
            self._forget()
        self.listeners += 1
        self._wake.set()
        try:
            yield
        finally:
            self.listeners -= 1

    @property
    def full(self) -> bool:
        return self.listeners >= STREAMS_MAX

    async def next_round(self, seen: int) -> int:
        """Wait for a round after `seen`, and return its number; -1 when the stream is over."""
        while self._round <= seen and not self.closed:
            await self._turn.wait()
        return -1 if self.closed else self._round

    async def messages(self, seen: int) -> bytes:
        """What a listener has to be told that saw round `seen` last (0: everything)."""
        if seen and seen == self._round - 1:
            return self._newest
        return await self._since(seen)

    async def _since(self, seen: int) -> bytes:
        parts = []
        changed = [reading for number, reading in self._readings.values() if number > seen]
        if changed:
            parts.append(b"event: readings\ndata: " + await self._encode(changed))
        gone = [name for name, number in self._gone.items() if number > seen] if seen else []
        if gone:
            parts.append(b"event: gone\ndata: " + encode({"series": gone}))
        if self._devices_round > seen:
            parts.append(b"event: devices\ndata: " + self._devices)
        if self._outputs_round > seen:
            parts.append(b"event: outputs\ndata: " + self._outputs)
        parts.append(b"event: status\ndata: " + self._status)
        return b"\n\n".join(parts) + b"\n\n"

    async def _encode(self, readings: Sequence[Reading]) -> bytes:
        now_s = self._clock.monotonic_s()
        pieces = []
        for at in range(0, len(readings), VALUES_PER_TURN):
            part = readings[at : at + VALUES_PER_TURN]
            pieces.append(encode([live_value(reading, now_s) for reading in part])[1:-1])
            await checkpoint()
        return b'{"readings":[' + b",".join(pieces) + b"]}"

    def _forget(self) -> None:
        """Begin anew: what was seen for the last listener may be old."""
        self._beginning += 1
        self._round = self._devices_round = self._outputs_round = 0
        self._readings.clear()
        self._gone.clear()
        self._device_states.clear()
        self._output_states = None

    async def _look(self) -> None:
        """One round.  A slice that cannot say how it is does not take the page away."""
        number, beginning = self._round + 1, self._beginning
        try:
            status, devices = encode(self._backend.status()), self._backend.devices()
            self._look_at_devices(devices, number)
            self._look_at_outputs(self._backend.outputs(), number)
            self._look_at_readings(self._backend.latest(), number)
            self._status = status
            self._newest = await self._since(number - 1)
        except Exception:
            log.warning("live round failed", exc_info=True)
            return
        if beginning != self._beginning:
            return  # the last listener left meanwhile and another came: begin anew with it
        self._round = number
        self._turn.set()
        self._turn = anyio.Event()

    def _look_at_devices(self, devices: Sequence[Mapping[str, Any]], number: int) -> None:
        states = [(device["name"], device["state"], device["last_error"]) for device in devices]
        due = not self._devices_round or number - self._devices_round >= DEVICE_ROUNDS
        if due or states != self._device_states:
            self._devices = encode({"devices": [{**device, "points": []} for device in devices]})
            self._device_states, self._devices_round = states, number

    def _look_at_outputs(self, outputs: Sequence[Mapping[str, Any]], number: int) -> None:
        states = [lasting(output) for output in outputs]
        due = not self._outputs_round or (bool(outputs) and number - self._outputs_round >= DEVICE_ROUNDS)
        if due or states != self._output_states:
            self._outputs = encode({"outputs": outputs})
            self._output_states, self._outputs_round = states, number

    def _look_at_readings(self, latest: Sequence[Reading], number: int) -> None:
        known = self._readings
        for reading in latest:
            before = known.get(reading.series)
            if before is None or before[1] is not reading:
                known[reading.series] = (number, reading)
                self._gone.pop(reading.series, None)
        if len(known) > len(latest):
            for name in known.keys() - {reading.series for reading in latest}:
                del known[name]
                self._gone[name] = number


class LiveStream(Response):
    """The answer that goes on until the listener leaves or the server stops."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del self.headers["content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        with self._hub.join():
            async with anyio.create_task_group() as group:
                group.start_soon(self._until_gone, receive, group.cancel_scope)
                await self._talk(send)
                group.cancel_scope.cancel()

    async def _talk(self, send: Send) -> None:
        await send(_body(f"retry: {RETRY_MS}\n\n".encode()))
        seen = 0
        while (number := await self._hub.next_round(seen)) > 0:
            await send(_body(await self._hub.messages(seen)))
            seen = number
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


def _body(content: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": True}
