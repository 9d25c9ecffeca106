"""The proof that the protocol's tests can fail: every rule is left out or done wrong once, and has to be found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest

from sync import messages, planner, settlement
from sync.ledger import Ledger
from sync.messages import AskLog, Batch, Window
from sync.planner import Lane, LogSpan, Settlement
from sync.ranges import EMPTY, Ranges
from sync.rank import DayRank
from sync.settlement import Fold
from sync.window import Flight, SendWindow
from tests.contract import protocol_model
from tests.contract.protocol_model import Database, EdgeProcess, Row
from tests.contract.protocol_world import World, walk
from tests.contract.test_protocol_scenarios import SCENARIOS

REAL_SETTLE: Final = planner.settle
REAL_FOLD: Final = settlement.fold
REAL_APPLY: Final = Ledger.apply
REAL_BEGIN: Final = EdgeProcess.begin_log
REAL_TOLD: Final = EdgeProcess.told_logs


def settle_by_gap(
    settled: Ranges, window: Window, span: LogSpan, *, present: Ranges, holes: Ranges
) -> Settlement:
    return REAL_SETTLE(settled, window, span, present=EMPTY, holes=holes)


def never_unsettle(settled: Ranges, window: Window, span: LogSpan, **known: Ranges) -> Settlement:
    result = REAL_SETTLE(settled, window, span, **known)
    return replace(result, settled=result.settled | settled)


def no_pruned_hole(settled: Ranges, window: Window, span: LogSpan, **known: Ranges) -> Settlement:
    return replace(REAL_SETTLE(settled, window, span, **known), lost=EMPTY)


def no_new_log(self: EdgeProcess, above: int = 0) -> None:
    if self.file.logs and not above:
        self.log = self.file.logs[-1]
    else:
        REAL_BEGIN(self, above)


def ledger_by_head(self: Ledger, batch: Batch) -> Ranges:
    return batch.row_positions - (Ranges(((1, self.stored.last),)) if self.stored else EMPTY) - self.refused


def ledger_drops_nothing(self: Ledger, batch: Batch) -> Ranges:
    return batch.row_positions


def gap_beats_row(self: Ledger, batch: Batch) -> Ranges:
    return batch.row_positions - self.stored - self.refused - self.gaps


def gap_stays(self: Ledger, batch: Batch, stored: Ranges, refused: Ranges = EMPTY) -> Ledger:
    return replace(REAL_APPLY(self, batch, stored, refused), gaps=self.gaps | batch.hole_positions)


def first_ledger_is_taken(bound: str, held: messages.Held) -> bool:
    return True


def log_id_by_clock(self: World, now_ms: int, newest: int) -> int:
    return now_ms << 20 | self.random.getrandbits(20)


def meta_not_anew(self: EdgeProcess) -> list[Row]:
    return []


def deletions_not_anew(self: EdgeProcess) -> list[Row]:
    return [(self.now_ms(), *row[1:]) for _, row in self.file.current_meta().values() if row[3] is not None]


def last_offset(self: Database, log: int, told: tuple[int, bool]) -> tuple[int, bool]:
    self.offsets[log] = told
    return told


def offset_guessed(self: EdgeProcess) -> None:
    for log in self.file.logs:
        if log.clock.offset_ms is None:
            self.set_offset(log.id, 0, False)


def no_fork(*arguments: Any, **known: Any) -> Fold:
    return replace(REAL_FOLD(*arguments, **known), fork=False)


def offsets_not_adopted(*arguments: Any, **known: Any) -> Fold:
    return replace(REAL_FOLD(*arguments, **known), offsets={})


def no_declared_end(self: Ledger, head: int, *, run: int, closed: bool) -> Ledger:
    return replace(self, head=max(head, self.head))


def last_declared_end(self: Ledger, head: int, *, run: int, closed: bool) -> Ledger:
    return replace(self, head=max(head, self.head), end=head if closed else self.end)


def plan_crosses_logs(
    spans: Sequence[LogSpan], waiting: Ranges, lane: Lane, rows_max: int
) -> tuple[LogSpan, tuple[int, int]] | None:
    if not waiting:
        return None
    first, last = waiting.spans[0]
    span = settlement.span_at(spans, first)
    return None if span is None else (span, (first, min(last, first + rows_max - 1)))


def ask_only_of_own_log(self: EdgeProcess) -> list[AskLog]:
    return REAL_TOLD(self)[-1:]


def never_halved(self: SendWindow, flight: Flight) -> bool:
    return False


def hole_forgotten(self: EdgeProcess, stream: str, positions: Ranges) -> None:
    for seq in positions.members():
        del self.file.rows[stream][seq]
    self.world.note_given_up(self.file, stream, positions)


def sent_before_time(self: EdgeProcess, stream: str) -> list[LogSpan]:
    return self.file.spans(stream)


def prune_unsettled(self: EdgeProcess, stream: str, count: int) -> None:
    for seq in sorted(self.file.rows[stream])[:count]:
        del self.file.rows[stream][seq]
    self.card.commit()


def meta_by_seq(log: int, seq: int) -> tuple[int, int]:
    return seq, log


def last_arrival_is_current(self: Database) -> dict[tuple[str, ...], DayRank]:
    return {key[:3]: rank for key, rank in self.days.items()}


MUTANTS: Final[tuple[tuple[object, str, Any], ...]] = (
    (settlement, "settle", settle_by_gap),
    (settlement, "settle", never_unsettle),
    (settlement, "settle", no_pruned_hole),
    (settlement, "heeds", first_ledger_is_taken),
    (settlement, "fold", no_fork),
    (settlement, "fold", offsets_not_adopted),
    (planner, "plan", plan_crosses_logs),
    (Ledger, "fresh", ledger_by_head),
    (Ledger, "fresh", ledger_drops_nothing),
    (Ledger, "fresh", gap_beats_row),
    (Ledger, "apply", gap_stays),
    (Ledger, "heard", no_declared_end),
    (Ledger, "heard", last_declared_end),
    (SendWindow, "_blame", never_halved),
    (World, "new_log_id", log_id_by_clock),
    (EdgeProcess, "begin_log", no_new_log),
    (EdgeProcess, "meta_anew", meta_not_anew),
    (EdgeProcess, "meta_anew", deletions_not_anew),
    (EdgeProcess, "told_logs", ask_only_of_own_log),
    (EdgeProcess, "drop_rows", hole_forgotten),
    (EdgeProcess, "prune", prune_unsettled),
    (EdgeProcess, "sendable", sent_before_time),
    (EdgeProcess, "find_offsets", offset_guessed),
    (Database, "offset", last_offset),
    (Database, "current_days", last_arrival_is_current),
    (protocol_model, "meta_rank", meta_by_seq),
)
"""Every rule of the protocol left out or done wrong: owner, name, and what stands there instead."""

LIVES_MAX: Final = 1500


@pytest.mark.parametrize(("owner", "name", "wrong"), MUTANTS, ids=[mutant[2].__name__ for mutant in MUTANTS])
def test_a_broken_rule_is_found(
    owner: object, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that these tests can fail: a scenario, or a random life, breaks with the rule."""
    monkeypatch.setattr(owner, name, wrong)
    lives: Iterable[Callable[[], object]] = itertools.chain(
        SCENARIOS, (partial(walk, seed) for seed in range(LIVES_MAX))
    )
    for live in lives:
        try:
            live()
        except (AssertionError, messages.WireError):
            return
    pytest.fail(f"{wrong.__name__} went unnoticed in all scenarios and {LIVES_MAX} lives")
