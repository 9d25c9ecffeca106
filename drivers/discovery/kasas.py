"""Kasa and Tapo devices on the local network, by python-kasa's own discovery (the extra `kasa`).

Source: python-kasa 0.12: a broadcast to UDP ports 9999 (answered by the old protocol with the whole system
information), 20002 and 20004 (answered by newer firmware, which then wants a login).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

from drivers.discovery.found import ASLEEP, DEVICES, OUTPUTS, Found, Look, Search
from drivers.kasa_link import OLD_PORT

EVERYBODY: Final = "255.255.255.255"
HOLD_S: Final = 60.0
FOUND_MAX: Final = 200

Answers = Mapping[tuple[str, int], Mapping[str, Any]]


def search(listen_s: float, *, target: str = EVERYBODY, port: int = OLD_PORT) -> Search:
    """Who answers within `listen_s`; nothing is asked where the library is missing."""
    where = f"UDP {target}:{port}"
    if find_spec("kasa") is None:
        said = "Kasa and Tapo were not asked: their extra is not installed (pip install 'tidewatt[kasa]')"
        return Search(looks=[Look(where=where, said=said)])
    answers: dict[tuple[str, int], Mapping[str, Any]] = {}
    try:
        asyncio.run(_ask(answers, listen_s, target, port))
    except Exception as error:  # noqa: BLE001  # the library may raise anything; one search more or less
        said = f"Kasa and Tapo cannot be asked ({str(error) or type(error).__name__})"
        return Search(
            looks=[Look(where=where, said=said, todo="connect it to the network (`ip address` shows it)")]
        )
    found = [one for (host, at), answer in sorted(answers.items()) for one in _found(host, at, port, answer)]
    return Search(
        looks=[Look(where=where, said=f"{len(answers)} Kasa or Tapo answered")], found=found[:FOUND_MAX]
    )


async def _ask(
    answers: dict[tuple[str, int], Mapping[str, Any]], listen_s: float, target: str, port: int
) -> None:
    from kasa import Discover

    def note(raw: Any) -> None:
        answers.setdefault((str(raw["meta"]["ip"]), int(raw["meta"]["port"])), raw["discovery_response"])

    logging.getLogger("kasa").setLevel(logging.CRITICAL)  # that nobody is at a port is no error
    there = await Discover.discover(
        target=target, port=port, discovery_timeout=max(1, round(listen_s)), on_discovered_raw=note
    )
    for device in there.values():
        with suppress(Exception):
            await device.disconnect()


def _found(host: str, answered_at: int, old_port: int, answer: Mapping[str, Any]) -> Iterator[Found]:
    """The tables of one device; an answer of another shape is told by its address alone."""
    where = f"{host}:{answered_at}"
    if answered_at == old_port:
        info = answer.get("system", {}).get("get_sysinfo", {})
        yield from _old(host, answered_at, where, info if isinstance(info, dict) else {})
        return
    result = answer.get("result", {})
    model = str(result.get("device_model", "device")) if isinstance(result, dict) else "device"
    yield Found(
        where=where,
        what=f"Kasa or Tapo {model}",
        sure=True,
        evidence=f"it answers on UDP {answered_at}",
        note=f'driver = "kasa" and host = "{host}", with username and password of its TP-Link account',
    )


def _old(host: str, port: int, where: str, info: Mapping[str, Any]) -> Iterator[Found]:
    """Each socket as an output, and its meter as a device."""
    listed = info.get("children")
    sockets = listed if isinstance(listed, list) and listed else [info]
    what, meter = f"Kasa {info.get('model', '')}".strip(), "ENE" in str(info.get("feature", ""))
    for channel, socket in enumerate(sockets):
        alias = str(socket.get("alias", "")) if isinstance(socket, dict) else ""
        at: dict[str, object] = {"host": host, **({} if port == OLD_PORT else {"port": port})}
        at |= {"channel": channel} if channel else {}
        outlet = {"driver": "kasa", "kind": "other", "safe": 0.0, **at, "own_timer": True, "hold_s": HOLD_S}
        known: dict[str, Any] = {
            "where": where,
            "sure": True,
            "evidence": f"it calls itself {alias!r}",
            "name": alias,
        }
        yield Found(
            **known, what=f"{what}, socket {channel}", table=OUTPUTS, options=outlet, note=ASLEEP,
            keys=(f"socket {channel} of the Kasa {host}:{port}",),
        )  # fmt: skip
        if meter:
            yield Found(
                **known, what=f"{what}, meter {channel}", table=DEVICES, options={"driver": "kasa", **at},
                keys=(f"meter {channel} of the Kasa {host}:{port}",),
            )  # fmt: skip
