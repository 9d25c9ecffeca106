"""One body of tests over every output: what the output bank may rely on, whatever the driver."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.base import DeviceMisconfigured, DeviceUnavailable, HoldBy, Output, is_on
from drivers.catalog import OUTPUT_COMMON_OPTIONS, output_catalog
from tests.drivers.worlds import WORLDS, World, world


def output_goes_on(output: Output) -> bool:
    """Whether it keeps its level when the daemon dies, and when the next one takes it over."""
    return output.hold_by is HoldBy.NOBODY and output.dimmable


@pytest.fixture(params=WORLDS)
def it(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    with world(str(request.param), monkeypatch, tmp_path) as found:
        yield found


def test_every_output_driver_has_a_world() -> None:
    built_in = {
        name for name, kind in output_catalog().items() if kind.options.__module__.startswith("drivers.")
    }
    assert built_in == {name.partition("-")[0] for name in WORLDS}


def test_every_option_is_described_and_none_hides_a_common_one() -> None:
    for kind in output_catalog().values():
        for name, field in kind.options.model_fields.items():
            assert field.description, f"{kind.name}.{name}"
        assert not OUTPUT_COMMON_OPTIONS & kind.options.model_fields.keys()


def test_what_the_driver_says_by_the_options_is_true_of_the_output(it: World) -> None:
    output, options = it.make(), it.parsed()
    assert output.hold_by is it.kind.hold_by(options) or it.terms.hold_s == 0
    assert output.dimmable == it.kind.dimmable(options)
    assert output.local == it.kind.local(options)
    assert output.bus
    assert it.kind.refuse(options, it.terms) == ""


def test_two_on_the_same_hardware_clash(it: World) -> None:
    one = it.kind.claims(it.parsed())
    assert one
    assert any(claim.clashes(other) for claim in one for other in it.kind.claims(it.parsed()))


def test_making_it_touches_nothing(it: World) -> None:
    it.unplug()
    output = it.make()
    output.release()
    assert it.load() == it.start


def test_opened_it_is_safe_and_never_was_anything_else(it: World) -> None:
    output = it.make()
    output.open()
    assert it.load() == pytest.approx(it.terms.safe, abs=it.near)
    assert output.read_back() == pytest.approx(it.terms.safe, abs=it.near)
    allowed = {it.start, it.terms.safe}
    assert all(any(abs(level - good) < it.near for good in allowed) for level in it.seen())


def test_it_does_what_it_is_told_and_says_so(it: World) -> None:
    output = it.make()
    output.open()
    for level in (1.0, 0.0, 0.25, 0.9, 0.5, 0.0, 1.0):
        output.write(level)
        meant = level if output.dimmable else float(is_on(level))
        assert it.load() == pytest.approx(meant, abs=it.near)
        assert output.read_back() == pytest.approx(meant, abs=it.near)


def test_full_is_full_and_off_is_off(it: World) -> None:
    output = it.make()
    output.open()
    output.write(1.0)
    assert it.load() == 1.0
    output.write(0.0)
    assert it.load() == 0.0


def test_writing_the_same_again_changes_nothing(it: World) -> None:
    output = it.make()
    output.open()
    output.write(1.0)
    before = list(it.seen())
    for _ in range(3):
        output.write(1.0)
    assert list(it.seen())[len(before) :] in ([], [1.0] * 3)
    assert it.load() == 1.0


@pytest.mark.parametrize("level", [-0.01, 1.01, math.nan, math.inf])
def test_nonsense_is_refused_and_changes_nothing(it: World, level: float) -> None:
    output = it.make()
    output.open()
    before = it.load()
    with pytest.raises(DeviceMisconfigured, match=r"0\.0-1\.0"):
        output.write(level)
    assert it.load() == before


def test_released_it_is_safe_however_often(it: World) -> None:
    output = it.make()
    output.open()
    output.write(0.0 if it.terms.safe >= 0.5 else 1.0)
    output.release()
    assert it.load() == pytest.approx(it.terms.safe, abs=it.near)
    output.release()
    assert it.load() == pytest.approx(it.terms.safe, abs=it.near)


def test_it_can_be_opened_again_after_a_release(it: World) -> None:
    output = it.make()
    output.open()
    output.release()
    output.open()
    output.write(1.0)
    assert it.load() == 1.0


def test_opened_twice_it_makes_no_pulse(it: World) -> None:
    output = it.make()
    output.open()
    before = list(it.seen())
    output.open()
    assert all(level == pytest.approx(it.terms.safe, abs=it.near) for level in it.seen()[len(before) :])
    output.write(1.0)
    assert it.load() == 1.0


def test_without_its_hardware_it_is_unavailable_and_says_what_to_do_and_comes_back(it: World) -> None:
    output = it.make()
    output.open()
    output.write(1.0)
    it.unplug()
    for level in (0.0, 1.0):
        with pytest.raises(DeviceUnavailable) as caught:
            output.write(level)
        assert "check" in str(caught.value) or "set fault" in str(caught.value)
    with pytest.raises(DeviceUnavailable):
        output.read_back()
    with pytest.raises(DeviceUnavailable):
        output.open()
    it.plug()
    output.open()
    output.write(1.0)
    assert it.load() == 1.0
    output.write(0.0)
    assert it.load() == 0.0


def test_release_never_raises_even_without_the_hardware(it: World) -> None:
    output = it.make()
    output.open()
    it.unplug()
    output.release()
    output.release()


def test_when_the_daemon_dies_who_holds_it_makes_it_safe(it: World) -> None:
    output = it.make()
    output.open()
    away = 0.0 if it.terms.safe >= 0.5 else 1.0
    output.write(away)
    it.die()
    expected = away if output.hold_by is HoldBy.NOBODY else it.terms.safe
    assert it.load() == pytest.approx(expected, abs=it.near)


def test_after_a_death_the_next_process_takes_over(it: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = it.make()
    first.open()
    first.write(1.0)
    it.die()
    second = it.make()
    second.open()
    for level in (1.0, 0.0):
        second.write(level)
        assert it.load() == level


def test_the_next_process_finds_it_where_it_stands_and_moves_nothing(it: World) -> None:
    first = it.make()
    first.open()
    first.write(0.0 if it.terms.safe >= 0.5 else 1.0)
    it.die()
    left, moves = it.load(), list(it.seen())
    second = it.make()
    second.open()
    found = second.read_back()
    assert found is not None
    assert found == pytest.approx(it.load(), abs=it.near)
    assert found == pytest.approx(left if output_goes_on(second) else it.terms.safe, abs=it.near)
    second.write(found)
    assert all(level == pytest.approx(found, abs=it.near) for level in it.seen()[len(moves) :])


def test_cut_says_whether_there_was_a_way_past_the_bus(it: World) -> None:
    output = it.make()
    output.open()
    output.write(1.0)
    assert output.cut() == (output.hold_by is HoldBy.OE)
    assert it.load() == (it.terms.safe if output.hold_by is HoldBy.OE else 1.0)
