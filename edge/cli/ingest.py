"""`tidewatt ingest`: takes meter files in, through the running daemon or without one."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from edge.cli.support import Cli, Refused, json_option, pass_cli, print_json
from edge.cli.waiting import waiting

if TYPE_CHECKING:
    from edge.meters.config import Mode

PIECE_BYTES: Final = 256 * 1024
POLL_S: Final = 0.2
ANSWER_TIMEOUT_S: Final = 120.0
NAME_SHOWN: Final = 40
NAME_MAX: Final = 200
"""Of the name that is told to the daemon, bytes."""

Tell = Callable[[float], None]
"""How much of a file is done, 0-1."""


@click.command(
    epilog="""\b
Examples:
  tidewatt ingest NEM12_2026_01.csv
  tidewatt ingest --strict january.zip february.zip
  tidewatt ingest --dry-run --json NEM12_2026_01.csv
"""
)
@click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@click.option("--strict", is_flag=True, help="Refuse a file that breaks any rule of the standard.")
@click.option("--lenient", is_flag=True, help="Keep what is certain and tell every problem.")
@click.option("--dry-run", is_flag=True, help="Only read: nothing is stored, no daemon is asked.")
@json_option
@pass_cli
def ingest(
    cli: Cli, paths: tuple[Path, ...], strict: bool, lenient: bool, dry_run: bool, as_json: bool
) -> int:
    """Take meter files in: NEM12, NEM13, or zips of them; each is stored, archived and delivered upstream."""
    from edge.local import LocalUnavailable

    if strict and lenient:
        raise click.UsageError("--strict and --lenient exclude each other; give one of them")
    mode: Mode | None = "strict" if strict else "lenient" if lenient else None
    if dry_run:
        done = _dry_run(paths, mode or "lenient")
    else:
        try:
            cli.call("status")
        except LocalUnavailable:
            done = _alone(cli, paths, mode)
        else:
            done = _through_daemon(cli, paths, mode)
    outcomes: list[dict[str, Any]] = []
    try:
        for outcome in done:
            outcomes.append(outcome)
            if not as_json:
                click.echo(_line(outcome, dry_run))
    except Exception:
        if as_json and outcomes:
            print_json({"files": outcomes})
        raise
    if as_json:
        print_json({"files": outcomes})
    return 0 if all(outcome["file"]["state"] == "completed" for outcome in outcomes) else 1


def _line(outcome: Mapping[str, Any], dry_run: bool) -> str:
    file = outcome["file"]
    if file["state"] != "completed":
        return f"{file['name']}: not taken: {file['error']}; tidewatt files {file['hash'][:8]} says more"
    if outcome["known"]:
        return f"{file['name']}: known already, nothing was done (it came on {file['received']})"
    kept = (("channel-day", file["days"]), ("value", file["values"]), ("read", file["reads"]))
    told = ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for what, count in kept if count) or "nothing"
    told = f"{file['name']}: {'would bring' if dry_run else 'stored'} {told}"
    if not file["problems"]:
        return told
    problems = "1 problem" if file["problems"] == 1 else f"{file['problems']:,} problems"
    more = f"tidewatt nem12 check {file['name']}" if dry_run else f"tidewatt files {file['hash'][:8]}"
    return f"{told}; {problems}, which {more} tells"


@contextmanager
def _bar(path: Path) -> Iterator[Tell]:
    """A progress bar on standard error, for people."""
    from edge.meters.files import safe_name

    name = safe_name(path.name)
    label = name if len(name) <= NAME_SHOWN else name[: NAME_SHOWN - 1] + "…"
    with click.progressbar(length=1000, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield lambda part: bar.update(max(0, round(1000 * min(1.0, part)) - bar.pos))


# ------------------------------------------------------------------------------------------- the daemon


class _Connection(http.client.HTTPConnection):
    """HTTP over the daemon's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        from edge.local import address_of

        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        with address_of(self._path) as address:
            self.sock.connect(address)


