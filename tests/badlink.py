"""A bad link: an MQTT-aware TCP proxy that drops, doubles, delays and reorders whole messages, and cuts connections.

It stands between a client and the broker.  A message that it drops is confirmed to its sender nonetheless, as a broker
does that has no room or an ACL against it; so every loss is one that the protocol above MQTT has to notice.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

PUBLISH: Final = 3
PUBACK: Final = bytes((0x40, 0x02))


@dataclass(slots=True)
class Weather:
    """Chances per message, 0-1, and whether connections are let through at all."""

    drop: float = 0.0
    double: float = 0.0
    swap: float = 0.0
    cut: bool = False


class BadLink:
    """`async with BadLink(port, seed)`: connect to `.port` instead of the broker's."""

    def __init__(self, broker_port: int, seed: int) -> None:
        self.weather = Weather()
        self.port = 0
        self.dropped = self.doubled = self.swapped = 0
        self._broker_port = broker_port
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> BadLink:
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
        upstream: asyncio.StreamWriter | None = None
        try:
            if self.weather.cut:
                return
            broker, upstream = await asyncio.open_connection("127.0.0.1", self._broker_port)
            self._open.add(upstream)
            pumps = [
                asyncio.ensure_future(self._pump(reader, upstream, back=writer)),
                asyncio.ensure_future(self._pump(broker, writer, back=upstream)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, upstream):
                if end is not None:
                    self._open.discard(end)
                    end.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: asyncio.StreamWriter
    ) -> None:
        """Carry packets one way; `back` is where the sender of this way listens."""
        kept: bytes | None = None
        while True:
            packet = await read_packet(reader)
            if packet[0] >> 4 != PUBLISH or b"/status" in packet[:200]:
                writer.write(packet)
            elif self._random.random() < self.weather.drop:
                self.dropped += 1
                confirm(packet, back)
            elif kept is None and self._random.random() < self.weather.swap:
                self.swapped += 1
                kept = packet
                continue
            else:
                writer.write(packet)
                if self._random.random() < self.weather.double:
                    self.doubled += 1
                    writer.write(packet)
            if kept is not None:
                writer.write(kept)
                kept = None
            await writer.drain()


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
