"""The world of the delivery protocol: what may go wrong in it, and the books that no part of the system keeps.

`World` knows what was ever committed and what was ever upstream, does every deed there is (`DEEDS`), and looks after
each step, and when all is quiet, whether the promises hold.  `walk(seed)` is a random life in it.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final

from sync import wire
from sync.ledger import Ledger
from sync.messages import CHANNEL_DAYS, EVENTS, META, READINGS, STREAMS, Batch, Held
from sync.planner import Lane
from sync.ranges import EMPTY, Ranges
from sync.rank import DayRank
from sync.window import HOLD_S
from tests.contract.protocol_model import (
    FORK_INTERVAL_S,
    POISON,
    Card,
    Database,
    EdgeFile,
    EdgeProcess,
    FileLog,
    Network,
    Row,
    hold_true,
    rank_of,
    unpack_rows,
)

BASE_MS: Final = 1_780_000_000_000
RANDOM_BITS: Final = 20
PROCESSES_MAX: Final = 3
SKEWS_MS: Final = (0, 0, -30_000, -3_600_000, 86_400_000)
"""How far a clock may stand from the true time after a restart."""
STEPS_S: Final = (-30, -3600, 30, 7200)
PAUSES_S: Final = (1, 5, 15, 60, 400, 4000)
GARBAGE: Final = (
    b"",
    b"{}",
    b"\x78\x9c",
    b"\x00\xff",
    b'{"v":1}',
    b'{"v":2}',
    b"[" * 5000,
    b'{"v":1,"log":NaN}',
)
ROUNDS_MAX: Final = 400
"""Exchanges within which everything has to be upstream after the last fault."""


class World:
    """All of it, and what may go wrong.  Every deed takes small numbers and is possible at any time."""

    def __init__(self, *, seed: int = 0, bytes_max: int = 1 << 30, bound: bool = True) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.network = Network(bytes_max=bytes_max)
        self.upstream = Database("tw1-ours")
        self.foreign = Database("tw1-foreign")
        self.upstream_backup = copy.deepcopy(self.upstream)
        self.boots = 0
        self.serial = 0
        self.alarms: list[tuple[int, str]] = []
        self.rewound = False
        self.cloned = False
        self.redriven = False
        self.set_aside = 0
        self.untrusted: set[int] = set()
        self.history: list[tuple[str, bytes]] = []
        self.committed: dict[tuple[int, str, int], tuple[Row, int]] = {}
        self.ever: dict[tuple[int, str], Ranges] = {}
        self.given_up: dict[tuple[int, str], Ranges] = {}
        self.card_backup = EdgeFile(bound=self.upstream.ledger_id if bound else "")
        self.edges = [self.boot(Card(self.card_backup.copy()))]

    # ---------------------------------------------------------------------------------------- books

    def true_ms(self) -> int:
        return BASE_MS + round(self.now_s * 1000)

    def new_log_id(self, now_ms: int, newest: int) -> int:
        return max(now_ms, (newest >> RANDOM_BITS) + 1) << RANDOM_BITS | self.random.getrandbits(RANDOM_BITS)

    def boot(self, card: Card, *, skew_ms: int = 0, trusted: bool = True) -> EdgeProcess:
        """Start a daemon; an untrusted clock is never right by chance."""
        self.boots += 1
        if not trusted and not skew_ms:
            skew_ms = -7_777_000 * self.boots
        return EdgeProcess(self, card, boot=self.boots, skew_ms=skew_ms, trusted=trusted)

    def note_commit(self, log: FileLog, stream: str, seq: int, row: Row) -> None:
        key = (log.id, stream, seq)
        hold_true(key not in self.committed, "position_unique", key, "was given out twice")
        self.committed[key] = (row, self.true_ms())
        if log.clock.state == "unknown":
            self.untrusted.add(log.id)

    def note_sent(self, batch: Batch) -> None:
        """What goes over the wire is what was committed there, however often it goes."""
        back = wire.decode_batch(wire.encode_batch(batch), batch.stream)
        for seq, row in unpack_rows(back):
            key = (batch.log, batch.stream, seq)
            hold_true(
                key in self.committed and self.committed[key][0] == row,
                "position_immutable", key, 'went as', row, ', is', self.committed.get(key),
            )  # fmt: skip
        hold_true(
            batch.clock.offset_ms is not None, "no_time_changes_after_send", "log", batch.log, "went early"
        )

    def note_given_up(self, file: EdgeFile, stream: str, positions: Ranges) -> None:
        for span in file.spans(stream):
            key = (span.log, stream)
            self.given_up[key] = self.given_up.get(key, EMPTY) | positions.within(span.begin, span.end)

    def edge(self, which: int) -> EdgeProcess:
        return self.edges[which % len(self.edges)]

    # --------------------------------------------------------------------------------------- writing

    def sample(self, which: int, count: int, kind: int) -> None:
        edge = self.edge(which)
        edge.commit(*[(READINGS, self.reading(edge, (kind + at) % 7)) for at in range(count + 1)])

    def reading(self, edge: EdgeProcess, kind: int) -> Row:
        self.serial += 1
        odd = {4: (1, "stale", 0), 5: (2, "é°", 300), 6: (1, POISON, 0)}.get(kind, (0, "", 0))
        value = None if kind == 4 else self.serial / 1000
        return (f"tank.p{kind % 3}", "°C", edge.now_ms(), value, *odd, "")

    def event(self, which: int) -> None:
        self.serial += 1
        edge = self.edge(which)
        edge.commit((EVENTS, (edge.now_ms(), "note", "x" * (self.serial % 3), "info", str(self.serial))))

    def change_meta(self, which: int, key: int, form: int) -> None:
        """Change, or delete, what a series is called; the same key may come twice in one transaction."""
        edge = self.edge(which)
        self.serial += 1
        body = None if form == 0 else json.dumps({"n": self.serial, "pad": "p" * (700 if form == 3 else 0)})
        if form == 3:  # large, and not to be deflated away
            body = json.dumps({"n": self.random.randbytes(1100).hex()})
        edge.commit(*[(META, (edge.now_ms(), "series", f"s{key}", body))] * (2 if form == 2 else 1))

    def import_day(self, which: int, day: int, version: int) -> None:
        stamp = f"2026010{version % 3 + 1}000000"
        row = (
            "NMI1", "E1", f"2026-01-0{day + 1}", f"h{version}", "kWh", 30, "[1.5]", "A", None, None,
            stamp if version % 2 else None, None, "202601010000", version // 3,
        )  # fmt: skip
        self.edge(which).commit((CHANNEL_DAYS, row))

    def overflow(self, which: int, count: int) -> None:
        self.edge(which).overflow(READINGS if count % 3 else EVENTS, count + 1)

    def prune(self, which: int, count: int) -> None:
        for stream in (READINGS, EVENTS, META):
            self.edge(which).prune(stream, count + 1)

    # ------------------------------------------------------------------------------------- conversing

    def connect(self, which: int) -> None:
        """Clones bear one client id: who comes takes the place of who was there."""
        for edge in self.edges:
            edge.disconnect()
        self.edge(which).connect()

    def disconnect(self) -> None:
        for edge in self.edges:
            edge.disconnect()

    def send(self, stream: int, lane: int) -> None:
        for edge in self.edges:
            edge.send(STREAMS[stream % len(STREAMS)], Lane.LIVE if lane else Lane.BACKLOG)

    def ask(self) -> None:
        for edge in self.edges:
            if edge.connected:
                edge.ask()

    def talk(self) -> None:
        """A while without trouble."""
        for stream in range(len(STREAMS)):
            self.send(stream, 0)
            self.send(stream, 1)
        self.exchange()

    def deliver_up(self, at: int, keep: int = 0) -> None:
        """A sink gets a message, in any order; `keep` leaves another copy on the way."""
        if self.network.up:
            at %= len(self.network.up)
            topic, payload = self.network.up[at] if keep else self.network.up.pop(at)
            self.network.answer(self.take(topic, payload))

    def take(self, topic: str, payload: bytes) -> list[Held]:
        self.history.append((topic, payload))
        held = self.upstream.take(topic, payload, self.true_ms())
        for key, ledger in self.upstream.ledgers.items():
            self.ever[key] = self.ever.get(key, EMPTY) | ledger.stored | ledger.refused | ledger.gaps
        return held

    def deliver_foreign(self, at: int) -> None:
        """A test sink with a database of its own hears the production broker, and answers."""
        if self.network.up:
            topic, payload = self.network.up[at % len(self.network.up)]
            self.network.answer(self.foreign.take(topic, payload, self.true_ms()))

    def deliver_down(self, at: int, keep: int = 0) -> None:
        if self.network.down:
            at %= len(self.network.down)
            payload = self.network.down[at] if keep else self.network.down.pop(at)
            for edge in self.edges:
                edge.hear(payload)

    def drop(self, at: int, down: int) -> None:
        queue: list[Any] = self.network.down if down else self.network.up
        if queue:
            queue.pop(at % len(queue))

    def garbage(self, topic: int, what: int) -> None:
        """Somebody speaks on this edge's topics who is no edge."""
        self.network.up.append((STREAMS[topic], GARBAGE[what]))

    def replay(self, at: int) -> None:
        """A message of long ago comes once more."""
        if self.history:
            self.network.up.append(self.history[at % len(self.history)])

    def pass_time(self, pause: int) -> None:
        self.wait(PAUSES_S[pause])

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        for edge in self.edges:
            edge.tick()

    # ----------------------------------------------------------------------------------------- faults

    def kill(self, which: int, skew: int = 0, trusted: int = 1) -> None:
        """kill -9 and start again, perhaps with a clock that stands elsewhere or is not to be trusted."""
        edge = self.edge(which)
        again = self.boot(edge.card, skew_ms=SKEWS_MS[skew], trusted=trusted > 0)
        self.edges[self.edges.index(edge)] = again

    def cut(self, which: int, commits: int, skew: int = 0, trusted: int = 1) -> None:
        """The power fails, and the card gives commits back that it had confirmed."""
        self.edge(which).card.cut(commits + 1)
        self.kill(which, skew, trusted)

    def backup_edge(self, which: int) -> None:
        self.card_backup = self.edge(which).file.copy()

    def restore_edge(self, which: int, skew: int = 0) -> None:
        edge = self.edge(which)
        edge.card.file = self.card_backup.copy()
        edge.card.history = [self.card_backup.copy()]
        self.kill(which, skew)

    def clone(self, which: int) -> None:
        if len(self.edges) < PROCESSES_MAX:
            self.cloned = True
            file = self.edge(which).file
            self.edges.append(self.boot(Card(file.copy(), [file.copy()])))

    def backup_upstream(self) -> None:
        self.upstream_backup = copy.deepcopy(self.upstream)

    def restore_upstream(self) -> None:
        self.upstream = copy.deepcopy(self.upstream_backup)
        self.rewound = True

    def step_clock(self, which: int, step: int) -> None:
        """A trusted clock is set; an untrusted one runs on the monotonic clock and is not."""
        if self.edge(which).trusted:
            self.edge(which).skew_ms += STEPS_S[step] * 1000

    def trust_clock(self, which: int) -> None:
        self.edge(which).clock_trusted()

    def redrive(self) -> None:
        self.redriven = True
        self.upstream.redrive()

    def detach(self, count: int) -> None:
        self.upstream.detach(count)

    def bind(self) -> None:
        """An operator says which ledger it is."""
        for edge in self.edges:
            edge.file.bound = self.upstream.ledger_id
            edge.card.commit()

    # ----------------------------------------------------------------------------------------- checks

    def check(self) -> None:
        """After every step."""
        for (log, stream), ledger in self.upstream.ledgers.items():
            rows = ledger.stored | ledger.refused
            hold_true(not ledger.gaps & rows, "row_beats_gap", stream, "of", log, ":", ledger)
            hold_true(
                not ledger.stored & ledger.refused, "ledger_equals_rows", stream, "of", log, ":", ledger
            )
        self.check_settled()

    def check_settled(self) -> None:
        for edge in self.edges:
            for stream, settled in edge.file.settled.items():
                for span in edge.file.spans(stream):
                    unheard = settled.within(span.begin, span.end) - self.ever.get((span.log, stream), EMPTY)
                    hold_true(not unheard, "settled_implies_upstream", stream, unheard, "of", span.log)

    def check_ledger_equals_rows(self) -> None:
        upstream = self.upstream
        for stream in STREAMS:
            found = upstream.positions(stream)
            for (log, name), ledger in upstream.ledgers.items():
                if name == stream:
                    stood = Ranges((seq, seq) for seq in found.pop(log, ()))
                    hold_true(stood == ledger.stored, "ledger_equals_rows", log, stream, ":", stood, ledger)
            hold_true(not found, "ledger_equals_rows", "rows of", found, "without a ledger")

    def check_rows(self) -> None:
        """Each row upstream is the one committed there, at the time its log's offset says."""
        for key, (row, ts_ms) in self.upstream.facts.items():
            written, true_ms = self.committed[key]
            mended = tuple("mended" if part == POISON else part for part in written)
            hold_true(row in (written, mended), "one_row_per_position", key, ":", row, "is not", written)
            offset_ms, estimated = self.upstream.offsets[key[0]]
            as_written = row[2 if key[1] == READINGS else 0]
            hold_true(ts_ms == as_written + offset_ms, "no_time_changes_after_send", key, ts_ms, offset_ms)
            self.check_true_time(key[0], estimated, ts_ms - true_ms)

    def check_true_time(self, log: int, estimated: bool, error_ms: int) -> None:
        """A log begun on an untrusted clock is shifted to the true time, unless it says that it is estimated."""
        if log in self.untrusted and not estimated:
            hold_true(error_ms == 0, "no_time_changes_after_send", log, "is off by", error_ms, "ms")

    def check_quiet(self) -> None:
        """When all faults are over and everything has been said."""
        self.check()
        self.check_ledger_equals_rows()
        self.check_rows()
        for edge in self.edges:
            for stream in STREAMS:
                self.check_file(edge.file, stream)
            for log in edge.file.logs:
                told = self.upstream.offsets.get(log.id, (log.clock.offset_ms, log.clock.estimated))
                hold_true(
                    told == (log.clock.offset_ms, log.clock.estimated),
                    "no_time_changes_after_send", log, ':', told,
                )  # fmt: skip
        self.check_meta()
        self.check_days()
        if not self.rewound and not self.redriven:
            self.check_order_free()

    def check_file(self, file: EdgeFile, stream: str) -> None:
        for span in file.spans(stream):
            ledger = self.upstream.ledgers.get((span.log, stream), Ledger())
            inside = Ranges(((span.begin, span.end),)) if span.begin <= span.end else EMPTY
            rows = ledger.stored | ledger.refused
            name = f"{stream} of {span.log}"
            lost = (file.present(stream) & inside) - rows
            hold_true(not lost, "no_silent_loss", name, ":", lost, "is here and not upstream")
            open_ = inside - rows - ledger.gaps
            hold_true(not open_, "liveness", name, ":", open_, "is neither upstream nor given up")
            missing = ledger.missing(span.begin)
            hold_true(not missing, "liveness", name, ":", missing, "counts as missing")
            if not self.rewound:
                unlawful = (ledger.gaps & inside) - self.given_up.get((span.log, stream), EMPTY)
                hold_true(not unlawful, "no_silent_loss", name, ":", unlawful, "is a gap without a cause")
            unsettled = inside - file.settled[stream]
            hold_true(not unsettled, "liveness", name, ":", unsettled, "is not settled")

    def check_meta(self) -> None:
        """The file with the greatest log is the truth about the site."""
        authority = max((edge.file for edge in self.edges if edge.file.logs), key=lambda f: f.logs[-1].id)
        for key, (seq, row) in authority.current_meta().items():
            told = self.upstream.meta.get(key, ((0, 0), "never told"))[1]
            hold_true(
                told == row[3],
                "meta_race",
                key,
                "is",
                row,
                "at",
                seq,
                ", upstream",
                self.upstream.meta.get(key),
            )

    def check_days(self) -> None:
        ranks: dict[tuple[str, ...], DayRank] = {}
        for edge in self.edges:
            for row in edge.file.rows[CHANNEL_DAYS].values():
                ranks[row[:3]] = max(rank_of(row), ranks.get(row[:3], rank_of(row)))
        current = self.upstream.current_days()
        for key, rank in ranks.items():
            hold_true(current.get(key, rank) >= rank, "channel_day_current", key, rank, current)
            if len(self.edges) == 1 and not self.cloned and not self.upstream.dead:
                hold_true(key in current, "channel_day_current", key, "is not upstream")

    def check_order_free(self) -> None:
        """The same messages in another order, some twice, make the same tables and the same ledger."""
        messages = [*self.history, *self.random.sample(self.history, len(self.history) // 3)]
        self.random.shuffle(messages)
        other = Database(self.upstream.ledger_id)
        for topic, payload in messages:
            other.take(topic, payload, 0)
        ours = self.upstream
        rows = {key: row for key, (row, _) in other.facts.items() if key not in ours.detached}
        hold_true(rows == {key: row for key, (row, _) in ours.facts.items()}, "order_free", "facts differ")
        hold_true(other.meta == ours.meta, "order_free", other.meta, ours.meta)
        hold_true(other.days == ours.days, "order_free", other.days, ours.days)
        hold_true(other.ledgers == ours.ledgers, "order_free", other.ledgers, ours.ledgers)

    # -------------------------------------------------------------------------------------- quiescence

    def settle_down(self) -> None:
        """Faults stop: every file connects in turn until nothing waits, within ROUNDS_MAX exchanges."""
        self.bind()
        self.network.up.clear()
        self.network.down.clear()
        rounds = 0
        # Twice, so that a file also learns what the others said after it; a fork may have to wait an hour.
        for _ in range(2):
            self.wait(FORK_INTERVAL_S + 1)
            for which, edge in enumerate(self.edges):
                edge.clock_trusted()
                self.connect(which)
                self.exchange()
                while any(edge.waiting(stream) for stream in STREAMS):
                    rounds += 1
                    hold_true(rounds < ROUNDS_MAX, "liveness", self.waiting_of(edge), "still waits")
                    for stream in (META, EVENTS, READINGS, CHANNEL_DAYS):
                        while edge.send(stream, Lane.LIVE if rounds % 2 else Lane.BACKLOG):
                            pass
                    self.exchange()
                    self.wait(self.patience_s(edge))
        self.check_quiet()

    def exchange(self) -> None:
        """Deliver all there is."""
        while self.network.up or self.network.down:
            self.now_s += 0.01
            self.deliver_up(0)
            self.deliver_down(0)

    def patience_s(self, edge: EdgeProcess) -> float:
        due_s = edge.window.next_due_s()
        if due_s is not None:
            return max(0.0, due_s - self.now_s)
        return HOLD_S if edge.window.held_until_s else 1.0

    def waiting_of(self, edge: EdgeProcess) -> str:
        return repr({stream: edge.waiting(stream) for stream in STREAMS})


DEEDS: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "sample": (6, {"which": 3, "count": 6, "kind": 7}),
    "event": (2, {"which": 3}),
    "change_meta": (3, {"which": 3, "key": 3, "form": 4}),
    "import_day": (2, {"which": 3, "day": 3, "version": 7}),
    "overflow": (2, {"which": 3, "count": 6}),
    "prune": (2, {"which": 3, "count": 8}),
    "connect": (3, {"which": 3}),
    "disconnect": (1, {}),
    "send": (8, {"stream": 4, "lane": 2}),
    "ask": (1, {}),
    "talk": (2, {}),
    "deliver_up": (10, {"at": 9, "keep": 2}),
    "deliver_down": (10, {"at": 9, "keep": 2}),
    "deliver_foreign": (1, {"at": 9}),
    "drop": (2, {"at": 9, "down": 2}),
    "garbage": (1, {"topic": len(STREAMS), "what": len(GARBAGE)}),
    "replay": (1, {"at": 99}),
    "pass_time": (3, {"pause": len(PAUSES_S)}),
    "kill": (1, {"which": 3, "skew": len(SKEWS_MS), "trusted": 3}),
    "cut": (2, {"which": 3, "commits": 5, "skew": len(SKEWS_MS), "trusted": 3}),
    "backup_edge": (1, {"which": 3}),
    "restore_edge": (1, {"which": 3, "skew": len(SKEWS_MS)}),
    "clone": (1, {"which": 3}),
    "backup_upstream": (1, {}),
    "restore_upstream": (1, {}),
    "step_clock": (1, {"which": 3, "step": len(STEPS_S)}),
    "trust_clock": (1, {"which": 3}),
    "redrive": (1, {}),
    "detach": (1, {"count": 5}),
    "bind": (1, {}),
}
"""What may happen: a method of World -> how often, and its arguments, each a number below a bound."""

STEPS_MAX: Final = 80
BROKER_BYTES: Final = (1 << 30, 1 << 30, 1200)


def walk(seed: int) -> World:
    """A random life of one site, then peace; raises Violation.  The same seed makes the same life."""
    rng = random.Random(seed)
    world = World(seed=seed, bytes_max=rng.choice(BROKER_BYTES), bound=rng.random() < 0.8)
    # A life that lacks some deeds altogether goes deeper into the others.
    deeds = [name for name, (weight, _) in DEEDS.items() if rng.random() < 0.8 for _ in range(weight)]
    for _ in range(STEPS_MAX if deeds else 0):
        name = rng.choice(deeds)
        getattr(world, name)(**{argument: rng.randrange(end) for argument, end in DEEDS[name][1].items()})
        world.check()
    world.settle_down()
    return world
