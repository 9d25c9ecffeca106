"""A bad link: an MQTT-aware TCP proxy that drops, doubles, delays and reorders whole messages, and cuts connections.

It stands between a client and the broker.  A message that it drops is confirmed to its sender nonetheless, as a broker
does that has no room or an ACL against it; so every loss is one that the protocol above MQTT has to notice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final, Self

PUBLISH: Final = 3
PUBACK: Final = bytes((0x40, 0x02))


@dataclass(slots=True)
class Weather:
    """What becomes of messages and connections.

    drop, double, swap, late  chances per message, 0-1; `swap` lets the next one pass, `late` all of `late_s`
    late_s                    a late message comes up to so many seconds after those that were sent with it
    delay_s                   every message takes so long, in order
    bytes_s                   a slow line: so many bytes a second each way; 0 for no bound
    cut                       no connection is let through
    half_open                 everything is accepted and nothing arrives; a connection that went through it once stays
                              so, as one whose way through a NAT was forgotten
    """

    drop: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    late: float = 0.0
    late_s: float = 1.0
    delay_s: float = 0.0
    bytes_s: float = 0.0
    cut: bool = False
    half_open: bool = False


@dataclass(slots=True)
class _Way:
    """One connection; `lost` once it went through half-open weather."""

    lost: bool = False


class BadLink:
    """`async with BadLink(port, seed)`: connect to `.port` instead of the broker's."""

    def __init__(self, broker_port: int, seed: int) -> None:
        self.weather = Weather()
        self.port = 0
        self.dropped = self.doubled = self.swapped = self.delayed = self.swallowed = 0
        self._broker_port = broker_port
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection now."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            if self.weather.half_open:
                await self._swallow(reader)
            elif not self.weather.cut:
                await self._join(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry packets between the client and the broker until either end is gone."""
        broker, upstream = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._open.add(upstream)
        way = _Way()
        pumps = [
            asyncio.ensure_future(self._pump(way, reader, upstream, back=writer)),
            asyncio.ensure_future(self._pump(way, broker, writer, back=upstream)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if way.lost:  # neither end learns of the other's
                await asyncio.wait(pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._open.discard(upstream)
            upstream.transport.abort()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            self.swallowed += 1

    async def _pump(
        self,
        way: _Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        back: asyncio.StreamWriter,
    ) -> None:
        """Carry packets one way; `back` is where the sender of this way listens."""
        kept: bytes | None = None
        while True:
            packet = await read_packet(reader)
            weather = self.weather
            way.lost = way.lost or weather.half_open
            if way.lost:
                self.swallowed += 1
                continue
            if weather.delay_s:
                await asyncio.sleep(weather.delay_s)
            if packet[0] >> 4 != PUBLISH or b"/status" in packet[:200]:
                writer.write(packet)
            elif kept is None and self._random.random() < weather.swap:
                self.swapped += 1
                kept = packet
                continue
            else:
                self._carry(way, packet, writer, back)
            if kept is not None:
                writer.write(kept)
                kept = None
            await writer.drain()
            if weather.bytes_s:
                await asyncio.sleep(len(packet) / weather.bytes_s)

    def _carry(
        self, way: _Way, packet: bytes, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        """Let a message through as the weather has it: not at all, late, once or twice."""
        weather = self.weather
        if self._random.random() < weather.drop:
            self.dropped += 1
            confirm(packet, back)
        elif self._random.random() < weather.late:
            self.delayed += 1
            pause_s = self._random.uniform(0, weather.late_s)
            asyncio.get_running_loop().call_later(pause_s, write_late, writer, way, packet)
        else:
            writer.write(packet)
            if self._random.random() < weather.double:
                self.doubled += 1
                writer.write(packet)


def write_late(writer: asyncio.StreamWriter, way: _Way, packet: bytes) -> None:
    """Let a packet through that others have overtaken, if there still is somebody to take it."""
    if not way.lost and not writer.transport.is_closing():
        writer.write(packet)


async def read_packet(reader: asyncio.StreamReader) -> bytes:
    """One MQTT control packet, whole."""
    head = bytearray(await reader.readexactly(1))
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        head.append(byte)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return bytes(head) + await reader.readexactly(length)


def confirm(packet: bytes, writer: asyncio.StreamWriter) -> None:
    """Tell the sender of a QoS 1 PUBLISH that it arrived."""
    if not packet[0] & 0x06:
        return
    at = 1
    while packet[at] & 0x80:
        at += 1
    at += 1
    topic = int.from_bytes(packet[at : at + 2], "big")
    identifier = packet[at + 2 + topic : at + 4 + topic]
    writer.write(PUBACK + identifier)
