"""The file ledger: a file is its content, and every file that ever came has one row.

pending -> processing -> completed or failed; a file that failed may come again, a completed one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from edge.meters.config import Mode
from edge.meters.files import COLUMNS, COMPLETED, FAILED, Counts, File, Problem, Source, safe_name
from edge.store.database import Tx

PROBLEMS_PER_EVENT_MAX: Final = 100


async def find(connection: AsyncConnection, digest: str) -> File | None:
    """The file of this content."""
    found = await connection.execute(
        text(f"SELECT {COLUMNS} FROM meter_file WHERE hash = :hash"), {"hash": digest}
    )
    row = found.mappings().one_or_none()
    return None if row is None else File(**row)


async def waiting(connection: AsyncConnection) -> list[File]:
    """Files that are neither completed nor failed, oldest first."""
    found = await connection.execute(
        text(f"SELECT {COLUMNS} FROM meter_file WHERE state IN ('pending', 'processing') ORDER BY id")
    )
    return [File(**row) for row in found.mappings()]


async def note(
    tx: Tx, digest: str, *, name: str, source: Source, size_bytes: int, mode: Mode, state: str
) -> None:
    """The file has come (again): pending or processing.  Not for one that is completed."""
    await tx.execute(
        "INSERT INTO meter_file (hash, name, source, size_bytes, received_ms, state, mode, version, created, channels,"
        " days, reads, value_count, problem_count, bytes)"
        " VALUES (:hash, :name, :source, :size, :now, :state, :mode, '', '', 0, 0, 0, 0, 0, 0)"
        " ON CONFLICT (hash) DO UPDATE SET name = :name, source = :source, size_bytes = :size, state = :state,"
        " mode = :mode, ended_ms = NULL, error = NULL, archive = NULL"
        " WHERE state != 'completed'",
        {
            "hash": digest, "name": safe_name(name), "source": source, "size": size_bytes, "now": tx.now_ms(),
            "state": state, "mode": mode,
        },
    )  # fmt: skip


async def set_pending(tx: Tx) -> None:
    """What is being imported was broken off and will be begun again."""
    await tx.execute("UPDATE meter_file SET state = 'pending' WHERE state = 'processing'")


async def forget(tx: Tx, digest: str) -> None:
    """There is no such file after all: it was still being written when it was read."""
    await tx.execute("DELETE FROM meter_file WHERE hash = :hash AND state = 'processing'", {"hash": digest})


async def end(
    tx: Tx,
    file: File,
    counts: Counts,
    problems: Sequence[Problem],
    *,
    bytes: int = 0,
    error: str | None = None,
    archive: str | None = None,
) -> None:
    """The file is completed, or with an error failed; what it is and its problems become events for upstream.

    bytes  what its rows take, about
    """
    state = COMPLETED if error is None else FAILED
    await tx.execute(
        "UPDATE meter_file SET state = :state, version = :version, created = :created, ended_ms = :now,"
        " channels = :channels, days = :days, reads = :reads, value_count = :values, problem_count = :problems,"
        " bytes = :bytes, error = :error, archive = :archive WHERE id = :id",
        {
            "state": state, "version": counts.version, "created": counts.created, "now": tx.now_ms(),
            "channels": counts.channels, "days": counts.days, "reads": counts.reads, "values": counts.values,
            "problems": counts.problems, "bytes": bytes, "error": error, "archive": archive, "id": file.id,
        },
    )  # fmt: skip
    await tx.execute("DELETE FROM file_problem WHERE file = :id", {"id": file.id})
    if problems:
        await tx.connection.exec_driver_sql(
            "INSERT INTO file_problem (file, at, member, line, code, text) VALUES (?, ?, ?, ?, ?, ?)",
            [(file.id, at, *problem) for at, problem in enumerate(problems)],
        )
    await _tell(tx, file, counts, problems, state, error)


async def _tell(
    tx: Tx, file: File, counts: Counts, problems: Sequence[Problem], state: str, error: str | None
) -> None:
    for first in range(0, len(problems), PROBLEMS_PER_EVENT_MAX):
        told = [
            {"member": member, "line": line, "code": code, "text": words}
            for member, line, code, words in problems[first : first + PROBLEMS_PER_EVENT_MAX]
        ]
        await tx.emit(
            kind="file-problems", subject=file.hash, severity="warning",
            body={"name": file.name, "first": first, "problems": told},
        )  # fmt: skip
    severity = "alarm" if error is not None else "warning" if counts.problems else "info"
    body: Mapping[str, Any] = {
        "name": file.name, "source": file.source, "state": state, "version": counts.version,
        "created": counts.created, "mode": file.mode, "size_bytes": file.size_bytes, "channels": counts.channels,
        "days": counts.days, "reads": counts.reads, "values": counts.values, "problems": counts.problems,
        "error": error,
    }  # fmt: skip
    await tx.emit(
        kind="file-failed" if error is not None else "file-completed", subject=file.hash, severity=severity,
        body=body,
    )  # fmt: skip


async def stored_bytes(connection: AsyncConnection) -> int:
    """About what all meter data takes in the database: it is never dropped."""
    found = await connection.exec_driver_sql("SELECT coalesce(sum(bytes), 0) FROM meter_file")
    return int(found.scalar_one())
