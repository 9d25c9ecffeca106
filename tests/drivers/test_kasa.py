"""Kasa outlets and meters: the library itself against a device that speaks the old protocol."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.base import (
    DeviceMisconfigured,
    DeviceTimeout,
    DeviceUnavailable,
    DriverError,
    HoldBy,
    Kind,
    Quality,
    Terms,
)
from drivers.kasa import DRIVER, KasaOptions, KasaOutlet
from drivers.kasa_input import KasaInput, KasaInputOptions, Measure
from drivers.kasa_link import KasaAddress, _told
from tests.drivers.kasa_klap import kasa_with_login
from tests.drivers.kasa_models import FakeKasa, kasa

HOLD_S = 60.0


@pytest.fixture
def plug() -> Iterator[FakeKasa]:
    with kasa() as fake:
        yield fake


@pytest.fixture
def strip() -> Iterator[FakeKasa]:
    with kasa("HS300(US)") as fake:
        yield fake


def meter(fake: FakeKasa, **options: Any) -> KasaInput:
    return KasaInput(
        KasaInputOptions.model_validate({"host": "127.0.0.1", "port": fake.port, "answer_s": 30, **options})
    )


def outlet(fake: FakeKasa, safe: float = 0.0, **options: Any) -> KasaOutlet:
    table = {"host": "127.0.0.1", "port": fake.port, "own_timer": True, "answer_s": 30, **options}
    return KasaOutlet(KasaOptions.model_validate(table), Terms(name="it", safe=safe, hold_s=HOLD_S))


def values(device: KasaInput) -> dict[str, float | None]:
    device.open()
    samples = device.read()
    device.close()
    assert all((sample.quality is Quality.GOOD) is (sample.value is not None) for sample in samples)
    return {sample.point: sample.value for sample in samples}


def rules(fake: FakeKasa) -> list[dict[str, Any]]:
    return [one.rule for one in fake.sockets if one.rule]


NEW_WORDS = {"current_ma": 451, "power_mw": 61_753, "total_wh": 1279, "voltage_mv": 121_538}
OLD_WORDS = {"current": 0.451, "power": 61.753, "total": 1.279, "voltage": 121.538}


@pytest.mark.parametrize("words", [NEW_WORDS, OLD_WORDS])
def test_old_and_new_firmware_have_other_words_for_the_same(plug: FakeKasa, words: dict[str, float]) -> None:
    plug.realtime = {**words, "err_code": 0}
    found = values(meter(plug, reads=list(Measure)))
    assert found == {"power": 61.753, "energy": 1.279, "voltage": 121.538, "current": 0.451}


def test_what_it_does_not_measure_is_bad_and_the_rest_goes_on(plug: FakeKasa) -> None:
    plug.realtime = {"power_mw": 61_753, "err_code": 0}
    assert values(meter(plug)) == {"power": 61.753, "energy": None, "voltage": None}


def test_energy_is_a_register(plug: FakeKasa) -> None:
    assert meter(plug).points["energy"].kind is Kind.REGISTER


def test_reading_switches_nothing_and_sets_nothing(plug: FakeKasa) -> None:
    plug.sockets[0].on = True
    values(meter(plug))
    asked = {method for request in plug.heard for methods in request.values() for method in methods}
    assert "get_realtime" in asked
    assert all(method.startswith("get_") for method in asked)


def test_one_without_a_meter_is_a_mistake_in_the_config() -> None:
    with kasa("HS103(US)") as fake, pytest.raises(DeviceMisconfigured, match="has no meter"):
        meter(fake).open()


def test_each_refresh_begins_its_countdown_anew_and_leaves_no_gap(plug: FakeKasa) -> None:
    it, relay = outlet(plug), plug.sockets[0]
    it.open()
    for _ in range(5):
        it.write(1.0)
        plug.pass_s(HOLD_S - 1)
        assert relay.on
    assert plug.rules_made == 1, "the rule is edited: between two rules there would be none"
    plug.pass_s(1)
    assert not relay.on
    assert it.read_back() == 0.0
    it.release()


def test_the_countdown_runs_before_it_leaves_safe(plug: FakeKasa) -> None:
    it = outlet(plug)
    it.open()
    before = len(plug.heard)
    it.write(1.0)
    assert [next(iter(request)) for request in plug.heard[before:]] == ["count_down", "count_down", "system"]
    it.release()


def test_a_countdown_that_somebody_deleted_is_made_again(plug: FakeKasa) -> None:
    it, relay = outlet(plug), plug.sockets[0]
    it.open()
    it.write(1.0)
    relay.rule = None
    with pytest.raises(DeviceUnavailable, match="countdown does not run"):
        it.read_back()
    it.write(1.0)
    assert it.read_back() == 1.0
    plug.pass_s(HOLD_S)
    assert not relay.on
    it.release()


@pytest.mark.parametrize("safe", [0.0, 1.0])
def test_at_safe_no_countdown_runs(plug: FakeKasa, safe: float) -> None:
    it = outlet(plug, safe=safe)
    it.open()
    it.write(1.0 - safe)
    assert [rule["act"] for rule in rules(plug)] == [int(safe)]
    it.write(safe)
    assert rules(plug) == []
    it.release()


def test_a_schedule_of_its_own_is_refused_and_it_is_left_safe(plug: FakeKasa) -> None:
    plug.sockets[0].on = True
    plug.schedules = [{"id": "1", "name": "evening", "enable": 1, "sact": 1, "smin": 1080}]
    it = outlet(plug)
    with pytest.raises(DeviceMisconfigured, match=r"has schedules of its own, .* delete that in its app"):
        it.open()
    assert not plug.on
    plug.schedules[0]["enable"] = 0
    it.open()
    it.release()


def test_each_socket_of_a_strip_is_one_of_its_own(strip: FakeKasa) -> None:
    it = outlet(strip, channel=5)
    it.open()
    it.write(1.0)
    assert [one.on for one in strip.sockets] == [False] * 5 + [True]
    assert [one.rule is not None for one in strip.sockets] == [False] * 5 + [True]
    assert it.read_back() == 1.0
    it.release()
    assert values(meter(strip, channel=2))["power"] == 298.5


@pytest.mark.parametrize(("model", "sockets"), [("HS110(EU)", 1), ("HS300(US)", 6)])
def test_a_socket_it_does_not_have(model: str, sockets: int) -> None:
    with kasa(model) as fake, pytest.raises(DeviceMisconfigured, match=f"has {sockets} sockets; set channel"):
        meter(fake, channel=6).open()


def test_without_own_timer_it_has_no_hold(plug: FakeKasa) -> None:
    it = outlet(plug, own_timer=False)
    it.open()
    it.write(1.0)
    assert plug.sockets[0].rule is None
    assert it.hold_by is HoldBy.NOBODY
    it.release()
    without = KasaOptions(host="plug")
    assert DRIVER.hold_by(without) is HoldBy.NOBODY
    assert "own_timer" in DRIVER.advise(without, Terms(name="it"))


@pytest.mark.parametrize(
    ("terms", "refused"),
    [
        ({"hold_s": 60}, ""),
        ({"hold_s": 0}, "hold_s"),
        ({"hold_s": 29}, "hold_s"),
        ({"hold_s": 86_400}, "hold_s"),
        ({"hold_s": 60, "safe": 1.0}, ""),
        ({"hold_s": 60, "safe": 0.5}, "neither"),
    ],
)
def test_a_hold_that_its_countdown_cannot_do_is_refused(terms: dict[str, Any], refused: str) -> None:
    said = DRIVER.refuse(KasaOptions(host="plug", own_timer=True), Terms(name="it", **terms))
    assert refused in said and bool(said) is bool(refused)


def test_one_that_answers_too_late_is_a_timeout_and_recovers(plug: FakeKasa) -> None:
    it = outlet(plug, answer_s=0.5)
    slow = meter(plug, answer_s=0.5)
    plug.mood = "slow"
    with pytest.raises(DeviceTimeout, match=r"within 0\.5 s; check"):
        slow.open()
    plug.heal()
    # The first of these may still be late on a busy machine.
    for _ in range(60):
        try:
            it.open()
            it.write(1.0)
            break
        except DeviceTimeout:
            continue
    assert plug.on
    it.release()
    slow.close()


def test_something_else_at_the_address(plug: FakeKasa) -> None:
    plug.mood = "garbage"
    it = meter(plug)
    with pytest.raises(DriverError, match="check"):
        it.open()
    it.close()


def test_a_login_is_whole_and_its_password_stays_secret() -> None:
    with pytest.raises(ValidationError, match="set both, or neither"):
        KasaInputOptions(host="plug", username="a@b.c")
    found = KasaInputOptions.model_validate({"host": "plug", "username": "a@b.c", "password": "reef tank"})
    assert "reef tank" not in repr(found)


def test_each_failure_of_the_library_leads_a_person_on() -> None:
    import kasa as library

    address = KasaAddress(host="plug")
    assert isinstance(_told(library.AuthenticationError("no"), address), DeviceMisconfigured)
    assert "TP-Link account" in str(_told(library.AuthenticationError("no"), address))
    assert isinstance(_told(library.UnsupportedDeviceError("camera"), address), DeviceMisconfigured)
    assert isinstance(_told(library.TimeoutError("slow"), address), DeviceTimeout)
    assert isinstance(_told(library.KasaException("reset"), address), DeviceUnavailable)
    assert "is no Kasa" in str(_told(KeyError("system"), address))


def test_the_library_is_not_loaded_before_a_kasa_is_asked() -> None:
    code = (
        "import sys; from drivers.catalog import catalog, output_catalog; catalog(); output_catalog(); "
        "print('kasa' in sys.modules, 'aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_the_extra_it_says_what_to_install(plug: FakeKasa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kasa", None)
    with pytest.raises(DeviceMisconfigured, match=r"pip install 'tidewatt\[kasa\]'"):
        meter(plug).open()


def test_newer_firmware_is_spoken_to_with_its_login() -> None:
    login: dict[str, Any] = {"username": "keeper@example.com", "password": "reef tank"}
    with kasa_with_login(**login) as fake:
        it = outlet(fake, **login)
        it.open()
        it.write(1.0)
        assert it.read_back() == 1.0
        assert values(meter(fake, **login))["power"] == 298.5
        fake.pass_s(HOLD_S)
        assert fake.sockets[0].seen == [1.0, 0.0]
        it.release()


def test_a_wrong_login_is_a_mistake_in_the_config() -> None:
    with kasa_with_login("keeper@example.com", "reef tank") as fake:
        it = meter(fake, username="keeper@example.com", password="wrong")
        with pytest.raises(DeviceMisconfigured, match="refuses the login; set username and password"):
            it.open()
        it.close()
        gc.collect()  # a connection that was left open would be told here
