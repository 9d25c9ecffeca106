"""The proof that the protocol's tests can fail: every rule is left out or done wrong once, and has to be found.

Found means: by the check, or by the scenario, that bears the name of the promise which the rule keeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest

from edge.uplink.presence import Presence
from sync import messages, planner, settlement, window
from sync.ledger import Ledger
from sync.messages import READINGS, AskLog, Batch, Held, Window
from sync.planner import Lane, LogSpan, Settlement
from sync.ranges import EMPTY, Ranges
from sync.rank import DayRank
from sync.settlement import Fold
from sync.window import Flight, SendWindow
from tests.contract import (
    protocol_checks,
    protocol_thin,
    protocol_upstream,
    test_protocol_bounds,
    test_protocol_parties,
    test_protocol_scenarios,
)
from tests.contract.protocol_deeds import walk
from tests.contract.protocol_edge import EdgeProcess
from tests.contract.protocol_link import Network
from tests.contract.protocol_rows import Row, Violation
from tests.contract.protocol_thin import Fact, Made
from tests.contract.protocol_upstream import Position, Tables, Upstream
from tests.contract.protocol_world import World
from tests.mutants import INVARIANTS

pytestmark = pytest.mark.usefixtures("quiet")

REAL_SETTLE: Final = planner.settle
REAL_FOLD: Final = settlement.fold
REAL_APPLY: Final = Ledger.apply
REAL_BEGIN: Final = EdgeProcess.begin_log
REAL_TOLD: Final = EdgeProcess.told_logs
REAL_FETCH: Final = EdgeProcess.fetch
REAL_TAKES: Final = World.sink_takes
REAL_INSERT: Final = Tables.insert
REAL_DETACH: Final = Tables.detach
REAL_REFUSED: Final = Tables.refused


# ----------------------------------------------------------------------------------------- settling


def settle_by_gap(
    settled: Ranges, window: Window, span: LogSpan, *, present: Ranges, holes: Ranges
) -> Settlement:
    return REAL_SETTLE(settled, window, span, present=EMPTY, holes=holes)


def settle_what_was_asked(settled: Ranges, window: Window, span: LogSpan, **known: Ranges) -> Settlement:
    return REAL_SETTLE(settled, replace(window, stored=Ranges(((window.lo, window.hi),))), span, **known)


def never_unsettle(settled: Ranges, window: Window, span: LogSpan, **known: Ranges) -> Settlement:
    result = REAL_SETTLE(settled, window, span, **known)
    return replace(result, settled=result.settled | settled)


def no_pruned_hole(settled: Ranges, window: Window, span: LogSpan, **known: Ranges) -> Settlement:
    return replace(REAL_SETTLE(settled, window, span, **known), lost=EMPTY)


def first_ledger_is_taken(bound: str, held: Held) -> bool:
    return True


def no_fork(*arguments: Any, **known: Any) -> Fold:
    return replace(REAL_FOLD(*arguments, **known), fork=False)


def offsets_not_adopted(*arguments: Any, **known: Any) -> Fold:
    return replace(REAL_FOLD(*arguments, **known), offsets={})


# ------------------------------------------------------------------------------------ ledger, tables


def ledger_by_head(self: Ledger, batch: Batch) -> Ranges:
    return batch.row_positions - (Ranges(((1, self.stored.last),)) if self.stored else EMPTY) - self.refused


def ledger_drops_nothing(self: Ledger, batch: Batch) -> Ranges:
    return batch.row_positions


def gap_beats_row(self: Ledger, batch: Batch) -> Ranges:
    return batch.row_positions - self.stored - self.refused - self.gaps


def gap_stays(self: Ledger, batch: Batch, stored: Ranges, refused: Ranges = EMPTY) -> Ledger:
    return replace(REAL_APPLY(self, batch, stored, refused), gaps=self.gaps | batch.hole_positions)


def refused_counts_as_stored(self: Ledger, batch: Batch, stored: Ranges, refused: Ranges = EMPTY) -> Ledger:
    return REAL_APPLY(self, batch, stored | refused)


def no_declared_end(self: Ledger, head: int, *, run: int, closed: bool) -> Ledger:
    return replace(self, head=max(head, self.head))


def last_declared_end(self: Ledger, head: int, *, run: int, closed: bool) -> Ledger:
    return replace(self, head=max(head, self.head), end=head if closed else self.end)


def last_offset(self: Tables, log: int, told: tuple[int, bool]) -> tuple[int, bool]:
    self.offsets[log] = told
    return told


def offset_of_the_summarys_log(self: Tables, position: Position, row: Row) -> tuple[int, bool]:
    return self.offsets[position[0]]


def last_arrival_is_current(self: Tables) -> dict[tuple[str, ...], DayRank]:
    return {key[:3]: rank for key, rank in self.days.items()}


def one_reading_a_moment(self: Tables, log: int, stream: str, seq: int, row: Row) -> None:
    same = (key for key, (there, _) in self.facts.items() if key[1] == READINGS and there[:3] == row[:3])
    if stream == READINGS and (old := next(same, None)) is not None:
        del self.facts[old]
    REAL_INSERT(self, log, stream, seq, row)


def detached_is_forgotten(self: Tables, count: int) -> None:
    REAL_DETACH(self, count)
    gone = {key[:2] for key in self.detached}
    for place in gone:
        self.ledgers.pop(place, None)
    self.detached.clear()


def refused_as_a_whole(self: Tables, batch: Batch) -> Ranges:
    return batch.row_positions if REAL_REFUSED(self, batch) else EMPTY


def meta_by_seq(log: int, seq: int) -> tuple[int, int]:
    return seq, log


# --------------------------------------------------------------------------------------------- sinks


def no_lock(self: Upstream, site: str) -> bool:
    return False


def one_table_for_all(self: Upstream, site: str) -> Tables:
    return self.sites.setdefault("anybody", Tables())


def answers_before_the_commit(self: World, sink: int, at: int, keep: int = 0) -> None:
    REAL_TAKES(self, sink, at, keep)
    work = self.upstream.work[sink]
    if work is not None:
        self.network.answer(work.message[0], work.answers, self.upstream.edition)


def unreadable_is_let_go(self: Upstream, topic: str, answer: Held, error: Exception) -> list[Held]:
    return []


# ---------------------------------------------------------------------------------------------- edge


def no_new_log(self: EdgeProcess, above: int = 0) -> None:
    if self.file.logs and not above:
        self.log = self.file.logs[-1]
    else:
        REAL_BEGIN(self, above)


def log_id_by_clock(self: World, site: str, now_ms: int, newest: int) -> int:
    return now_ms << 20 | self.random.getrandbits(20)


def log_id_without_chance(self: World, site: str, now_ms: int, newest: int) -> int:
    return max(now_ms, (newest >> 20) + 1) << 20


def meta_not_anew(self: EdgeProcess) -> list[Row]:
    return []


def deletions_not_anew(self: EdgeProcess) -> list[Row]:
    return [(self.now_ms(), *row[1:]) for _, row in self.file.current_meta().values() if row[3] is not None]


def offset_guessed(self: EdgeProcess) -> None:
    for log in self.file.logs:
        if log.clock.offset_ms is None:
            self.file.set_offset(log.id, 0, False)


def rows_in_reverse(self: EdgeProcess, stream: str, span: LogSpan, first: int, last: int) -> Batch:
    batch = REAL_FETCH(self, stream, span, first, last)
    return batch if isinstance(batch.rows, messages.ReadingRows) else replace(batch, rows=batch.rows[::-1])


def plan_crosses_logs(
    spans: Sequence[LogSpan], waiting: Ranges, lane: Lane, rows_max: int, **known: Any
) -> tuple[LogSpan, tuple[int, int]] | None:
    if not waiting:
        return None
    first, last = waiting.spans[0]
    span = settlement.span_at(spans, first)
    return None if span is None else (span, (first, min(last, first + rows_max - 1)))


def ask_only_of_own_log(self: EdgeProcess) -> list[AskLog]:
    return REAL_TOLD(self)[-1:]


def ask_on_one_page(run: int, logs: Sequence[AskLog]) -> list[messages.Ask]:
    return [messages.Ask(run=run, page=1, pages=1, logs=tuple(logs))]


def never_halved(self: SendWindow, flight: Flight) -> bool:
    return False


def hold_is_not_heard(self: SendWindow, stream: str, now: float) -> None:
    pass


def hole_forgotten(self: EdgeProcess, stream: str, positions: Ranges) -> None:
    for seq in positions.members():
        del self.file.rows[stream][seq]
    self.world.note_given_up(self, stream, positions)


def sent_before_time(self: EdgeProcess, stream: str) -> list[LogSpan]:
    return self.file.spans(stream)


def give_up_unsettled(self: EdgeProcess, stream: str, count: int) -> None:
    if waiting := self.spare(stream):
        self.file.give_up(stream, Ranges((waiting.spans[0],)), messages.PRUNED)
        self.card.commit()


def prune_unsettled(self: EdgeProcess, stream: str, count: int) -> None:
    for seq in sorted(self.file.rows[stream])[:count]:
        del self.file.rows[stream][seq]
    self.card.commit()


# ----------------------------------------------------------------------------------- summaries, status


def shows_all(facts: Mapping[Fact, tuple[Row, int]]) -> dict[Fact, Row]:
    return {key: row for key, (row, _) in facts.items() if key[1] in (READINGS, messages.SUMMARIES)}


def joins_what_does_not_touch(before: Made, part: Made, span_s: int) -> bool:
    one, other = before.row, part.row
    same = one[0] == other[0] and one[4:6] == other[4:6] and one[7] and other[7]
    return bool(same) and one[6] // (span_s * 1000) == other[6] // (span_s * 1000)


def mean_of_means(one: Row, other: Row, span_s: int) -> Row:
    made = REAL_MERGED(one, other, span_s)
    return made if made[10] is None else (*made[:10], (one[10] or 0) / 2 + (other[10] or 0) / 2, *made[11:])


REAL_MERGED: Final = protocol_thin._merged


def no_will(self: Network, site: str) -> None:
    self.links.pop(site, None)


async def own_will_is_not_heard(self: Presence, session: Any, message: Any) -> None:
    pass


MUTANTS: Final[tuple[tuple[str, object, str, Any], ...]] = (
    ("position_unique", World, "new_log_id", log_id_without_chance),
    ("position_immutable", EdgeProcess, "fetch", rows_in_reverse),
    ("range_total", planner, "plan", plan_crosses_logs),
    ("range_total", settlement, "settle", no_pruned_hole),
    ("range_total", EdgeProcess, "drop_rows", hole_forgotten),
    ("range_total", EdgeProcess, "prune", prune_unsettled),
    ("settled_implies_upstream", settlement, "settle", settle_what_was_asked),
    ("settled_implies_upstream", World, "sink_takes", answers_before_the_commit),
    ("no_silent_loss", EdgeProcess, "prune", give_up_unsettled),
    ("no_silent_loss", EdgeProcess, "told_logs", ask_only_of_own_log),
    ("one_row_per_position", Ledger, "fresh", ledger_drops_nothing),
    ("order_free", Ledger, "fresh", ledger_by_head),
    ("order_free", Ledger, "heard", last_declared_end),
    ("row_beats_gap", Ledger, "apply", gap_stays),
    ("ledger_equals_rows", Ledger, "apply", refused_counts_as_stored),
    ("ledger_equals_rows", Upstream, "is_locked", no_lock),
    ("two_sinks", Upstream, "is_locked", no_lock),
    ("offline_reuse", EdgeProcess, "begin_log", no_new_log),
    ("restore_old_backup", EdgeProcess, "begin_log", no_new_log),
    ("lost_card", World, "new_log_id", log_id_by_clock),
    ("two_clones", settlement, "fold", no_fork),
    ("upstream_rewinds", settlement, "settle", never_unsettle),
    ("clone_gap_masks_row", settlement, "settle", settle_by_gap),
    ("clone_gap_masks_row", Ledger, "fresh", gap_beats_row),
    ("foreign_ledger", settlement, "heeds", first_ledger_is_taken),
    ("late_duplicate", Tables, "detach", detached_is_forgotten),
    ("meta_race", protocol_upstream, "meta_rank", meta_by_seq),
    ("meta_race", EdgeProcess, "meta_anew", meta_not_anew),
    ("meta_race", EdgeProcess, "meta_anew", deletions_not_anew),
    ("clock_step_back", Tables, "insert", one_reading_a_moment),
    ("no_time_changes_after_send", settlement, "fold", offsets_not_adopted),
    ("no_time_changes_after_send", EdgeProcess, "sendable", sent_before_time),
    ("no_time_changes_after_send", EdgeProcess, "find_offsets", offset_guessed),
    ("no_time_changes_after_send", Tables, "offset", last_offset),
    ("no_time_changes_after_send", Tables, "offset_of", offset_of_the_summarys_log),
    ("summaries_wait_for_their_source", EdgeProcess, "sendable", sent_before_time),
    ("downsample_sums", protocol_checks, "shown", shows_all),
    ("downsample_sums", protocol_thin, "_joins", joins_what_does_not_touch),
    ("summaries_stay_apart", protocol_thin, "_joins", joins_what_does_not_touch),
    ("downsample_sums", protocol_thin, "_merged", mean_of_means),
    ("channel_day_current", Tables, "current_days", last_arrival_is_current),
    ("poison", Tables, "refused", refused_as_a_whole),
    ("two_sites", Upstream, "of", one_table_for_all),
    ("edge_upgraded_first", SendWindow, "hold", hold_is_not_heard),
    ("edge_upgraded_first", Upstream, "unreadable", unreadable_is_let_go),
    ("oversize", SendWindow, "_blame", never_halved),
    ("bounds", planner, "FRAGMENTS_MAX", 1 << 30),
    ("bounds", window, "TROUBLES_MAX", 1 << 30),
    ("bounds", settlement, "HELD_SPANS_MAX", 1 << 30),
    ("bounds", settlement, "ask_pages", ask_on_one_page),
    ("liveness", Ledger, "heard", no_declared_end),
    ("liveness", Network, "close", no_will),
    ("liveness", Presence, "hear", own_will_is_not_heard),
    ("late_will", Presence, "hear", own_will_is_not_heard),
)
"""Every rule of the protocol left out or done wrong: the promise, owner, name, and what stands there instead."""


def name_of(mutant: tuple[str, object, str, Any]) -> str:
    return str(getattr(mutant[3], "__name__", mutant[2]))


LIVES_MAX: Final = 400
SCENARIOS: Final = {
    scenario.__name__: scenario
    for scenario in (
        *test_protocol_scenarios.SCENARIOS,
        *test_protocol_parties.SCENARIOS,
        test_protocol_bounds.bounds,
    )
}


def lives_of(promise: str) -> Iterable[Callable[[], object]]:
    """Where a promise is looked at: in a scenario of its own, or in any life."""
    if promise in SCENARIOS:
        return [SCENARIOS[promise]]
    lives = (partial(walk, seed) for seed in range(LIVES_MAX))
    return itertools.chain(SCENARIOS.values(), lives)


def is_broken(promise: str, life: Callable[[], object]) -> bool:
    """Whether the promise does not hold in this life; another one that breaks first proves nothing."""
    try:
        life()
    except Violation as violation:
        return promise in (violation.check, getattr(life, "__name__", ""))
    except (
        messages.WireError
    ):  # the wire refuses a batch that does not fit into its log, or has rows without a source
        return promise == "range_total" or promise in SCENARIOS
    except AssertionError:
        return promise in SCENARIOS
    return False


@pytest.mark.parametrize(
    ("promise", "owner", "name", "wrong"), MUTANTS, ids=[f"{m[0]}-{name_of(m)}" for m in MUTANTS]
)
def test_a_broken_rule_is_found(
    promise: str, owner: object, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that these tests can fail: a scenario, or a random life, breaks with the rule."""
    monkeypatch.setattr(owner, name, wrong)
    if not any(is_broken(promise, life) for life in lives_of(promise)):
        pytest.fail(f"{wrong} did not break {promise} in any scenario, nor in {LIVES_MAX} lives")


def test_every_promise_is_broken_once() -> None:
    assert set(INVARIANTS) <= {promise for promise, *_ in MUTANTS}
