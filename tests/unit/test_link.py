"""When a broken link is tried again, and what a name tells that nobody knows."""

from __future__ import annotations

import socket
import threading
from bisect import bisect_left

import pytest

from sync.link import RECONNECT_MAX_S, LinkConfig, LinkDown, Patience, connect

SITES = 1000
SPREAD_S = 5.0
WINDOW_S = 0.1


def test_a_fleet_that_lost_its_broker_comes_back_spread_out() -> None:
    firsts = []
    for seed in range(SITES):
        patience = Patience(seed=seed, spread_s=SPREAD_S)
        patience.reset()
        firsts.append(patience.next_s())
    assert 0 <= min(firsts) < max(firsts) <= SPREAD_S
    firsts.sort()
    most = max(bisect_left(firsts, at + WINDOW_S) - first for first, at in enumerate(firsts))
    assert most <= 0.04 * SITES


def test_only_the_first_attempt_after_a_good_link_is_spread() -> None:
    spread, plain = Patience(seed=1, spread_s=SPREAD_S), Patience(seed=1)
    assert [spread.next_s() for _ in range(12)] == [
        plain.next_s() for _ in range(12)
    ]  # at the start there was none
    spread.reset()
    spread.next_s()
    assert spread.next_s() <= 0.5
    assert max(spread.next_s() for _ in range(20)) > RECONNECT_MAX_S / 2


def test_pauses_grow_with_jitter_to_a_cap() -> None:
    patience = Patience(seed=3)
    pauses = [patience.next_s() for _ in range(20)]
    assert all(
        0.5 * min(0.5 * 2**at, RECONNECT_MAX_S) <= pause <= min(0.5 * 2**at, RECONNECT_MAX_S)
        for at, pause in enumerate(pauses)
    )
    assert len(set(pauses)) == len(pauses)
    patience.reset()
    assert patience.next_s() <= 0.5


@pytest.mark.anyio
async def test_a_name_that_no_name_server_answers_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> None:
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr("sync.link.CONNECT_TIMEOUT_S", 0.1)
    try:
        with pytest.raises(LinkDown, match=r"no name server answers for the broker's name broker\.invalid"):
            async with connect(LinkConfig(host="broker.invalid", port=1883, client_id="x")):
                pass
    finally:
        over.set()


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["broker.invalid", "a" * 70 + ".example.org", "two..dots"])
async def test_a_name_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    ask = socket.getaddrinfo

    def unknown(name: object, *rest: object, **more: object) -> object:
        if name == "broker.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LinkDown, match=r"cannot be looked up \(.*\); check host and this machine's DNS"):
        async with connect(LinkConfig(host=host, port=1883, client_id="x")):
            pass
