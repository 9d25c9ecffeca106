"""Tables of module meters, in the edge's main SQLite file.  Times are UTC milliseconds as written; ids are local.

A file's rows are staged in short transactions and count for nothing until one transaction completes the file and puts
a row of the stream `channel_days` (or `register_reads`) behind each of them: visible is what a stream row names.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text, UniqueConstraint

metadata: Final = MetaData()

#: The ledger: a file is its content.  `state` is pending, processing, completed or failed; `channels`, `days`, `reads`,
#: `value_count` and `problem_count` are what the file holds, whether it was known already or not; `bytes` is about
#: what its rows take here; `archive` is the name of the compressed original in the archive folder.
meter_file: Final = Table(
    "meter_file",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("received_ms", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("ended_ms", Integer),
    Column("channels", Integer, nullable=False),
    Column("days", Integer, nullable=False),
    Column("reads", Integer, nullable=False),
    Column("value_count", Integer, nullable=False),
    Column("problem_count", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("error", Text),
    Column("archive", Text),
)

#: The first problems of a file, in their order; how many there were in all stands in the ledger.
file_problem: Final = Table(
    "file_problem",
    metadata,
    Column("file", Integer, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("member", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_with_rowid=False,
)

#: `newest` orders what is said of the channel besides its days: the greatest that was ever imported counts, whatever
#: came last.
channel: Final = Table(
    "channel",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("nmi", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("newest", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("interval_min", Integer, nullable=False),
    Column("register", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("serial", Text, nullable=False),
    UniqueConstraint("nmi", "suffix", name="channel_key"),
)

#: One version of a channel-day; `values` is JSON text with the file's own digits.
day: Final = Table(
    "day",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("file", Integer, nullable=False),
    Column("channel", Integer, nullable=False),
    Column("date", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("interval_min", Integer, nullable=False),
    Column("values", Text, nullable=False),
    Column("quality", Text, nullable=False),
    Column("method", Text),
    Column("reason", Text),
    Column("updated", Text, nullable=False),
    Column("loaded", Text, nullable=False),
    Column("header", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Index("day_key", "channel", "date", "hash", unique=True),
)

#: The stream `channel_days`.
channel_day: Final = Table(
    "channel_day",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("day", Integer, nullable=False),
    sqlite_autoincrement=True,
)

#: One accumulated read of a NEM13 file.
read: Final = Table(
    "read",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("file", Integer, nullable=False),
    Column("nmi", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("register", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("from_at", Text, nullable=False),
    Column("to_at", Text, nullable=False),
    Column("previous_read", Text, nullable=False),
    Column("current_read", Text, nullable=False),
    Column("quantity", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("quality", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("updated", Text, nullable=False),
    Column("loaded", Text, nullable=False),
    Column("header", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Index("read_key", "nmi", "suffix", "register", "to_at", "hash", unique=True),
)

#: The stream `register_reads`.
register_read: Final = Table(
    "register_read",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("read", Integer, nullable=False),
    sqlite_autoincrement=True,
)
