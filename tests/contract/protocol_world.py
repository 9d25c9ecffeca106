"""The world of the delivery protocol: two sites, a network, sinks over a database, and what may go wrong with them.

`World` does every deed there is and keeps the books that no part of the system keeps; whether the promises hold is
looked at in protocol_checks.py after each step, and when all is quiet; random lives are made in protocol_deeds.py.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from sync.messages import CHANNEL_DAYS, EVENTS, META, READINGS, STREAMS, SUMMARIES, Batch
from sync.planner import Lane
from sync.ranges import EMPTY, Ranges
from sync.window import HOLD_S
from tests.contract import protocol_checks
from tests.contract.protocol_checks import Seen
from tests.contract.protocol_edge import FORK_INTERVAL_S, EdgeProcess
from tests.contract.protocol_file import Card, EdgeFile, FileLog
from tests.contract.protocol_link import Network, Upward
from tests.contract.protocol_rows import POISON, Row, hold_true
from tests.contract.protocol_upstream import SINKS, Upstream, is_of_later_version
from tests.contract.protocol_versions import NEXT

SITES: Final = ("reef-1", "reef-2")
BASE_MS: Final = 1_780_000_000_000
RANDOM_BITS: Final = 20
PROCESSES_MAX: Final = 4
"""Daemons at a time: one a site, and clones."""
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


@dataclass(slots=True)
class Books:
    """What ever happened at one site.

    committed  position -> its row, and when it truly was
    known      by log and stream: what upstream ever held of it
    given_up   positions of which a file said that they will not come
    dropped    (log, series, unit) -> readings that were dropped, by themselves or in a summary
    messages   that a sink understood and committed
    one_life   no file was ever copied, put back or cut, and upstream never went back
    """

    committed: dict[tuple[int, str, int], tuple[Row, int]] = field(default_factory=dict)
    known: dict[tuple[int, str], Ranges] = field(default_factory=dict)
    given_up: dict[tuple[int, str], Ranges] = field(default_factory=dict)
    dropped: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    untrusted: set[int] = field(default_factory=set)
    one_life: bool = True


class World:
    """All of it, and what may go wrong.  Every deed takes small numbers and is possible at any time."""

    def __init__(
        self, *, seed: int = 0, bytes_max: int = 1 << 30, bound: bool = True, sites: int = len(SITES)
    ) -> None:
        self.random = random.Random(seed)
        self.log_bits = {site: random.Random(seed) for site in SITES}  # one moment, one log id: they may meet
        self.now_s = 0.0
        self.network = Network(bytes_max=bytes_max)
        self.upstream = Upstream("tw1-ours")
        self.foreign = Upstream("tw1-foreign")
        self.upstream_backup = self.upstream.snapshot()
        self.boots = 0
        self.serial = 0
        self.alarms: list[tuple[int, str]] = []
        self.rewound = False
        self.redriven = False
        self.set_aside = 0
        self.seen = Seen()
        self.books = {site: Books() for site in SITES[:sites]}
        empty = EdgeFile(bound=self.upstream.ledger_id if bound else "")
        self.card_backups = dict.fromkeys(self.books, empty)
        self.edges = [self.boot(site, Card(empty.copy())) for site in self.books]

    # ---------------------------------------------------------------------------------------- books

    def true_ms(self) -> int:
        return BASE_MS + round(self.now_s * 1000)

    def new_log_id(self, site: str, now_ms: int, newest: int) -> int:
        bits = self.log_bits[site].getrandbits(RANDOM_BITS)
        return max(now_ms, (newest >> RANDOM_BITS) + 1) << RANDOM_BITS | bits

    def boot(self, site: str, card: Card, *, skew_ms: int = 0, trusted: bool = True) -> EdgeProcess:
        """Start a daemon; an untrusted clock is never right by chance."""
        self.boots += 1
        if not trusted and not skew_ms:
            skew_ms = -7_777_000 * self.boots
        return EdgeProcess(self, card, site=site, boot=self.boots, skew_ms=skew_ms, trusted=trusted)

    def note_commit(self, site: str, log: FileLog, stream: str, seq: int, row: Row) -> None:
        books, key = self.books[site], (log.id, stream, seq)
        hold_true(key not in books.committed, "position_unique", site, key, "was given out twice")
        books.committed[key] = (row, self.true_ms())
        if log.clock.state == "unknown":
            books.untrusted.add(log.id)

    def note_sent(self, site: str, batch: Batch) -> None:
        protocol_checks.check_sent(self.books[site].committed, batch)

    def note_given_up(self, edge: EdgeProcess, stream: str, positions: Ranges) -> None:
        given_up = self.books[edge.site].given_up
        for span in edge.file.spans(stream):
            key = (span.log, stream)
            given_up[key] = given_up.get(key, EMPTY) | positions.within(span.begin, span.end)

    def note_dropped(self, edge: EdgeProcess, stream: str, positions: Ranges) -> None:
        """Rows that stand in a file are about to be dropped."""
        dropped = self.books[edge.site].dropped
        for span in edge.file.spans(stream):
            for seq in positions.within(span.begin, span.end).members():
                row = edge.file.rows[stream].get(seq)
                if row is not None and stream == READINGS:
                    dropped[span.log, row[0], row[1]] += 1
                elif row is not None and stream == SUMMARIES:
                    dropped[row[0], row[4], row[5]] += row[3]

    def edge(self, which: int) -> EdgeProcess:
        return self.edges[which % len(self.edges)]

    def check(self) -> None:
        """After every step."""
        protocol_checks.check(self)

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
        body = None if form == 0 else json.dumps({"n": self.serial})
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

    def thin(self, which: int, count: int) -> None:
        self.edge(which).thin(count + 1)

    def thin_again(self, which: int) -> None:
        self.edge(which).thin_again()

    def prune(self, which: int, count: int) -> None:
        for stream in (READINGS, SUMMARIES, EVENTS, META):
            self.edge(which).prune(stream, count + 1)

    # ------------------------------------------------------------------------------------- conversing

    def connect(self, which: int) -> None:
        """Clones bear one client id: who comes takes the place of who was there, whose will may come late."""
        edge = self.edge(which)
        for other in self.edges:
            if other.site == edge.site:
                other.disconnect()
        edge.connect()

    def disconnect(self) -> None:
        for edge in self.edges:
            edge.disconnect()

    def half_open(self, which: int, how: int) -> None:
        """A router forgets the connection: nothing passes in one direction or in both, and nobody is told."""
        link = self.edge(which).link
        if link is not None:
            link.speaks, link.hears = link.speaks and how == 1, link.hears and how == 2

    def will_lands(self, at: int) -> None:
        self.network.will_lands(at)

    def hear_status(self, which: int) -> None:
        """The next thing that the broker told an edge of its own status."""
        edge = self.edge(which)
        if edge.link is not None and edge.link.inbox:
            edge.hear_status(edge.link.inbox.pop(0))

    def send(self, stream: int, lane: int) -> None:
        for edge in self.edges:
            edge.send(STREAMS[stream % len(STREAMS)], Lane.LIVE if lane else Lane.BACKLOG)

    def turn(self, which: int) -> None:
        self.edge(which).turn()

    def ask(self) -> None:
        for edge in self.edges:
            if edge.link is not None:
                edge.ask()

    def talk(self) -> None:
        """A while without trouble."""
        for stream in range(len(STREAMS)):
            self.send(stream, 0)
            self.send(stream, 1)
        self.exchange()

    def exchange(self) -> None:
        """Deliver all there is."""
        while (
            self.network.up or self.network.down or any(edge.link and edge.link.inbox for edge in self.edges)
        ):
            self.now_s += 0.01
            self.deliver_up(0)
            self.deliver_down(0)
            for which in range(len(self.edges)):
                self.hear_status(which)

    # ------------------------------------------------------------------------------------------ sinks

    def deliver_up(self, at: int, keep: int = 0) -> None:
        """A sink gets a message, in any order, and commits and answers; `keep` leaves another copy on the way."""
        if self.network.up:
            self.finish(self.network.up[at % len(self.network.up)][0])
            sink = next((number for number in range(SINKS) if self.upstream.work[number] is None), 0)
            self.sink_commits(sink)
            self.sink_takes(sink, at, keep)
            self.sink_commits(sink)

    def sink_takes(self, sink: int, at: int, keep: int = 0) -> None:
        """A sink begins a transaction, unless another one has the edge's row."""
        if not self.network.up or self.upstream.work[sink] is not None:
            return
        at %= len(self.network.up)
        if not self.upstream.is_locked(self.network.up[at][0]):
            message = self.network.up[at] if keep else self.network.up.pop(at)
            self.upstream.begin(sink, message, self.true_ms())

    def sink_commits(self, sink: int, mute: int = 0) -> None:
        """It commits, and answers, unless it ends right after the commit (`mute`)."""
        work = self.upstream.commit(sink)
        if work is None:
            return
        site, topic, payload = work.message
        if not is_of_later_version(payload, topic, self.upstream.edition):
            self.books[site].messages.append((topic, payload))
        if not mute:
            self.network.answer(site, work.answers, self.upstream.edition)

    def sink_dies(self, sink: int) -> None:
        """Before it committed: nothing of it ever was."""
        self.upstream.work[sink] = None

    def finish(self, site: str = "") -> None:
        """Who has an edge's row commits."""
        for sink, work in enumerate(self.upstream.work):
            if work is not None and site in ("", work.message[0]):
                self.sink_commits(sink)

    def deliver_foreign(self, at: int) -> None:
        """A test sink with a database of its own hears the production broker, and answers."""
        if self.network.up:
            message = self.network.up[at % len(self.network.up)]
            self.foreign.begin(0, message, self.true_ms())
            work = self.foreign.commit(0)
            assert work is not None
            self.network.answer(message[0], work.answers, self.foreign.edition)

    def deliver_down(self, at: int, keep: int = 0) -> None:
        if self.network.down:
            at %= len(self.network.down)
            site, payload = self.network.down[at] if keep else self.network.down.pop(at)
            for edge in self.edges:
                if edge.site == site:
                    edge.hear(payload)

    def drop(self, at: int, down: int) -> None:
        queue: list[Any] = self.network.down if down else self.network.up
        if queue:
            queue.pop(at % len(queue))

    def garbage(self, which: int, topic: int, what: int) -> None:
        """Somebody speaks on an edge's topics who is no edge."""
        self.network.up.append((self.edge(which).site, STREAMS[topic], GARBAGE[what]))

    def replay(self, which: int, at: int) -> None:
        """A message of long ago comes once more."""
        site = self.edge(which).site
        if said := self.books[site].messages:
            again: Upward = (site, *said[at % len(said)])
            self.network.up.append(again)

    # ------------------------------------------------------------------------------------------ time

    def pass_time(self, pause: int) -> None:
        self.wait(PAUSES_S[pause])

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        for edge in self.edges:
            edge.tick()

    def step_clock(self, which: int, step: int) -> None:
        """A trusted clock is set; an untrusted one runs on the monotonic clock and is not."""
        if self.edge(which).trusted:
            self.edge(which).skew_ms += STEPS_S[step] * 1000

    def trust_clock(self, which: int) -> None:
        self.edge(which).clock_trusted()

    # ----------------------------------------------------------------------------------------- faults

    def kill(self, which: int, skew: int = 0, trusted: int = 1) -> None:
        """kill -9 and start again, perhaps with a clock that stands elsewhere or is not to be trusted."""
        edge = self.edge(which)
        again = self.boot(edge.site, edge.card, skew_ms=SKEWS_MS[skew], trusted=trusted > 0)
        if self.network.links.get(edge.site) is edge.link:
            self.network.close(edge.site)
        self.edges[self.edges.index(edge)] = again

    def cut(self, which: int, commits: int, skew: int = 0, trusted: int = 1) -> None:
        """The power fails, and the card gives commits back that it had confirmed."""
        self.books[self.edge(which).site].one_life = False
        self.edge(which).card.cut(commits + 1)
        self.kill(which, skew, trusted)

    def backup_edge(self, which: int) -> None:
        edge = self.edge(which)
        self.card_backups[edge.site] = edge.file.copy()

    def restore_edge(self, which: int, skew: int = 0) -> None:
        edge = self.edge(which)
        backup = self.card_backups[edge.site]
        edge.card.file = backup.copy()
        edge.card.history = [backup.copy()]
        self.books[edge.site].one_life = False
        self.kill(which, skew)

    def clone(self, which: int) -> None:
        if len(self.edges) < PROCESSES_MAX:
            edge = self.edge(which)
            self.books[edge.site].one_life = False
            card = Card(edge.file.copy(), [edge.file.copy()], edge.card.edition)
            self.edges.append(self.boot(edge.site, card))

    def backup_upstream(self) -> None:
        self.upstream_backup = self.upstream.snapshot()

    def restore_upstream(self) -> None:
        """What was being written is gone as well."""
        edition, self.upstream = self.upstream.edition, self.upstream_backup.snapshot()
        self.upstream.edition = edition
        self.seen = Seen()
        self.rewound = True

    def redrive(self) -> None:
        self.finish()
        for tables in self.upstream.sites.values():
            self.redriven |= bool(tables.dead)
            tables.redrive()

    def detach(self, count: int) -> None:
        self.finish()
        for tables in self.upstream.sites.values():
            tables.detach(count)

    def upgrade_edge(self, which: int, edition: int) -> None:
        """Another program is installed there, a later or an earlier one."""
        self.edge(which).card.edition = edition
        self.kill(which)

    def upgrade_sinks(self, edition: int) -> None:
        for sink in range(SINKS):
            self.sink_dies(sink)
        self.upstream.edition = edition

    def bind(self) -> None:
        """An operator says which ledger it is."""
        for edge in self.edges:
            edge.file.bound = self.upstream.ledger_id
            edge.card.commit()

    # -------------------------------------------------------------------------------------- quiescence

    def settle_down(self) -> None:
        """Faults stop: every file connects in turn until nothing waits, within ROUNDS_MAX exchanges."""
        self.bind()
        self.upgrade_sinks(NEXT)
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
                    self.send_all(edge, Lane.LIVE if rounds % 2 else Lane.BACKLOG)
                    self.exchange()
                    self.wait(self.patience_s(edge))
        while self.network.wills:
            self.will_lands(self.random.randrange(99))
            self.exchange()
        protocol_checks.check_quiet(self)

    def send_all(self, edge: EdgeProcess, lane: Lane) -> None:
        edge.turn()
        for stream in (META, EVENTS, SUMMARIES, READINGS, CHANNEL_DAYS):
            while edge.send(stream, lane):
                pass

    def patience_s(self, edge: EdgeProcess) -> float:
        due_s = edge.window.next_due_s()
        if due_s is not None:
            return max(0.0, due_s - self.now_s)
        return HOLD_S if edge.window.held_until_s else 1.0

    def waiting_of(self, edge: EdgeProcess) -> str:
        return repr({stream: edge.waiting(stream) for stream in STREAMS})
