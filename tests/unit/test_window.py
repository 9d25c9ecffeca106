"""What is in flight, how long, and how much may be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.messages import EVENTS, META, READINGS
from sync.planner import Lane
from sync.ranges import Ranges
from sync.window import (
    ANSWER_TIMEOUT_MAX_S,
    ANSWER_TIMEOUT_S,
    BATCHES_IN_FLIGHT_MAX,
    GIVE_UP_AFTER,
    HALVE_AFTER,
    HOLD_S,
    LIVE_IN_FLIGHT_MAX,
    TROUBLES_MAX,
    Flight,
    SendWindow,
)

LOG = 7


@pytest.fixture
def window() -> SendWindow:
    return SendWindow(rng=random.Random(1))


def send(window: SendWindow, first: int, last: int, now: float = 0.0, stream: str = READINGS) -> None:
    window.sent(stream, LOG, (first, last), now)


def answer(window: SendWindow, first: int, last: int, now: float = 1.0, stream: str = READINGS) -> bool:
    return window.answered(stream, LOG, first, last, now)


def time_out(window: SendWindow, now: float, *, others: bool) -> float:
    """Let everything in flight go unanswered; with `others`, the sink spoke meanwhile.  Returns when that is."""
    if others:
        window.heard(now + 0.1)
    due = max(flight.due_s for flight in window.flights)
    window.overdue(due)
    return due


def test_it_begins_with_one_and_grows_with_answers(window: SendWindow) -> None:
    assert window.room() == 1
    for at in range(20):
        send(window, at, at)
        assert answer(window, at, at)
    assert window.room() == BATCHES_IN_FLIGHT_MAX
    assert window.in_flight(READINGS) == Ranges()


def test_in_flight_is_by_stream(window: SendWindow) -> None:
    send(window, 1, 5)
    send(window, 3, 4, stream=EVENTS)
    assert window.in_flight(READINGS) == Ranges(((1, 5),))
    assert window.in_flight(EVENTS) == Ranges(((3, 4),))
    assert window.room() == 0


def test_only_what_covers_a_batch_answers_it(window: SendWindow) -> None:
    send(window, 5, 9)
    assert not answer(window, 6, 20)
    assert not answer(window, 1, 8)
    assert not window.answered(READINGS, LOG + 1, 1, 20, 1.0)
    assert not answer(window, 1, 20, stream=EVENTS)
    assert answer(window, 1, 20)
    assert not answer(window, 1, 20)


def test_nothing_is_overdue_before_its_time_and_jitter_only_adds(window: SendWindow) -> None:
    send(window, 1, 5, now=100.0)
    due = window.next_due_s()
    assert due is not None
    assert 100 + ANSWER_TIMEOUT_S <= due <= 100 + ANSWER_TIMEOUT_S * 1.25
    assert window.overdue(due - 0.001) == []
    assert window.flights
    assert window.overdue(due) == []
    assert not window.flights
    assert window.next_due_s() is None


def test_pauses_grow_to_a_cap_while_nobody_answers_and_fall_at_a_word(window: SendWindow) -> None:
    pauses, now = [], 0.0
    for _ in range(12):
        send(window, 1, 5, now)
        due = time_out(window, now, others=False)
        pauses.append(due - now)
        now = due
    assert pauses[1] > pauses[0]
    assert max(pauses) <= ANSWER_TIMEOUT_MAX_S * 1.25
    assert pauses[-1] >= ANSWER_TIMEOUT_MAX_S
    assert window.troubles == {}  # nobody was there: the batch is not to blame
    assert window.room() == 1
    window.heard(now)
    send(window, 1, 5, now)
    assert time_out(window, now, others=False) - now < ANSWER_TIMEOUT_S * 1.3


def test_what_went_out_into_a_long_silence_is_due_soon_after_it_ends(window: SendWindow) -> None:
    now = 0.0
    for _ in range(4):
        send(window, 1, 5, now)
        now = window.flights[0].due_s
        assert window.overdue(now) == []
    send(window, 1, 5, now, EVENTS)
    assert window.flights[0].due_s > now + 8 * ANSWER_TIMEOUT_S
    window.heard(now + 1)
    assert window.flights[0].due_s == now + 1 + ANSWER_TIMEOUT_S


def test_unanswered_while_others_are_it_is_halved_down_to_one_row_and_given_up(window: SendWindow) -> None:
    now, lengths = 0.0, []
    for _ in range(100):
        length = window.rows_max(READINGS, 11, 8)
        lengths.append(length)
        send(window, 11, 10 + length, now)
        window.heard(now + 0.1)
        now = max(flight.due_s for flight in window.flights)
        unsendable = window.overdue(now)
        if unsendable:
            break
    assert lengths == [8] * HALVE_AFTER + [4] * HALVE_AFTER + [2] * HALVE_AFTER + [1] * GIVE_UP_AFTER
    assert [flight.span for flight in unsendable] == [(11, 11)]
    assert window.troubles == {}


def test_an_answer_ends_the_trouble_of_all_it_covers(window: SendWindow) -> None:
    now = 0.0
    for _ in range(HALVE_AFTER):
        send(window, 11, 18, now)
        now = time_out(window, now, others=True)
    assert window.rows_max(READINGS, 11, 8) == 4
    answer(window, 5, 30)
    assert window.troubles == {}


def test_a_stream_learns_what_the_broker_takes_and_tries_more_again(window: SendWindow) -> None:
    """The live lane never begins where it began before: what was learnt counts for the whole stream."""
    now = 0.0
    for _ in range(HALVE_AFTER):
        send(window, 11, 110, now)
        now = time_out(window, now, others=True)
    assert window.rows_max(READINGS, 0, 5000) == 50
    assert window.rows_max(READINGS, 999, 5000) == 50
    assert window.rows_max(EVENTS, 0, 5000) == 5000
    first, batches = 1000, 0
    while window.rows_max(READINGS, first, 5000) < 5000:
        length = window.rows_max(READINGS, first, 5000)
        send(window, first, first + length - 1, now)
        assert answer(window, first, first + length - 1, now)
        first, batches = first + length, batches + 1
    assert 20 < batches < 400
    for first in range(10**6, 10**6 + 200):  # it is forgotten in the end
        send(window, first * 10**6, first * 10**6 + 99_999, now)
        answer(window, first * 10**6, first * 10**6 + 99_999, now)
    assert window.caps == {}


def test_a_batch_in_trouble_takes_no_place_from_the_others(window: SendWindow) -> None:
    send(window, 1, 1, stream=META)
    now = time_out(window, 0.0, others=True)
    assert (META, 1) in window.troubles
    send(window, 1, 1, now, stream=META)
    assert window.room() == 1
    send(window, 1, 5, now)
    assert window.room() == 0


def test_a_held_stream_waits_and_is_tried_again(window: SendWindow) -> None:
    send(window, 1, 5)
    send(window, 1, 5, stream=EVENTS)
    window.hold(READINGS, 10.0)
    assert window.in_flight(READINGS) == Ranges()
    assert window.in_flight(EVENTS)
    assert window.holding(READINGS, 10.0)
    assert not window.holding(EVENTS, 10.0)
    assert not window.holding(READINGS, 10.0 + HOLD_S)


def test_a_new_link_begins_carefully_and_at_once(window: SendWindow) -> None:
    for at in range(9):
        send(window, at, at)
        answer(window, at, at)
    send(window, 20, 30)
    time_out(window, 50.0, others=False)
    send(window, 20, 30)
    window.disconnected()
    assert not window.flights
    window.connected()
    assert (window.room(), window.silent_rounds) == (1, 0)


def test_the_lanes_take_no_place_from_each_other(window: SendWindow) -> None:
    send(window, 1, 5)
    assert (window.room(), window.room(Lane.LIVE, READINGS)) == (0, LIVE_IN_FLIGHT_MAX)
    for at in range(LIVE_IN_FLIGHT_MAX):
        window.sent(READINGS, LOG, (100 + at, 100 + at), 0.0, size=40, lane=Lane.LIVE)
    assert window.room(Lane.LIVE, READINGS) == 0
    assert window.room(Lane.LIVE, EVENTS) == LIVE_IN_FLIGHT_MAX
    assert window.in_flight(READINGS) == Ranges(((1, 5), (100, 99 + LIVE_IN_FLIGHT_MAX)))
    assert window.bytes_in_flight(Lane.LIVE) == window.bytes_in_flight() == 40 * LIVE_IN_FLIGHT_MAX
    assert answer(window, 1, 5)
    assert window.room() > 0
    assert window.room(Lane.LIVE, READINGS) == 0


def test_while_nobody_answers_live_tries_one_at_a_time(window: SendWindow) -> None:
    window.sent(READINGS, LOG, (9, 9), 0.0, lane=Lane.LIVE)
    now = time_out(window, 0.0, others=False)
    assert window.room(Lane.LIVE, READINGS) == 1
    window.heard(now)
    assert window.room(Lane.LIVE, READINGS) == LIVE_IN_FLIGHT_MAX


def test_a_hole_counts_as_one_and_is_never_given_up_as_many(window: SendWindow) -> None:
    window.sent(READINGS, LOG, (1, 10_000_000), 0.0, rows=1)
    assert window.flights[0].length == 1
    assert window.in_flight(READINGS).count == 10_000_000


def test_what_the_broker_drops_is_known_by_its_size(window: SendWindow) -> None:
    window.sent(READINGS, LOG, (1, 10), 0.0, size=500)
    answer(window, 1, 10)
    now = 2.0
    for _ in range(HALVE_AFTER):
        assert window.limited is None
        window.sent(READINGS, LOG, (11, 30), now, size=1000)
        now = time_out(window, now, others=True)
    assert window.limited is not None
    assert (window.limited.passed, window.limited.dropped) == (500, 1000)
    window.sent(READINGS, LOG, (11, 30), now, size=1000)
    answer(window, 11, 30, now)
    assert window.limited is None  # it was bad luck


def test_a_stream_that_is_never_answered_is_not_called_too_large(window: SendWindow) -> None:
    window.sent(READINGS, LOG, (1, 10), 0.0, size=500)
    answer(window, 1, 10)
    now = 2.0
    for _ in range(HALVE_AFTER):
        window.sent(EVENTS, LOG, (1, 20), now, size=1000)
        now = time_out(window, now, others=True)
    assert window.limited is None


def test_a_stream_whose_topic_was_refused_for_a_while_is_not_called_too_large_afterwards(
    window: SendWindow,
) -> None:
    now = 0.0
    for first, last, size in ((1, 2, 300), (1, 1, 170), (3, 9, 900), (1, 1, 170), (3, 9, 900), (3, 5, 500)):
        for _ in range(HALVE_AFTER):
            window.sent(EVENTS, LOG, (first, last), now, size=size)
            now = time_out(window, now, others=True)
    window.sent(EVENTS, LOG, (1, 1), now, size=170)
    window.answered(EVENTS, LOG, 1, 1, now)
    assert window.limited is None


def test_of_a_stream_that_is_never_answered_one_row_is_given_up(window: SendWindow) -> None:
    """Its topic may be refused: each row would look as if it were to blame itself."""
    now = 0.0
    given_up: list[Flight] = []
    for turn in range(10 * GIVE_UP_AFTER):
        first = 1 + len(given_up)
        window.sent(EVENTS, LOG, (first, first), now)
        if turn == 8 * GIVE_UP_AFTER:
            assert [flight.span for flight in given_up] == [(1, 1)]
            window.answered(EVENTS, LOG, 1, 1, now)  # the hole that the first one left
        window.heard(now + 0.1)
        now = max(flight.due_s for flight in window.flights)
        given_up += window.overdue(now)
    assert [flight.span for flight in given_up] == [(1, 1), (2, 2)]


def test_answers_measure_the_link(window: SendWindow) -> None:
    before = window.pace.bytes_max()
    window.sent(READINGS, LOG, (1, 9), 0.0, size=before)
    window.sent(READINGS, LOG, (10, 19), 0.0, size=before)
    assert [flight.ahead for flight in window.flights] == [before, 2 * before]
    answer(window, 1, 19, 0.5)
    assert window.pace.bytes_max() > 2 * before
    assert window.meters[Lane.BACKLOG].rows.per_s(0.5) == pytest.approx(1.9)
    assert window.meters[Lane.LIVE].rows.per_s(0.5) == 0
    window.connected()
    assert window.pace.bytes_max() == before


def test_troubles_are_bounded(window: SendWindow) -> None:
    now = 0.0
    for first in range(3 * TROUBLES_MAX):
        send(window, first * 10, first * 10 + 5, now)
        now = time_out(window, now, others=True)
    assert len(window.troubles) == TROUBLES_MAX


@given(st.integers(1, 3000), st.integers(2, 400), st.integers(0, 2**32))
def test_all_rows_pass_a_broker_that_drops_large_batches(rows: int, taken: int, seed: int) -> None:
    """A broker takes at most `taken` rows a message, and one row never: all others pass, that one is given up."""
    rng = random.Random(seed)
    window = SendWindow(rng=rng)
    poison = rng.randrange(1, rows + 1)
    first, now, gone, turns = 1, 0.0, [], 0
    while first <= rows:
        turns += 1
        assert turns < 500 + 2 * rows
        last = min(rows, first + window.rows_max(READINGS, first, 5000) - 1)
        send(window, first, last, now)
        window.heard(now + 0.1)
        if last - first < taken and not first <= poison <= last:
            assert answer(window, first, last, now + 0.2)
            first, now = last + 1, now + 0.3
            continue
        now = max(flight.due_s for flight in window.flights)
        for flight in window.overdue(now):
            gone.append(flight.span)
            first += 1
    assert gone == [(poison, poison)]