def _through_daemon(cli: Cli, paths: tuple[Path, ...], mode: Mode | None) -> Iterator[dict[str, Any]]:
    from edge.local import http_socket_path

    where = http_socket_path(cli.socket())
    for path in paths:
        with _bar(path) as tell:
            outcome = _upload(where, path, mode, lambda part: tell(part / 2))
            if not outcome["known"]:
                outcome["file"] = _wait(cli, outcome["file"], lambda part: tell(0.5 + part / 2))
        yield outcome


def _upload(where: Path, path: Path, mode: Mode | None, tell: Tell) -> dict[str, Any]:
    size = path.stat().st_size
    name = quote(os.fsencode(path.name)[:NAME_MAX])
    address = f"/api/v1/files?source=cli&name={name}&mode={mode or 'default'}"
    connection = _Connection(where)
    try:
        with path.open("rb") as file:
            try:
                connection.request("POST", address, _pieces(file, size, tell), {"Content-Length": str(size)})
            except BrokenPipeError:
                pass  # refused already: the answer says why
            answer = connection.getresponse()
            body = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Refused(f"{path}: the daemon at {where} broke off ({error}); see its log") from error
    finally:
        connection.close()
    if answer.status not in (200, 202):
        raise Refused(f"{path}: {body.get('error', answer.reason)}")
    found: dict[str, Any] = body
    return found


def _pieces(file: Any, size: int, tell: Tell) -> Iterator[bytes]:
    done = 0
    while piece := file.read(min(PIECE_BYTES, size - done)):
        yield piece
        done += len(piece)
        tell(done / size)


def _wait(cli: Cli, file: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Until the daemon is done with it; Ctrl-C leaves it to the daemon."""
    while True:
        answer = cli.call("file", hash=file["hash"])
        found: dict[str, Any] = answer["file"]
        if found["state"] in ("completed", "failed"):
            tell(1.0)
            return found
        tell(answer["done_bytes"] / max(1, found["size_bytes"]))
        time.sleep(POLL_S)


# ------------------------------------------------------------------------------------ without a daemon


def _alone(cli: Cli, paths: tuple[Path, ...], mode: Mode | None) -> Iterator[dict[str, Any]]:
    """A run of its own, which holds the database's lock meanwhile; what it took is told also where it ends early."""
    from edge.cli.loop import run_unwaited

    done: list[dict[str, Any]] = []
    broke: Exception | None = None
    try:
        run_unwaited(partial(_take_all, cli, paths, mode, done))
    except Exception as error:  # noqa: BLE001  # raised again
        broke = error
    yield from done
    if broke is not None:
        raise broke


async def _take_all(cli: Cli, paths: tuple[Path, ...], mode: Mode | None, done: list[dict[str, Any]]) -> None:
    """Each outcome goes to `done` at once."""
    from edge.clock import SystemClock
    from edge.meters.files import as_json
    from edge.meters.folders import NotAFile
    from edge.meters.importer import Importer
    from edge.meters.room import MEGABYTE, Postponed, Room
    from edge.meters.service import recover
    from edge.store.database import Store
    from migrations.state import ensure_migrated

    config, clock = cli.config(), SystemClock()
    with waiting("migrating"):
        await ensure_migrated(config.store.database, config.store.control_database)
    async with Store.open(config.store, clock) as store:
        room = Room(store.path, disk_min_bytes=config.store.disk_free_min_mb * MEGABYTE)
        importer = Importer(store, config.meters, clock, room=room)
        await recover(importer)
        for path in paths:
            with _bar(path) as tell:
                try:
                    outcome = await importer.take(
                        path.resolve(), name=path.name, source="cli", mode=mode,
                        on_progress=lambda progress, tell=tell: tell(  # type: ignore[misc]
                            progress.done_bytes / max(1, progress.size_bytes)
                        ),
                    )  # fmt: skip
                except (Postponed, NotAFile) as error:
                    raise Refused(f"{path}: {error}") from error
            done.append({"file": as_json(outcome.file), "known": outcome.known})


def _dry_run(paths: tuple[Path, ...], mode: Mode) -> Iterator[dict[str, Any]]:
    from edge.cli.loop import run_unwaited
    from edge.meters.dryrun import read

    for path in paths:
        with _bar(path) as tell:

            async def reading(path: Path = path, tell: Tell = tell) -> Any:
                return await read(path, mode, tell)

            outcome = run_unwaited(reading)
        yield outcome
