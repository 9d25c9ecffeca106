"""Judges a delivery by looking at both sides itself: every committed row upstream once and equal, or in a gap.

It shares nothing with the code that delivers but the names of tables and views.  What was committed it takes from the
books (tests/campaign/books.py), which remember every file there ever was.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from tests.campaign.books import FACTS, Books, Card, Position, Row, same_body

SHOWN: Final = 3
TRUTHFUL: Final = ("downsampled", "overflow", "pruned")
"""Reasons for which a row may be a gap; the others are mistakes of ours."""
MEAN_TOLERANCE: Final = 1e-9

SERIES: Final = (
    "JOIN edge e ON e.id = r.edge JOIN series s ON s.edge = r.edge AND s.id = r.series WHERE e.name = %s"
)
READINGS: Final = f"""
    SELECT r.log, r.seq, s.name, s.unit, (extract(epoch FROM r.ts) * 1000)::int8, r.value, r.quality, r.reason,
        r.span_s FROM reading r {SERIES}
"""
SUMMARIES: Final = f"""
    SELECT r.log, r.seq, s.name, s.unit, (extract(epoch FROM r.ts) * 1000)::int8, r.source, r.first, r.last, r.n,
        r.span_s, r.good, r.min, r.mean, r.max, r.last_value, r.quality, r.reason FROM summary r {SERIES}
"""
EVENTS: Final = """
    SELECT log, seq, (extract(epoch FROM ts) * 1000)::int8, kind, subject, severity, body
    FROM event r JOIN edge e ON e.id = r.edge WHERE e.name = %s
"""
META: Final = """
    SELECT log, seq, (extract(epoch FROM ts) * 1000)::int8, kind, r.id, body
    FROM meta r JOIN edge e ON e.id = r.edge WHERE e.name = %s
"""
ROWS: Final = {"readings": READINGS, "summaries": SUMMARIES, "events": EVENTS, "meta": META}
CHANNEL_DAYS: Final = """
    SELECT r.nmi, r.suffix, to_char(r.date, 'YYYYMMDD')::int, r.hash, r.unit, r.interval_min, r."values"::text,
        r.quality::text, r.method::text, r.reason::text, r.updated, r.loaded, r.header, r.line
    FROM channel_day r JOIN edge e ON e.id = r.edge WHERE e.name = %s
"""
REGISTER_READS: Final = """
    SELECT r.nmi, r.suffix, r.register, r.to_at, r.hash, r.serial, r.direction, r.from_at, r.previous_read,
        r.current_read, r.quantity, r.unit, r.quality, r.body::text, r.updated, r.loaded, r.header, r.line
    FROM register_read r JOIN edge e ON e.id = r.edge WHERE e.name = %s
"""
FACT_ROWS: Final = {"channel_days": CHANNEL_DAYS, "register_reads": REGISTER_READS}
JSON_COLUMNS: Final = {"channel_days": (6, 7, 8, 9), "register_reads": (13,)}
GAPS: Final = "SELECT stream, log, first, last, reason FROM v1_gap WHERE edge = %s"
OFFSETS: Final = "SELECT log, offset_ms FROM log l JOIN edge e ON e.id = l.edge WHERE e.name = %s"
LEDGER: Final = """
    SELECT stream, log, kind, lower(span), upper(span) - 1
    FROM ledger d JOIN edge e ON e.id = d.edge CROSS JOIN LATERAL (
        SELECT 'stored' AS kind, unnest(d.stored) AS span UNION ALL SELECT 'refused', unnest(d.refused)
        UNION ALL SELECT 'missing', unnest(
            tidewatt_span(d.first, least(d.ended, d.head)) - d.stored - d.refused - d.gaps)
    ) kinds WHERE e.name = %s
