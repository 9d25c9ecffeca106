"""Digital inputs: what 1 means, the debounce, the count, and that a change wakes at once."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.digital import DigitalInput, DigitalOptions
from edge.clock import FakeClock
from tests.drivers.fakes import FakeLines
from tests.drivers.worlds import fake_lines

PIN = 23


class Input:
    """An opened input, its line and its clock."""

    def __init__(self, lines: FakeLines, **options: Any) -> None:
        self.clock = FakeClock()
        self.line = lines.pin(PIN)
        self.device = DigitalInput(DigitalOptions(pin=PIN, **options), self.clock)
        self.woken = 0
        self.device.on_change = self._wake
        self.device.open()

    def _wake(self) -> None:
        self.woken += 1

    def read(self) -> tuple[float | None, float | None]:
        values = {sample.point: sample.value for sample in self.device.read()}
        return values["state"], values["changes"]

    def quietly(self, level: bool) -> None:
        """Move the line with no edge told, as while the debounce runs."""
        self.line.level = level


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> FakeLines:
    return fake_lines(monkeypatch)


@pytest.mark.parametrize(
    ("kind", "closed"), [("float", 1.0), ("leak", 1.0), ("mains", 1.0), ("other", 1.0), ("door", 0.0)]
)
def test_what_a_contact_closed_to_ground_means(lines: FakeLines, kind: str, closed: float) -> None:
    it = Input(lines, kind=kind)
    assert it.read()[0] == 1.0 - closed
    it.line.move(False)
    assert it.read()[0] == closed


@pytest.mark.parametrize("active_low", [True, False])
def test_active_low_says_it_outright(lines: FakeLines, active_low: bool) -> None:
    it = Input(lines, kind="door", active_low=active_low, pull="down")
    assert it.read()[0] == float(active_low)


def test_a_change_wakes_at_once_and_is_counted(lines: FakeLines) -> None:
    it = Input(lines, kind="leak")
    assert it.read() == (0.0, 0.0)
    it.line.move(False)
    assert it.woken == 1
    assert it.read() == (1.0, 1.0)
    it.line.move(True)
    assert it.woken == 2
    assert it.read() == (0.0, 2.0)


def test_an_edge_back_to_where_it_stood_is_no_change(lines: FakeLines) -> None:
    it = Input(lines)
    assert it.line.changed is not None
    it.line.changed(True)
    assert (it.woken, it.read()[1]) == (0, 0.0)


def test_a_line_that_has_just_moved_counts_as_before_until_it_has_stood(lines: FakeLines) -> None:
    it = Input(lines, debounce_ms=500)
    it.quietly(False)
    assert it.read()[0] == 0.0
    it.clock.pass_s(0.3)
    assert it.read()[0] == 0.0
    it.clock.pass_s(0.3)
    assert it.read() == (1.0, 1.0)
    assert it.woken == 1


def test_a_bounce_begins_the_wait_anew(lines: FakeLines) -> None:
    it = Input(lines, debounce_ms=500)
    for level in (False, True, False):
        it.quietly(level)
        assert it.read()[0] == 0.0
        it.clock.pass_s(0.4)
    assert it.read()[0] == 0.0
    it.clock.pass_s(0.2)
    assert it.read()[0] == 1.0


def test_a_wait_that_an_edge_has_ended_does_not_shorten_the_next(lines: FakeLines) -> None:
    it = Input(lines, debounce_ms=500)
    it.quietly(False)
    it.read()
    assert it.line.changed is not None
    it.line.changed(False)  # the library's own debounce was the faster
    it.clock.pass_s(10)
    it.quietly(True)
    assert it.read()[0] == 1.0
    it.clock.pass_s(0.6)
    assert it.read()[0] == 0.0


def test_without_debounce_the_line_is_believed(lines: FakeLines) -> None:
    it = Input(lines, debounce_ms=0)
    it.quietly(False)
    assert it.read()[0] == 1.0


def test_opened_again_it_starts_from_the_line_as_it_is(lines: FakeLines) -> None:
    it = Input(lines)
    it.line.move(False)
    it.device.close()
    it.line.pull = it.line.pull.DOWN
    it.device.open()
    assert it.read()[1] == 0.0


def test_closed_it_wakes_nobody(lines: FakeLines) -> None:
    it = Input(lines)
    it.device.close()
    it.line.move(False)
    assert it.woken == 0
