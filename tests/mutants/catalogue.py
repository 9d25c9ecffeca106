"""The mutants, by the promise each breaks, in the protocol's order."""

from __future__ import annotations

from typing import Final

from tests.mutants import Mutant

SCENARIOS: Final = "tests/contract/test_protocol_scenarios.py"
REAL: Final = "tests/contract/test_real_machine.py"
LIVES: Final = "tests/contract/test_protocol_machine.py::test_random_lives"
PURE: Final = (f"{SCENARIOS}::test_scenario", LIVES)
INGEST: Final = "tests/integration/test_ingest.py"
POISON: Final = "tests/integration/test_ingest_poison.py"
SUMMARIES: Final = "tests/integration/test_summaries.py"
UPLINK: Final = "tests/integration/test_uplink.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    # ------------------------------------------------------------------------------------ position_unique
    Mutant(
        invariant="position_unique",
        path="edge/store/log.py",
        before="ms = max(min(now_ms, CLOCK_END_MS), (newest >> RANDOM_BITS) + 1)",
        after="ms = min(now_ms, CLOCK_END_MS)",
        tests=("tests/unit/test_store_database.py",),
    ),
    Mutant(
        invariant="position_unique",
        path="edge/store/database.py",
        before="newest = max(self._above, self.logs[-1].id if self.logs else 0)",
        after="newest = 0",
        tests=("tests/unit/test_store_database.py",),
    ),
    # --------------------------------------------------------------------------------- position_immutable
    Mutant(
        invariant="position_immutable",
        path="edge/uplink/rows.py",
        before='f" WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT {READINGS_A_READ}"',
        after='f" WHERE seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT {READINGS_A_READ}"',
        tests=(f"{REAL}::test_offline_reuse",),
    ),
    # ---------------------------------------------------------------------------------------- range_total
    Mutant(
        invariant="range_total",
        path="sync/settlement.py",
        before="cut += (Hole(first=low, last=high, reason=UNEXPLAINED, n=high - low + 1) for low, high in empty)",
        after="",
        tests=("tests/unit/test_planner.py",),
    ),
    # --------------------------------------------------------------------------- settled_implies_upstream
    Mutant(
        invariant="settled_implies_upstream",
        path="sync/planner.py",
        before="rows = (window.stored | window.refused) & inside",
        after="rows = inside",
        tests=PURE,
    ),
    # ------------------------------------------------------------------------------------- no_silent_loss
    Mutant(
        invariant="no_silent_loss",
        path="sync/planner.py",
        before="lost = inside - here - holes - any_",
        after="lost = EMPTY",
        tests=PURE,
    ),
    Mutant(
        invariant="no_silent_loss",
        path="edge/uplink/outbox.py",
        before="return self._settled.get(stream, EMPTY) if self.bound_ledger else EMPTY",
        after="return self.waiting(stream) | self.settled(stream)",
        tests=(
            f"{UPLINK}::test_unbound_it_delivers_keeps_everything_and_says_what_to_do",
            "tests/unit/test_retention.py::test_what_an_answer_unsettles_meanwhile_stays",
        ),
    ),
    # ------------------------------------------------------------------------------- one_row_per_position
    Mutant(
        invariant="one_row_per_position",
        path="sync/ledger.py",
        before="return batch.row_positions - self.stored - self.refused",
        after="return batch.row_positions",
        tests=PURE,
    ),
    # ----------------------------------------------------------------------------------------- order_free
    Mutant(
        invariant="order_free",
        path="sync/ledger.py",
        before="end, end_run = (head, run) if closed and run > self.end_run else (self.end, self.end_run)",
        after="end, end_run = (head, run) if closed else (self.end, self.end_run)",
        tests=PURE,
    ),
    Mutant(
        invariant="order_free",
        path="sync/transaction.py",
        before="WHERE (excluded.log, excluded.seq) > (m.log, m.seq)",
        after="WHERE true",
        tests=(f"{INGEST}::test_any_permutation_and_duplication_gives_equal_tables",),
    ),
    # -------------------------------------------------------------------------------------- row_beats_gap
    Mutant(
        invariant="row_beats_gap",
        path="sync/ledger.py",
        before="gaps = (self.gaps | batch.hole_positions) - now_stored - now_refused",
        after="gaps = self.gaps | batch.hole_positions",
        tests=PURE,
    ),
    # --------------------------------------------------------------------------------- ledger_equals_rows
    Mutant(
        invariant="ledger_equals_rows",
        path="sync/ingest.py",
        before="after = before.ledger.apply(batch, fresh - refused_at, refused_at)",
        after="after = before.ledger.apply(batch, fresh, refused_at)",
        tests=(f"{POISON}::test_a_bad_reading_goes_to_the_dead_letters_and_the_others_in",),
    ),
    # -------------------------------------------------------------------------------------- offline_reuse
    Mutant(
        invariant="offline_reuse",
        path="edge/store/database.py",
        before="log = self.log or await self._begin_log()",
        after="log = self.log or (self.logs[-1] if self.logs else await self._begin_log())",
        tests=("tests/unit/test_store_database.py",),
    ),
    # --------------------------------------------------------------------------------- restore_old_backup
    Mutant(
        invariant="restore_old_backup",
        path="sync/ledger.py",
        before="now_stored = self.stored | stored",
        after="now_stored = Ranges(((1, max(self.stored.last if self.stored else 1, batch.last)),))",
        tests=PURE,
    ),
    # ----------------------------------------------------------------------------------------- two_clones
    Mutant(
        invariant="two_clones",
        path="sync/settlement.py",
        before="fork=held.newest > max(known, default=0),",
        after="fork=False,",
        tests=PURE,
    ),
    Mutant(
        invariant="two_clones",
        path="edge/uplink/presence.py",
        before="self._clones = self._clones + 1 if now_s - self._clone_s < CLONE_FORGOTTEN_S else 1",
        after="self._clones = 1",
        tests=(f"{UPLINK}::test_two_daemons_of_one_name_are_told_apart",),
    ),
    Mutant(
        invariant="two_clones",
        path="edge/uplink/presence.py",
        before="return super().next_s() if clone_s is None else clone_s",
        after="return super().next_s()",
        tests=("tests/unit/test_presence.py",),
    ),
    # ----------------------------------------------------------------------------------- upstream_rewinds
    Mutant(
        invariant="upstream_rewinds",
        path="sync/planner.py",
        before="return Settlement(settled=(settled - inside) | told, lost=lost)",
        after="return Settlement(settled=settled | told, lost=lost)",
        tests=PURE,
    ),
    # -------------------------------------------------------------------------------- clone_gap_masks_row
    Mutant(
        invariant="clone_gap_masks_row",
        path="sync/planner.py",
        before="told = (here & rows) | ((inside - here) & any_)",
        after="told = any_",
        tests=PURE,
    ),
    # -------------------------------------------------------------------------------------- foreign_ledger
    Mutant(
        invariant="foreign_ledger",
        path="sync/settlement.py",
        before='return bound != "" and held.ledger == bound',
        after="return True",
        tests=PURE,
    ),
    Mutant(
        invariant="foreign_ledger",
        path="sync/settlement.py",
        before='return bound != "" and held.ledger == bound',
        after='return bound != ""',
        tests=(f"{UPLINK}::test_a_foreign_ledger_settles_nothing_and_raises_the_alarm",),
    ),
    # ------------------------------------------------------------------------------------- late_duplicate
    Mutant(
        invariant="late_duplicate",
        path="sync/ingest.py",
        before="if months & self._detached:",
        after="if not months:",
        tests=(f"{POISON}::test_a_detached_month_takes_nothing_and_a_late_duplicate_changes_nothing",),
    ),
    # ------------------------------------------------------------------------------------------ meta_race
    Mutant(
        invariant="meta_race",
        path="sync/transaction.py",
        before="WHERE (excluded.log, excluded.seq) > (m.log, m.seq)",
        after="WHERE excluded.seq > m.seq",
        tests=(f"{INGEST}::test_of_a_meta_key_the_highest_position_wins_in_every_order",),
    ),
    Mutant(
        invariant="meta_race",
        path="sync/records.py",
        before="(row[1], row[2]): (seq, row) for seq, row in sorted(zip(records.seq, records.rows, strict=True))",
        after="(row[1], row[2]): (seq, row) for seq, row in zip(records.seq[::-1], records.rows[::-1], strict=True)",
        tests=(f"{REAL}::test_meta_race",),
    ),
    # ------------------------------------------------------------------------------------ clock_step_back
    Mutant(
        invariant="clock_step_back",
        path="migrations/upstream/core/versions/0001_ledger_and_streams.py",
        before='"CREATE UNIQUE INDEX reading_key ON reading (edge, series, ts, log, seq)",',
        after='"CREATE UNIQUE INDEX reading_key ON reading (edge, series, ts)",',
        tests=(f"{INGEST}::test_two_samples_at_one_time_are_two_rows",),
    ),
    # ------------------------------------------------------------------------- no_time_changes_after_send
    Mutant(
        invariant="no_time_changes_after_send",
        path="edge/uplink/outbox.py",
        before="final = {log.id for log in logs if log.offset_ms is not None}",
        after="final = {log.id for log in logs}",
        tests=(f"{UPLINK}::test_times_of_an_untrusted_clock_are_fixed_by_the_sinks_before_they_leave",),
    ),
    Mutant(
        invariant="no_time_changes_after_send",
        path="sync/ingest.py",
        before="if tx.clock is None or tx.clock.offset_ms is None:",
        after="if tx.clock is None or tx.clock != batch.clock:",
        tests=(f"{INGEST}::test_the_first_offset_of_a_log_counts_for_ever",),
    ),
    Mutant(
        invariant="no_time_changes_after_send",
        path="sync/transaction.py",
        before="offset_ms = coalesce(l.offset_ms, excluded.offset_ms),",
        after="offset_ms = coalesce(excluded.offset_ms, l.offset_ms),",
        tests=(f"{SUMMARIES}::test_time_is_that_of_the_source_log_whose_first_offset_counts",),
    ),
    # ------------------------------------------------------------------------------------ downsample_sums
    Mutant(
        invariant="downsample_sums",
        path="edge/store/thin.py",
        before="FROM (SELECT *, sum(good) OVER (PARTITION BY source, series, run) AS total FROM counted)",
        after="FROM (SELECT *, count(*) OVER (PARTITION BY source, series, run) * good AS total FROM counted)",
        tests=("tests/contract/test_downsample_sums.py",),
    ),
    Mutant(
        invariant="downsample_sums",
        path="edge/store/thin.py",
        before="min(CASE WHEN good THEN value END) AS low, avg(CASE WHEN good THEN value END) AS mean,",
        after="min(CASE WHEN good THEN value END) AS low, avg(value) AS mean,",
        tests=("tests/contract/test_downsample_sums.py",),
    ),
    # -------------------------------------------------------------------------------- channel_day_current
    Mutant(
        invariant="channel_day_current",
        path="sync/rank.py",
        before='return stamp.ljust(14, "0") if stamp else ""',
        after='return stamp or ""',
        tests=("tests/unit/test_rank.py",),
    ),
    # --------------------------------------------------------------------------------------------- poison
    Mutant(
        invariant="poison",
        path="sync/postgres.py",
        before="return error.sqlstate == CHECK_VIOLATION and not error.diag.constraint_name",
        after="return False",
        tests=(f"{POISON}::test_a_month_dropped_behind_the_sinks_back_is_made_again",),
    ),
    Mutant(
        invariant="poison",
        path="sync/transaction.py",
        before="half = len(part) // 2",
        after="half = 0",
        tests=(f"{POISON}::test_rows_that_only_postgres_refuses_are_found_one_by_one",),
    ),
    # ------------------------------------------------------------------------------------------- oversize
    Mutant(
        invariant="oversize",
        path="sync/window.py",
        before="if flight.length > 1 and tries >= HALVE_AFTER:",
        after="if tries < 0:",
        tests=PURE,
    ),
    # --------------------------------------------------------------------------------------------- bounds
    Mutant(
        invariant="bounds",
        path="sync/planner.py",
        before="if lane is Lane.LIVE and len(waiting) < FRAGMENTS_MAX:",
        after="if lane is Lane.LIVE:",
        tests=("tests/contract/test_protocol_bounds.py::test_bounds_of_the_planner_over_a_flapping_month",),
    ),
    Mutant(
        invariant="bounds",
        path="sync/window.py",
        before="while len(self.troubles) >= TROUBLES_MAX:",
        after="while len(self.troubles) >= 2 * TROUBLES_MAX:",
        tests=("tests/unit/test_window.py::test_troubles_are_bounded",),
    ),
    # ------------------------------------------------------------------------------------------- liveness
    Mutant(
        invariant="liveness",
        path="sync/window.py",
        before="self.flights = [flight for flight in self.flights if flight.due_s > now]",
        after="self.flights = list(self.flights)",
        tests=PURE,
    ),
    Mutant(
        invariant="liveness",
        path="edge/uplink/presence.py",
        before='elif said.get("status") == "offline":',
        after='elif said.get("status") == "away":',
        tests=(f"{UPLINK}::test_a_birth_is_repeated_when_a_late_will_lands_after_it",),
    ),
)