"""


@dataclass(slots=True)
class Verdict:
    """What was found of one edge.

    late    committed here and not upstream; that may still change
    wrong   breaches that no waiting mends
    counts  what was looked at, for a line to print
    """

    late: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    gaps: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        return not (self.late or self.wrong)

    def __str__(self) -> str:
        seen = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        gaps = ", ".join(f"{n:,} {reason}" for reason, n in self.gaps.items())
        return "; ".join([seen, f"gaps: {gaps or 'none'}", *self.late, *self.wrong])


def late(books: Books, card: Card, dsn: str) -> list[str]:
    """Only whether what is on the card has arrived: cheap enough to be asked every second."""
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return _late(books, card, _Upstream(connection, books.edge, rows=False))


def judge(books: Books, cards: Sequence[Card], dsn: str, look: Callable[[], None]) -> Verdict:
    """Everything.

    cards  those that still exist; rows that only ever stood on others may be missing
    look   brings the books up to date; what arrives meanwhile was committed before
    """
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        upstream = _Upstream(connection, books.edge, rows=True)
    look()
    verdict = Verdict(wrong=list(books.breaches[:SHOWN]), gaps=upstream.reasons)
    alive: set[Position] = set()
    for card in cards:
        verdict.late += _late(books, card, upstream)
        alive |= set(card.rows)
        verdict.wrong += _offsets(card, upstream)
    verdict.counts = {
        "on cards that are left": len(alive),
        "on any card": len(books.content),
        **{f"{stream} upstream": len(rows) for stream, rows in (upstream.rows | upstream.facts).items()},
    }
    verdict.wrong += _rows(books, upstream)
    verdict.wrong += _facts(books, upstream)
    verdict.wrong += _doubled(upstream)
    verdict.wrong += _ledger(upstream)
    verdict.wrong += _missing(books, alive, upstream)
    verdict.wrong += _meta(books, alive, upstream)
    verdict.wrong += _sums(books, upstream)
    verdict.wrong += _unnamed(books, alive, upstream)
    return verdict


class _Upstream:
    """What stands in Postgres of one edge."""

    def __init__(self, connection: psycopg.Connection, edge: str, *, rows: bool) -> None:
        def ask(query: str) -> Iterator[tuple[Any, ...]]:
            yield from connection.execute(query.encode(), (edge,))

        self.spans: dict[str, dict[tuple[str, int], list[tuple[int, int]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for stream, log, kind, first, last in ask(LEDGER):
            self.spans[kind][stream, log].append((first, last))
        self.reasons: Counter[str] = Counter()
        self.untrue: list[tuple[Any, ...]] = []
        for stream, log, first, last, reason in ask(GAPS):
            self.spans["gap"][stream, log].append((first, last))
            self.reasons[reason] += last - first + 1
            self.spans[reason][stream, log].append((first, last))
            if reason not in TRUTHFUL:
                self.untrue.append((stream, log, first, last, reason))
        for found in self.spans.values():
            for spans in found.values():
                spans.sort()
        self.offsets = dict(ask(OFFSETS))
        self.rows: dict[str, dict[Position, Row]] = {}
        self.facts: dict[str, dict[Row, Row]] = {}
        self.twice: list[Position] = []
        for stream, query in ROWS.items() if rows else ():
            self._take(stream, ask(query))
        for stream, query in FACT_ROWS.items() if rows else ():
            self.facts[stream] = {key_of(stream, row): said(stream, row) for row in ask(query)}

    def _take(self, stream: str, rows: Iterable[tuple[Any, ...]]) -> None:
        there = self.rows[stream] = {}
        for log, seq, *content in rows:
            position = (stream, log, seq)
            if position in there:
                self.twice.append(position)
            there[position] = tuple(content)

    def has(self, kind: str, position: Position) -> bool:
        """Whether the ledger says so of a position; kind "gap", "stored", "refused" or "missing"."""
        stream, log, seq = position
        spans = self.spans[kind].get((stream, log))
        if not spans:
            return False
        at = bisect_right(spans, (seq, 1 << 63)) - 1
        return at >= 0 and spans[at][0] <= seq <= spans[at][1]


def _late(books: Books, card: Card, upstream: _Upstream) -> list[str]:
    """Rows of a card that are neither stored nor a gap; refused ones and untruthful gaps are told as well."""
    absent = [
        p for p in {*card.rows, *card.holes} if not upstream.has("stored", p) and not upstream.has("gap", p)
    ]
    refused = [p for p in absent if upstream.has("refused", p)]
    found = _told("committed and refused", books.edge, refused)
    found += _told("committed and not upstream", books.edge, sorted(set(absent) - set(refused)))
    found += _told("a gap by mistake", books.edge, upstream.untrue)
    return found


def _rows(books: Books, upstream: _Upstream) -> list[str]:
    """Each row upstream was committed once, and says the same."""
    ghosts, other, timeless = [], [], []
    for stream, rows in upstream.rows.items():
        for position, there in rows.items():
            here = books.content.get(position)
            offset_ms = upstream.offsets.get(there[3] if stream == "summaries" else position[1])
            if here is None:
                ghosts.append(position)
            elif offset_ms is None:
                timeless.append(position)
            elif not _equal(stream, here, there, offset_ms):
                other.append((position, here, there, offset_ms))
    return (
        _told("upstream and never committed", books.edge, ghosts)
        + _told("upstream with another content", books.edge, other)
        + _told("upstream without a clock", books.edge, timeless)
    )


def key_of(stream: str, row: Row) -> Row:
    """What upstream knows a row of a meter file by."""
    return row[: FACTS[stream]]


def said(stream: str, row: Row) -> Row:
    """A row of a meter file with its JSON read, every digit kept; text that is none stands for itself."""

    def read(value: Any) -> Any:
        if not isinstance(value, str) or value[:1] not in '["{':
            return value
        return json.loads(value, parse_float=str, parse_int=str)

    return tuple(read(value) if at in JSON_COLUMNS[stream] else value for at, value in enumerate(row))


def _facts(books: Books, upstream: _Upstream) -> list[str]:
    """What meter files say: upstream once, whatever positions it had, with every digit; and never given up."""
    found = []
    for stream, there in upstream.facts.items():
        here: dict[Row, Row] = {}
        absent, two, given_up = [], [], []
        for position, row in books.content.items():
            if position[0] != stream:
                continue
            key, content = key_of(stream, row), said(stream, row)
            if here.setdefault(key, content) != content:
                two.append((position, content))
            if key not in there and upstream.has("stored", position):
                absent.append(position)
            if upstream.has("gap", position):
                given_up.append(position)
        ghosts = [key for key in there if key not in here]
        other = [(here[key], row) for key, row in there.items() if key in here and here[key] != row]
        found += _told("of one hash, with two contents", books.edge, two)
        found += _told("stored says the ledger, and the table lacks it", books.edge, absent)
        found += _told("of a meter file, and given up", books.edge, given_up)
        found += _told("upstream and never committed", books.edge, ghosts)
        found += _told("upstream with another content", books.edge, other)
    return found


def _equal(stream: str, here: Row, there: Row, offset_ms: int) -> bool:
    if stream in ("readings", "summaries"):
        return (*here[:2], here[2] + offset_ms, *here[3:]) == there
    if stream == "events":
        return (here[0] + offset_ms, *here[1:4]) == there[:4] and same_body(here[4], there[4])
    return (here[0] + offset_ms, *here[1:3]) == there[:3] and same_body(here[3], there[3])


def _doubled(upstream: _Upstream) -> list[str]:
    return _told("upstream twice", "", upstream.twice)


def _offsets(card: Card, upstream: _Upstream) -> list[str]:
    """The edge has the offsets that upstream applied, so that its own charts show the same times."""
    other = [
        (log, here, there)
        for log, here in card.logs.items()
        if here is not None and (there := upstream.offsets.get(log)) is not None and here != there
    ]
    return _told("a log with two offsets", "", other)


def _ledger(upstream: _Upstream) -> list[str]:
    """`stored` is exactly what stands in the tables; meta keeps only the newest of a key."""
    found = []
    for stream, rows in upstream.rows.items():
        if stream == "meta":
            continue
        absent = [
            (stream, log, seq)
            for (of, log), spans in upstream.spans["stored"].items()
            if of == stream
            for first, last in spans
            for seq in range(first, last + 1)
            if (stream, log, seq) not in rows
        ]
        found += _told("stored says the ledger, and the table lacks it", "", absent)
        extra = [position for position in rows if not upstream.has("stored", position)]
        found += _told("in the table, and the ledger does not know it", "", extra)
    return found


def _missing(books: Books, alive: set[Position], upstream: _Upstream) -> list[str]:
    """What upstream misses it misses rightly: it was committed, on a card that is gone."""
    never, here = [], []
    for (stream, log), spans in upstream.spans["missing"].items():
        for first, last in spans:
            for seq in range(first, last + 1):
                position = (stream, log, seq)
                if position not in books.content and position not in books.holes:
                    never.append(position)
                elif position in alive:
                    here.append(position)
    return _told("missing upstream and never committed", books.edge, never) + _told(
        "missing upstream and here", books.edge, here
    )


def _meta(books: Books, alive: set[Position], upstream: _Upstream) -> list[str]:
    """Of each key the row with the greatest position that is on a card, or a greater one of a card that is gone."""
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for position in alive:
        if position[0] == "meta":
            _, kind, name, _ = books.content[position]
            newest[kind, name] = max(position[1:], newest.get((kind, name), (0, 0)))
    there = {row[1:3]: position[1:] for position, row in upstream.rows["meta"].items()}
    old = [(key, at, there.get(key)) for key, at in newest.items() if there.get(key, (0, 0)) < at]
    return _told("meta that is not the newest", books.edge, old)


def _sums(books: Books, upstream: _Upstream) -> list[str]:
    """A summary says of its series' rows among the positions that it names what these said themselves."""
    of_series: dict[tuple[int, str, str], list[tuple[int, Row]]] = defaultdict(list)
    if upstream.rows["summaries"]:
        for (stream, log, seq), row in books.content.items():
            if stream == "readings":
                of_series[log, row[0], row[1]].append((seq, row))
        for rows in of_series.values():
            rows.sort()
    other = []
    for position, told in upstream.rows["summaries"].items():
        name, unit, _, source, first, last = told[:6]
        rows = of_series.get((source, name, unit), [])
        begin, end = (
            bisect_left(rows, first, key=lambda row: row[0]),
            bisect_right(rows, last, key=lambda row: row[0]),
        )
        offset_ms = upstream.offsets.get(source) or 0
        if not _sums_up(told, [row for _, row in rows[begin:end]], offset_ms):
            other.append((position, told))
    return _told("a summary that does not sum up", books.edge, other)


