"""What the retained status of the sites says, as any consumer reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import aiomqtt
import anyio

from tests.campaign.site import Site

TOPIC: Final = "tidewatt/v1/{}/status"


def online(site: Site, names: Sequence[str], *, within_s: float) -> list[str]:
    """Those of the sites whose retained status does not become `online` in time."""
    away: list[str] = site.portal.call(_away, site.broker.port, list(names), within_s)
    return away


async def _away(port: int, names: list[str], within_s: float) -> list[str]:
    away = list(names)
    with anyio.move_on_after(within_s):
        while away:
            away = [name for name in away if await _status(port, name) != "online"]
            await anyio.sleep(0.2)
    return away


async def _status(port: int, name: str) -> str:
    """Of a new subscription, so that only what is retained comes first."""
    try:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe(TOPIC.format(name))
            with anyio.move_on_after(1.0):
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    return str(json.loads(message.payload)["status"])
    except aiomqtt.MqttError:
        pass
    return ""
