"""The bare ways of filling the same table: one COPY, and INSERTs of many rows a statement.

The same server with the same settings, the same rows, and a table of the same columns, index and partitions.
"""

from __future__ import annotations

import time
from typing import Final

import psycopg

from tests.bench.rig import Rig
from tests.bench.site import Site

COPY_CHUNK_BYTES: Final = 256 * 1024
INSERT_ROWS: Final = 1_000
INSERTED_ROWS_MAX: Final = 200_000
COLUMNS: Final = "ts, log, seq, value, edge, series, calibration, span_s, quality, reason"


def empty_like(rig: Rig, site: Site) -> str:
    """The connection string of a database with the same schema and the same months, without rows."""
    dsn = rig.upstream()
    with psycopg.connect(site.dsn) as here, psycopg.connect(dsn) as there:
        for month in here.execute("SELECT DISTINCT date_trunc('month', ts)::date FROM reading"):
            there.execute("SELECT tidewatt_month(%s)", month)
    return dsn


def dump(site: Site) -> bytes:
    """The drained rows, as COPY takes them."""
    query = f"COPY (SELECT {COLUMNS} FROM reading ORDER BY seq) TO STDOUT (FORMAT binary)"
    with psycopg.connect(site.dsn) as here, here.cursor().copy(query) as out:
        return b"".join(out)


def copy(rig: Rig, site: Site, data: bytes) -> float:
    """Seconds that one COPY of the drained rows takes into an empty table of the same kind."""
    with psycopg.connect(empty_like(rig, site), autocommit=True) as there:
        began_s = time.perf_counter()
        with there.cursor().copy(f"COPY reading ({COLUMNS}) FROM STDIN (FORMAT binary)") as into:
            for at in range(0, len(data), COPY_CHUNK_BYTES):
                into.write(data[at : at + COPY_CHUNK_BYTES])
        return time.perf_counter() - began_s


def insert(rig: Rig, site: Site) -> float:
    """Rows a second of INSERTs of many rows a statement; the first ones are enough for that."""
    with psycopg.connect(site.dsn) as here:
        rows = here.execute(
            f"SELECT {COLUMNS} FROM reading ORDER BY seq LIMIT {INSERTED_ROWS_MAX}".encode()
        ).fetchall()
    width = len(COLUMNS.split(","))
    with psycopg.connect(empty_like(rig, site), autocommit=True) as there:
        began_s = time.perf_counter()
        for begin in range(0, len(rows), INSERT_ROWS):
            part = rows[begin : begin + INSERT_ROWS]
            places = ", ".join(["(" + ", ".join(["%s"] * width) + ")"] * len(part))
            there.execute(
                f"INSERT INTO reading ({COLUMNS}) VALUES {places}".encode(),
                [value for row in part for value in row],
            )
        return len(rows) / (time.perf_counter() - began_s)