def _unnamed(books: Books, alive: set[Position], upstream: _Upstream) -> list[str]:
    """A reading that was downsampled lives on in a summary of its series; after `overflow` nobody can say."""
    named: dict[tuple[int, str, str], list[tuple[int, int]]] = defaultdict(list)
    for told in upstream.rows["summaries"].values():
        named[told[3], told[0], told[1]].append((told[4], told[5]))
    if upstream.reasons["overflow"] or upstream.reasons["pruned"]:
        return []
    lost = []
    for position in alive:
        if position[0] != "readings" or not upstream.has("downsampled", position):
            continue
        name, unit = books.content[position][:2]
        spans = named[position[1], name, unit]
        if not any(first <= position[2] <= last for first, last in spans):
            lost.append(position)
    return _told("downsampled, and no summary names it", books.edge, lost)


def _sums_up(told: Row, rows: Iterable[Row], offset_ms: int) -> bool:
    _, _, ts_ms, _, _, _, n, span_s, good, low, mean, high, last_value, quality, _ = told
    begin_ms = ts_ms - offset_ms
    inside = [row for row in rows if span_s == 0 or begin_ms <= row[2] < begin_ms + span_s * 1000]
    if span_s == 0:
        return len(inside) == n == 1 and inside[0][2:5] == (begin_ms, mean, quality)
    values = [row[3] for row in inside if row[3] is not None and row[4] != 2]
    if len(inside) != n or len(values) != good:
        return False
    if not values:
        return (low, mean, high, last_value) == (None,) * 4
    close = math.isclose(mean, math.fsum(values) / good, rel_tol=MEAN_TOLERANCE, abs_tol=MEAN_TOLERANCE)
    return close and (low, high, last_value) == (min(values), max(values), values[-1])


def _told(what: str, edge: str, found: Sequence[Any]) -> list[str]:
    """One line, with how many there are and the first few."""
    if not found:
        return []
    return [f"{edge} {what}: {len(found):,}, {', '.join(map(str, found[:SHOWN]))}".strip()]


def counts(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """For a JSON report."""
    return {edge: {**verdict.counts, "gaps": dict(verdict.gaps)} for edge, verdict in verdicts.items()}
