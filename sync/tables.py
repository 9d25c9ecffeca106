"""Tables of modules core and meters in the upstream Postgres, as their histories in `migrations/upstream` make them.

Keys begin with the edge.  No data refers to meta by foreign key, for meta may come later, and no enumeration has a
CHECK, for edges may be newer than the sink.  Times are corrected by the log's offset.  `reading` is partitioned by
month; the function `tidewatt_month` makes the months.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

core: Final = MetaData()
meters: Final = MetaData()

_EMPTY: Final = text("'{}'::int8multirange")
_NOW: Final = text("now()")
_ZERO: Final = text("0")
_FALSE: Final = text("false")
_TIME: Final = DateTime(timezone=True)


def _edge() -> Column[int]:
    return Column("edge", Integer, primary_key=True, autoincrement=False)


def _log() -> Column[int]:
    return Column("log", BigInteger, primary_key=True, autoincrement=False)


def _stream() -> Column[str]:
    return Column("stream", Text, primary_key=True)


#: Which database this is: one row, made with the schema.
ledger_identity: Final = Table(
    "ledger_identity",
    core,
    Column("only_row", Boolean, CheckConstraint("only_row"), primary_key=True, server_default=text("true")),
    Column("id", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
    Column("made_at", _TIME, nullable=False, server_default=_NOW),
)

#: An edge; its row is the lock under which all of its data change.  `run` is the greatest that asked.
edge: Final = Table(
    "edge",
    core,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("first_seen_at", _TIME, nullable=False, server_default=_NOW),
    Column("series_given", Integer, nullable=False, server_default=_ZERO),
    Column("calibrations_given", Integer, nullable=False, server_default=_ZERO),
    Column("newest_log", BigInteger, nullable=False, server_default=_ZERO),
    Column("run", BigInteger, nullable=False, server_default=_ZERO),
    Column("asked_at", _TIME),
    Column("clone_seen_at", _TIME),
)

#: One run of one writer.  `offset_ms`: the first that was seen; `run`: the greatest that spoke of this log;
#: `twice`: rows that it wrote, or that stand for readings of it, may be told twice.
log: Final = Table(
    "log",
    core,
    _edge(),
    _log(),
    Column("clock", Text, nullable=False),
    Column("offset_ms", BigInteger),
    Column("estimated", Boolean, nullable=False, server_default=_FALSE),
    Column("closed", Boolean, nullable=False, server_default=_FALSE),
    Column("run", BigInteger, nullable=False, server_default=_ZERO),
    Column("first_heard_at", _TIME, nullable=False, server_default=_NOW),
    Column("twice", Boolean, nullable=False, server_default=_FALSE),
)

#: What is held of a log and stream (see `sync/ledger.py`).  Rows are never deleted.
ledger: Final = Table(
    "ledger",
    core,
    _edge(),
    _log(),
    _stream(),
    Column("first", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("head_at", _TIME, nullable=False, server_default=_NOW),
    Column("ended", BigInteger),
    Column("ended_run", BigInteger, nullable=False, server_default=_ZERO),
    Column("stored", INT8MULTIRANGE, nullable=False, server_default=_EMPTY),
    Column("refused", INT8MULTIRANGE, nullable=False, server_default=_EMPTY),
    Column("gaps", INT8MULTIRANGE, nullable=False, server_default=_EMPTY),
)

series: Final = Table(
    "series",
    core,
    _edge(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    UniqueConstraint("edge", "name", "unit"),
)

calibration: Final = Table(
    "calibration",
    core,
    _edge(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("edge", "name"),
)

#: The columns stand in the order that wastes no room, and a good sample has no NULL: both save bytes in every row.
reading: Final = Table(
    "reading",
    core,
    Column("ts", _TIME, nullable=False),
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("value", Double),
    Column("edge", Integer, nullable=False),
    Column("series", Integer, nullable=False),
    Column("calibration", Integer, nullable=False, server_default=_ZERO),
    Column("span_s", Integer, nullable=False, server_default=_ZERO),
    Column("quality", SmallInteger, nullable=False, server_default=_ZERO),
    Column("reason", Text, nullable=False, server_default=text("''::text")),
    Index("reading_key", "edge", "series", "ts", "log", "seq", unique=True),
    postgresql_partition_by="RANGE (ts)",
)

#: A row stands for `n` readings of a series among `first..last` of log `source`, by whose clock its time is; one of
#: span 0 is a reading carried over, which itself may stand for `interval_s` seconds.
summary: Final = Table(
    "summary",
    core,
    Column("ts", _TIME, nullable=False),
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("source", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("mean", Double),
    Column("min", Double),
    Column("max", Double),
    Column("last_value", Double),
    Column("edge", Integer, nullable=False),
    Column("series", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("good", Integer, nullable=False),
    Column("calibration", Integer, nullable=False, server_default=_ZERO),
    Column("span_s", Integer, nullable=False),
    Column("quality", SmallInteger, nullable=False, server_default=_ZERO),
    Column("reason", Text, nullable=False, server_default=text("''::text")),
    Column("interval_s", Integer, nullable=False, server_default=_ZERO),
    Index("summary_key", "edge", "series", "ts", "log", "seq", unique=True),
)

#: Positions of the readings of log `source` that summaries of log `log` name, and perhaps some between them.
thinned: Final = Table(
    "thinned",
    core,
    _edge(),
    Column("source", BigInteger, primary_key=True, autoincrement=False),
    _log(),
    Column("positions", INT8MULTIRANGE, nullable=False),
)

event: Final = Table(
    "event",
    core,
    _edge(),
    _log(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("ts", _TIME, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Index("event_time", "edge", "ts"),
    # Of module meters, whose views are made of these events.
    Index(
        "event_meter_file",
        "edge",
        "subject",
        "log",
        "seq",
        postgresql_where=text("kind IN ('file-completed', 'file-failed', 'file-problems')"),
    ),
)

#: The newest record of each key; a NULL body says that it is gone.
meta: Final = Table(
    "meta",
    core,
    _edge(),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("log", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("ts", _TIME, nullable=False),
    Column("body", JSONB),
)

#: Why positions are gaps; which of them still are, the ledger says.
gap: Final = Table(
    "gap",
    core,
    _edge(),
    _log(),
    _stream(),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ts_min", _TIME),
    Column("ts_max", _TIME),
    Column("noted_at", _TIME, nullable=False, server_default=_NOW),
)

#: Rows refused for their data, marked when they went in after all.  `payload` is JSON as text: it may be just what
#: jsonb cannot hold.
dead_letter: Final = Table(
    "dead_letter",
    core,
    _edge(),
    _log(),
    _stream(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("refused_at", _TIME, nullable=False, server_default=_NOW),
    Column("redriven_at", _TIME),
)

#: Payloads that could not be read, once each; `edge` is the name in the topic.
bad_batch: Final = Table(
    "bad_batch",
    core,
    Column("edge", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("times", Integer, nullable=False, server_default=text("1")),
    Column("first_at", _TIME, nullable=False, server_default=_NOW),
    Column("last_at", _TIME, nullable=False, server_default=_NOW),
)

#: Every version of every channel-day; which is current, `v1_channel_day` says by the order of `sync/rank.py`.
channel_day: Final = Table(
    "channel_day",
    meters,
    _edge(),
    Column("nmi", Text, primary_key=True),
    Column("suffix", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("unit", Text, nullable=False),
    Column("interval_min", Integer, nullable=False),
    Column("values", JSONB, nullable=False),
    Column("quality", JSONB),
    Column("method", JSONB),
    Column("reason", JSONB),
    Column("updated", Text, nullable=False),
    Column("loaded", Text, nullable=False),
    Column("header", Text, nullable=False),
    Column("line", Integer, nullable=False),
)

#: Every version of every register read; the times are the file's own digits.
register_read: Final = Table(
    "register_read",
    meters,
    _edge(),
    Column("nmi", Text, primary_key=True),
    Column("suffix", Text, primary_key=True),
    Column("register", Text, primary_key=True),
    Column("serial", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("from_at", Text, nullable=False),
    Column("to_at", Text, primary_key=True),
    Column("previous_read", Text, nullable=False),
    Column("current_read", Text, nullable=False),
    Column("quantity", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("quality", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("hash", Text, primary_key=True),
    Column("updated", Text, nullable=False),
    Column("loaded", Text, nullable=False),
    Column("header", Text, nullable=False),
    Column("line", Integer, nullable=False),
)
