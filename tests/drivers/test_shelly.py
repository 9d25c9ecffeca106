"""Shelly outlets against a server with a timer, moods and a password."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from drivers.base import DeviceMisconfigured, DeviceTimeout, DeviceUnavailable, HoldBy, Terms
from drivers.shelly import DRIVER, Shelly, ShellyOptions
from edge.clock import FakeClock
from tests.drivers.shelly_models import FakeShelly, shelly

HOLD_S = 30.0


def outlet(fake: FakeShelly, safe: float = 0.0, hold_s: float = HOLD_S, **options: Any) -> Shelly:
    parsed = ShellyOptions.model_validate({"host": "127.0.0.1", "port": fake.port, **options})
    return Shelly(parsed, Terms(name="it", safe=safe, hold_s=hold_s), FakeClock())


@pytest.fixture(params=[1, 2])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeShelly]:
    with shelly(request.param) as found:
        yield found


@pytest.fixture
def second() -> Iterator[FakeShelly]:
    with shelly(2) as found:
        yield found


def test_each_refresh_re_arms_its_own_timer(fake: FakeShelly) -> None:
    it = outlet(fake)
    it.open()
    for _ in range(10):
        it.write(1.0)
        fake.pass_s(HOLD_S - 1)
        assert fake.on
    fake.pass_s(1)
    assert not fake.on
    assert fake.clicks == 2


def test_without_the_network_it_goes_safe_by_itself(fake: FakeShelly) -> None:
    it = outlet(fake)
    it.open()
    it.write(1.0)
    fake.unplug()
    with pytest.raises(DeviceUnavailable, match="cannot be reached"):
        it.write(1.0)
    fake.pass_s(HOLD_S)
    assert not fake.on


@pytest.mark.parametrize("safe", [0.0, 1.0])
def test_at_safe_no_timer_leads_it_away(fake: FakeShelly, safe: float) -> None:
    it = outlet(fake, safe=safe)
    it.open()
    it.write(1.0 - safe)
    assert fake.timer_runs()
    it.write(safe)
    assert not fake.timer_runs()
    fake.pass_s(10 * HOLD_S)
    assert float(fake.on) == safe


def test_safe_on_holds_the_other_way_round(fake: FakeShelly) -> None:
    it = outlet(fake, safe=1.0)
    it.open()
    it.write(0.0)
    assert not fake.on
    fake.pass_s(HOLD_S)
    assert fake.on


def test_one_that_is_on_because_safe_is_on_does_not_click(fake: FakeShelly) -> None:
    fake.on = True
    outlet(fake, safe=1.0).open()
    assert fake.clicks == 0


def test_without_a_hold_it_has_no_timer_and_says_so(fake: FakeShelly) -> None:
    it = outlet(fake, hold_s=0)
    it.open()
    it.write(1.0)
    assert not fake.timer_runs()
    assert it.hold_by is HoldBy.NOBODY
    assert "hold_s" in DRIVER.advise(ShellyOptions(host="plug"), Terms(name="it"))


def test_it_is_told_to_start_safe_after_a_power_cut_and_its_flash_is_written_once(fake: FakeShelly) -> None:
    for _ in range(3):
        outlet(fake).open()
    assert fake.initial_state == "off"
    assert fake.flash_writes == 1


def test_its_settings_are_left_alone_where_the_config_says_so(fake: FakeShelly) -> None:
    outlet(fake, set_power_up=False).open()
    assert fake.initial_state == "restore_last"


@pytest.mark.parametrize(("safe", "undoing"), [(0.0, "auto_on"), (1.0, "auto_off")])
def test_what_would_undo_its_flip_to_safe_is_taken_out_of_it(
    fake: FakeShelly, safe: float, undoing: str
) -> None:
    fake.auto = {"auto_on": 60.0, "auto_off": 60.0}
    it = outlet(fake, safe=safe)
    it.open()
    assert fake.auto == {"auto_on": 60.0, "auto_off": 60.0} | {undoing: 0.0}
    assert (fake.initial_state, fake.flash_writes) == ("on" if safe else "off", 1)
    it.write(1.0 - safe)
    fake.pass_s(HOLD_S)
    fake.pass_s(3600.0)
    assert float(fake.on) == safe


def test_what_would_undo_it_is_told_where_its_settings_are_not_ours(fake: FakeShelly) -> None:
    fake.auto["auto_on"] = 60.0
    with pytest.raises(DeviceMisconfigured, match="take auto-on out on its own page"):
        outlet(fake, set_power_up=False).open()
    assert fake.flash_writes == 0


def test_a_timer_that_leads_away_from_safe_is_a_fault(fake: FakeShelly) -> None:
    it = outlet(fake)
    it.open()
    it.write(1.0)
    assert it.read_back() == 1.0
    fake.keeps_timer = True
    it.write(0.0)
    with pytest.raises(DeviceUnavailable, match="a timer of its own will lead it away"):
        it.read_back()
    fake.keeps_timer = False
    it.write(0.0)
    assert it.read_back() == 0.0


def test_what_it_measures_is_told(fake: FakeShelly) -> None:
    it = outlet(fake)
    it.open()
    it.write(1.0)
    assert it.read_back() == 1.0
    assert it.power_w == 298.5


@pytest.mark.parametrize("generation", [1, 2])
def test_one_that_does_not_measure(generation: int) -> None:
    with shelly(generation, meter=False) as fake:
        it = outlet(fake)
        it.open()
        assert it.read_back() == 0.0
        assert it.power_w is None


def test_a_switch_pressed_by_hand_is_read_back(fake: FakeShelly) -> None:
    it = outlet(fake)
    it.open()
    fake.on = True
    assert it.read_back() == 1.0


def test_one_that_answers_too_late_is_a_timeout(fake: FakeShelly) -> None:
    it = outlet(fake, answer_s=1.0)
    it.open()
    fake.mood = "slow"
    with pytest.raises(DeviceTimeout, match=r"within 1 s; check"):
        it.write(1.0)
    fake.heal()
    it.write(1.0)
    assert fake.on


@pytest.mark.parametrize(("mood", "said"), [("garbage", "is no Shelly; check"), ("broken", "answers 500")])
def test_one_that_talks_nonsense_is_unavailable(fake: FakeShelly, mood: str, said: str) -> None:
    it = outlet(fake)
    it.open()
    fake.mood = mood
    with pytest.raises(DeviceUnavailable, match=said):
        it.write(1.0)
    with pytest.raises(DeviceUnavailable, match=said):
        it.read_back()
    it.release()


def test_something_else_at_the_address_is_no_shelly(second: FakeShelly) -> None:
    second.mood = "garbage"
    with pytest.raises(DeviceUnavailable, match="is no Shelly"):
        outlet(second).open()


def test_a_switch_it_does_not_have(fake: FakeShelly) -> None:
    with pytest.raises(
        DeviceUnavailable, match=r"knows no channel 3 .*; where it does not just start, set channel"
    ):
        outlet(fake, channel=3).open()


def test_one_that_starts_after_a_power_cut_is_asked_again(fake: FakeShelly) -> None:
    it = outlet(fake)
    fake.mood = "starting"
    with pytest.raises(DeviceUnavailable, match="answers, but knows no"):
        it.open()
    fake.heal()
    it.open()
    it.write(1.0)
    assert fake.on


@pytest.mark.parametrize("said", [False, True], ids=["auto", "configured"])
@pytest.mark.parametrize("safe", [0.0, 1.0])
def test_it_is_let_go_safe_although_it_never_told_who_it_is(
    fake: FakeShelly, safe: float, said: bool
) -> None:
    fake.on = not safe
    fake.mood = "starting" if said else "well"
    fake.mute = "/shelly"
    it = outlet(fake, safe=safe, generation=str(fake.generation) if said else "auto")
    with pytest.raises(DeviceUnavailable):
        it.open()
    fake.heal()
    it.release()
    assert float(fake.on) == safe


def test_one_that_fails_otherwise_is_not_asked_by_the_other_interface_at_its_end(fake: FakeShelly) -> None:
    it = outlet(fake, answer_s=30)
    fake.mood = "broken"
    it.release()
    assert len(fake.asked) == 1


@pytest.mark.parametrize("generation", [1, 2])
def test_its_password_is_used(generation: int) -> None:
    with shelly(generation, "reef tank") as fake:
        it = outlet(fake, password="reef tank")
        it.open()
        it.write(1.0)
        assert fake.on


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_a_mistake_in_the_config(generation: int, password: str) -> None:
    with shelly(generation, "reef tank") as fake, pytest.raises(DeviceMisconfigured, match="password"):
        outlet(fake, password=password).open()


def test_the_generation_can_be_said_and_is_then_not_asked(fake: FakeShelly) -> None:
    outlet(fake, generation=str(fake.generation)).open()
    assert "/shelly" not in fake.asked


@pytest.mark.parametrize(("hold_s", "refused"), [(0.0, False), (4.0, True), (5.0, False)])
def test_a_hold_too_short_for_a_network_is_refused(hold_s: float, refused: bool) -> None:
    said = DRIVER.refuse(ShellyOptions(host="plug"), Terms(name="it", hold_s=hold_s))
    assert bool(said) is refused


def test_it_has_a_thread_of_its_own_and_is_no_local_output(second: FakeShelly) -> None:
    it = outlet(second)
    assert it.bus == "shelly-127.0.0.1"
    assert not it.local


def test_a_host_that_is_an_address_of_something_is_refused() -> None:
    with pytest.raises(ValueError, match="host"):
        ShellyOptions(host="http://plug/relay/0")
