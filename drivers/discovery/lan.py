"""Devices on the local network: what mDNS tells, Shellys by their own words, and Kasas by their own broadcast.

Nobody's settings are touched: one mDNS question, two GETs to each Shelly that answers (who it is, and how it
stands), and python-kasa's discovery where the extra is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from drivers.base import Clock, DriverError
from drivers.discovery import kasas, mdns
from drivers.discovery.found import ASLEEP, DEVICES, OUTPUTS, Found, Look, Search
from drivers.discovery.mdns import Service
from drivers.shelly_http import Generation, ShellyAddress, ShellyHttp
from drivers.shelly_input import measures_in

LISTEN_S: Final = mdns.LISTEN_S
ANSWER_S: Final = 2.0
CHANNELS_MAX: Final = 10


def search(clock: Clock) -> Search:
    """Who answers within LISTEN_S, all ways at once."""
    result = Search()
    with ThreadPoolExecutor(max_workers=2) as both:
        asked = both.submit(search_mdns, clock), both.submit(kasas.search, LISTEN_S)
        result.add(one.result() for one in asked)
    return result


def search_mdns(
    clock: Clock, *, group: tuple[str, int] = mdns.GROUP, listen_s: float = mdns.LISTEN_S
) -> Search:
    where = f"mDNS {group[0]}"
    try:
        services = mdns.listen(clock, group=group, listen_s=listen_s)
    except OSError as error:
        todo = "connect it to the network (`ip address` shows it)"
        return Search(looks=[Look(where=where, said=f"cannot be asked ({error.strerror})", todo=todo)])
    devices = mdns.one_each(services)
    found = [one for service in devices for one in _found(service, clock)]
    todo = (
        ""
        if found
        else "look whether this machine and the devices are in one network, without guest isolation"
    )
    return Search(looks=[Look(where=where, said=f"{len(devices)} answered", todo=todo)], found=found)


def _found(service: Service, clock: Clock) -> list[Found]:
    where = f"{service.address}:{service.port}"
    evidence = f"{service.name!r} offers {service.kind.removesuffix('.local')}"
    if service.kind == mdns.SHELLY or service.name.lower().startswith("shelly"):
        return _shelly(service, where, evidence, clock)
    what = "an ESPHome device" if service.kind == mdns.ESPHOME else "something with a web page"
    return [Found(where=where, what=what, evidence=evidence)]


def _shelly(service: Service, where: str, evidence: str, clock: Clock) -> list[Found]:
    """Its switches as outputs, and what it measures as devices; asleep and by guess where it is locked."""
    address = ShellyAddress(host=service.address, port=service.port, channel=0, answer_s=ANSWER_S)
    http = ShellyHttp(address, clock)
    try:
        about = http.about()
    except DriverError as error:
        return [Found(where=where, what="a Shelly", evidence=f"{evidence}; {error}")]
    first = about.get("gen", 1) == 1
    try:
        status = http.ask("/status" if first else "/rpc/Shelly.GetStatus")
    except DriverError:
        status = {}
    locked = bool(about.get("auth_en") or about.get("auth"))
    there: dict[str, Any] = {
        "where": where, "sure": True, "name": service.name,
        "evidence": f"{evidence}; generation {about.get('gen', 1)}",
    }  # fmt: skip
    what = f"Shelly {about.get('app') or about.get('model') or about.get('type')}"
    tables = [
        *_switches(service, what, there, status, locked=locked),
        *_meters(service, what, there, status, Generation.ONE if first else Generation.TWO),
    ]
    return tables or [Found(**there, what=f"{what}, with nothing that is switched or read")]


def _switches(
    service: Service, what: str, there: Mapping[str, Any], status: Mapping[str, Any], *, locked: bool
) -> Iterator[Found]:
    relays = status.get("relays")
    count = len(relays) if isinstance(relays, list) else 0
    channels = [n for n in range(CHANNELS_MAX) if n < count or f"switch:{n}" in status]
    for channel in channels or ([0] if locked else []):
        yield Found(
            **there, what=f"{what}, switch {channel}", table=OUTPUTS,
            options={"driver": "shelly", "kind": "other", "safe": 0.0, **_address(service, channel), "hold_s": 60.0},
            note=ASLEEP + ("; it wants its password too" if locked else ""),
            keys=_keys(service, f"switch {channel}"),
        )  # fmt: skip


def _meters(
    service: Service, what: str, there: Mapping[str, Any], status: Mapping[str, Any], generation: Generation
) -> Iterator[Found]:
    for channel in range(CHANNELS_MAX):
        reads = [str(measure) for measure in measures_in(status, generation, channel)]
        if reads:
            yield Found(
                **there, what=f"{what}, channel {channel}", table=DEVICES,
                options={"driver": "shelly", **_address(service, channel), "reads": reads},
                keys=_keys(service, f"meter {channel}"),
            )  # fmt: skip


def _address(service: Service, channel: int) -> dict[str, object]:
    """Only what is not the default."""
    port = {} if service.port == 80 else {"port": service.port}
    return {"host": service.address, **port, **({"channel": channel} if channel else {})}


def _keys(service: Service, part: str) -> tuple[str, ...]:
    names = {service.address, service.host, service.host.removesuffix(".local")} - {""}
    return tuple(sorted(f"{part} of the Shelly {name}:{service.port}" for name in names))
