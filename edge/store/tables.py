"""Tables of module core in the edge's SQLite.  Times are UTC milliseconds as written; ids are local.

A stream is an append-only table whose `seq` is given inside the write transaction and never reused; which log a
row belongs to follows from `log_stream`, so that no row has to repeat it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData()

#: One run of one writer.  `offset_ms` corrects all its times; NULL while it is not known.
log: Final = Table(
    "log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("opened_ms", Integer, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("monotonic_ms", Integer, nullable=False),
    Column("clock", Text, nullable=False),
    Column("offset_ms", Integer),
    Column("estimated", Integer, nullable=False),
)

#: Where a log begins in each stream; it ends where the next one begins.
log_stream: Final = Table(
    "log_stream",
    metadata,
    Column("log", Integer, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("begin", Integer, nullable=False),
)

#: The hot table: no index beside its position (an index multiplies what is written to the card by 20).
reading: Final = Table(
    "reading",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("series", Integer, nullable=False),
    Column("ts", Integer, nullable=False),
    Column("value", Float),
    Column("quality", Integer, nullable=False),
    Column("reason", Text),
    Column("span_s", Integer),
    Column("calibration", Integer),
    sqlite_autoincrement=True,
)

#: What is left of readings for which there was no room: rows of one series among the positions `first..last` of log
#: `source`, or one row carried over as it was: of span 0, of its values only the last, its own span in `interval_s`.
#: No row of the series stands in the `before` positions before `first` nor in the `after` positions after `last`: two
#: that meet so may be made one.
summary: Final = Table(
    "summary",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("source", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("before", Integer, nullable=False),
    Column("after", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("series", Integer, nullable=False),
    Column("ts", Integer, nullable=False),
    Column("span_s", Integer, nullable=False),
    Column("good", Integer, nullable=False),
    Column("min", Float),
    Column("mean", Float),
    Column("max", Float),
    Column("last_value", Float),
    Column("quality", Integer, nullable=False),
    Column("reason", Text),
    Column("calibration", Integer),
    Column("interval_s", Integer),
    sqlite_autoincrement=True,
)

event: Final = Table(
    "event",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("ts", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)

#: What the site consists of; the newest row of a key is current, a NULL body says that it is gone.
meta: Final = Table(
    "meta",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("ts", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("body", Text),
    Index("meta_key", "kind", "id", "seq"),
    sqlite_autoincrement=True,
)

#: Positions whose rows left unsettled, and why.
hole: Final = Table(
    "hole",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("ts_min", Integer),
    Column("ts_max", Integer),
)

#: Positions that the bound ledger holds.
settled: Final = Table(
    "settled",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
)

#: Rows that could not be sent, kept for a person to look at.
set_aside: Final = Table(
    "set_aside",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)

#: Which upstream database this file delivers to; the newest row counts.
binding: Final = Table(
    "binding",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("bound_ms", Integer, nullable=False),
    Column("ledger", Text, nullable=False),
    Column("who", Text, nullable=False),
)

#: A changed unit or number of decimals makes another row: what was sent keeps what it decodes to.  `kind` is the class
#: of its point (drivers.base.Kind).
series: Final = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("decimals", Integer, nullable=False),
    Column("kind", Text, nullable=False, server_default="sample"),
    UniqueConstraint("name", "unit", "decimals", name="series_key"),
)

calibration: Final = Table(
    "calibration",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
)

#: One series' hour, compressed; times in it are corrected.
block: Final = Table(
    "block",
    metadata,
    Column("series", Integer, primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("n", Integer, nullable=False),
    Column("min", Float),
    Column("max", Float),
    Column("mean", Float),
    Column("last", Float),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

#: A page of one series' minutes (span 60, an hour), quarters of an hour (900, a day) or days (86400, a year).
rollup: Final = Table(
    "rollup",
    metadata,
    Column("series", Integer, primary_key=True),
    Column("span_s", Integer, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

#: How far background work has come: `blocked` is the last position of `reading` that stands in blocks.
progress: Final = Table(
    "progress",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)
