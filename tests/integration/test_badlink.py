"""The bad link does to messages what its weather says, between a real broker and real clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Final

import aiomqtt
import anyio
import pytest

from tests.badlink import BadLink, Weather
from tests.services import Mosquitto
from tests.upstream import until

pytestmark = pytest.mark.anyio

MESSAGES: Final = 30
UNCONFIRMED_MAX: Final = 20
"""More than that mosquitto does not send before the first is confirmed."""


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[list[int]]:
    """What arrives at a client of this port."""
    heard: list[int] = []

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            heard.append(int(message.payload))  # noqa: PERF401 - one by one, as they come

    async with aiomqtt.Client("127.0.0.1", port) as client, anyio.create_task_group() as group:
        await client.subscribe("t", qos=1)
        group.start_soon(listen, client)
        yield heard
        group.cancel_scope.cancel()


async def publish(port: int, count: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for number in range(count):
            await client.publish("t", str(number), qos=1)


@pytest.mark.parametrize(
    "weather",
    [
        Weather(swap=0.5),
        Weather(late=0.5, late_s=0.2),
        Weather(delay_s=0.005),
        Weather(bytes_s=20_000),
        Weather(double=0.5),
    ],
)
async def test_weather_that_loses_nothing_brings_everything(mosquitto: Mosquitto, weather: Weather) -> None:
    async with BadLink(mosquitto.port, 3) as link, listening(link.port) as heard:
        link.weather = weather
        await publish(mosquitto.port, MESSAGES)
        await publish(mosquitto.port, 1)  # the last one may be kept until another follows
        await until(lambda: set(heard) == set(range(MESSAGES)))
        in_order = [number for number, after in pairwise(heard) if number <= after]
        mixed = bool(weather.swap or weather.late)
        assert (len(in_order) < len(heard) - 2) is mixed
        assert (len(heard) > MESSAGES + 1) is bool(weather.double)


async def test_what_is_lost_is_confirmed_all_the_same(mosquitto: Mosquitto) -> None:
    async with BadLink(mosquitto.port, 3) as link, listening(mosquitto.port) as heard:
        link.weather = Weather(drop=1.0)
        await publish(link.port, MESSAGES)  # each waits for its confirmation
        await publish(mosquitto.port, 1)
        await until(lambda: heard)
        assert (heard, link.dropped) == ([0], MESSAGES)


async def test_a_half_open_connection_swallows_everything_and_stays_so(mosquitto: Mosquitto) -> None:
    async with BadLink(mosquitto.port, 3) as link, listening(link.port) as heard:
        await publish(mosquitto.port, 3)
        await until(lambda: heard == [0, 1, 2])
        link.weather = Weather(half_open=True)
        await publish(mosquitto.port, 1)
        await until(lambda: link.swallowed)
        link.weather = Weather()
        await publish(mosquitto.port, MESSAGES)
        await until(lambda: link.swallowed > UNCONFIRMED_MAX // 2)
        assert heard == [0, 1, 2]
        link.weather = Weather(half_open=True)
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", link.port, timeout=0.5):
                pass
