"""Faults of the broker and of the ways to it."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tests.badlink import BadLink, Weather
from tests.campaign.faults import Broken, fault
from tests.campaign.site import Site
from tests.services import Mosquitto

MESSAGE_LIMIT: Final = 20_000
WEATHERS: Final = {
    "loses": Weather(drop=0.4),
    "doubles": Weather(double=0.5),
    "reorders": Weather(swap=0.3, late=0.3, late_s=1.0),
    "delays": Weather(delay_s=0.05),
    "crawls": Weather(bytes_s=20_000),
    "is bad in every way": Weather(drop=0.2, double=0.3, swap=0.3, late=0.2, delay_s=0.01),
}


@fault("broker")
def kill_broker(site: Site, broker: Mosquitto, rng: random.Random) -> Broken:
    broker.kill()
    return Broken(what="kill -9 of the broker", mend=broker.start)


@fault("broker")
def freeze_broker(site: Site, broker: Mosquitto, rng: random.Random) -> Broken:
    child = broker.child
    child.send(signal.SIGSTOP)
    return Broken(what="the broker is frozen", mend=lambda: child.send(signal.SIGCONT))


@fault("broker")
def limit_messages(site: Site, broker: Mosquitto, rng: random.Random) -> Broken:
    """A broker that silently drops what is larger."""
    whole = broker.options
    broker.stop()
    broker.options = replace(whole, message_size_limit=MESSAGE_LIMIT)
    broker.start()

    def mend() -> None:
        broker.stop()
        broker.options = whole
        broker.start()

    return Broken(what=f"the broker drops what is larger than {MESSAGE_LIMIT} bytes", mend=mend)


# ---------------------------------------------------------------------------------------------------- links


@fault("link")
def bad_weather(site: Site, name: str, rng: random.Random) -> Broken:
    kind = rng.choice(sorted(WEATHERS))
    site.links[name].weather = replace(WEATHERS[kind])
    return _link(site, name, f"the link of {name} {kind}")


@fault("link")
def cut_link(site: Site, name: str, rng: random.Random) -> Broken:
    for_long = rng.random() < 0.5
    if for_long:
        site.links[name].weather = Weather(cut=True)
    site.cut(site.links[name])
    return _link(site, name, f"the link of {name} is cut" + (", and stays so" if for_long else ""))


@fault("link")
def half_open_link(site: Site, name: str, rng: random.Random) -> Broken:
    """Everything is accepted and nothing arrives; only the keepalive notices."""
    site.links[name].weather = Weather(half_open=True)
    return _link(site, name, f"the link of {name} is half open")


@fault("links")
def bad_weather_everywhere(site: Site, links: Mapping[str, BadLink], rng: random.Random) -> Broken:
    for link in links.values():
        link.weather = replace(WEATHERS["is bad in every way"])

    def mend() -> None:
        for link in links.values():
            link.weather = Weather()

    return Broken(what="every link is bad in every way", mend=mend)


def _link(site: Site, name: str, what: str) -> Broken:
    def mend() -> None:
        site.links[name].weather = Weather()

    return Broken(what=what, mend=mend)
