"""`safe.json`: all that is needed to make every output safe, compiled at the start and at every reload.

`make_safe` reads it and nothing else: no config, no database, no daemon.  It may hold a device's password, and so
only its owner reads it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretBytes, SecretStr

from drivers.base import Clock, Output, Terms
from drivers.catalog import OutputDriver, output_driver

FILE_NAME: Final = "safe.json"
VERSION: Final = 1
SAFE_WITHIN_S: Final = 8.0
"""So long at most are the outputs of one bus waited for; the others do not wait for them."""
FILE_BYTES_MAX: Final = 4_000_000


class SafeFileError(Exception):
    """The file cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One output: enough to make it and bring it to its safe level."""

    name: str
    driver: str
    options: Mapping[str, Any]
    safe: float
    hold_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of one output: error "" when it stands at safe now."""

    output: str
    safe: float
    error: str = ""


def safe_path(control_database: Path) -> Path:
    """Where the daemon of this control database keeps it."""
    return control_database.with_name(FILE_NAME)


# ------------------------------------------------------------------------------------------- writing


def entry_of(config: Any, driver: OutputDriver) -> Entry:
    """The entry of an output's config: `name`, `driver`, `safe`, `hold_s` and its driver's options."""
    options = {name: _plain(getattr(config, name)) for name in driver.options.model_fields}
    return Entry(
        name=config.name, driver=config.driver, options=options, safe=float(config.safe),
        hold_s=float(config.hold_s or 0.0),
    )  # fmt: skip


def write(path: Path, entries: Iterable[Entry], *, socket: str = "") -> None:
    """Replace the file whole.  Raises OSError.

    socket  where the daemon answers, so that a living one can be asked
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": VERSION,
        "socket": socket,
        "outputs": [
            {
                "name": entry.name, "driver": entry.driver, "options": dict(entry.options),
                "safe": entry.safe, "hold_s": entry.hold_s,
            }
            for entry in entries
        ],
    }  # fmt: skip
    write_whole(path, json.dumps(document, indent=1))


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file so that a power cut leaves the old one or the new one, as two who write at once do.

    Raises OSError.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _plain(value: Any) -> Any:
    """An option as JSON can hold it, secrets included: without its password a device cannot be switched off."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case SecretBytes():
            return value.get_secret_value().decode()
        case BaseModel():
            return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case str() | int() | float() | None:
            return value
        case _:
            return str(value)


# ------------------------------------------------------------------------------------------- reading


def read(path: Path) -> tuple[list[Entry], str]:
    """Its entries, and where the daemon's socket was.  Raises SafeFileError."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(FILE_BYTES_MAX))
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']}")
        entries = [
            Entry(
                name=str(item["name"]), driver=str(item["driver"]), options=dict(item["options"]),
                safe=float(item["safe"]), hold_s=float(item.get("hold_s", 0.0)),
            )
            for item in document["outputs"]
        ]  # fmt: skip
        return entries, str(document.get("socket", ""))
    except FileNotFoundError:
        raise SafeFileError(
            f"there is no {path}; the daemon writes it beside its control database when it starts: name it by --file"
        ) from None
    except PermissionError:
        raise SafeFileError(f"{path} may not be read by this user; use sudo") from None
    except OSError as error:
        raise SafeFileError(f"{path} cannot be read ({error.strerror}); look at the disk") from error
    except (ValueError, TypeError, KeyError) as error:
        raise SafeFileError(
            f"{path} is damaged ({type(error).__name__}: {error}); start the daemon once with a valid config"
        ) from error


def make_safe(
    entries: Sequence[Entry], clock: Clock, *, within_s: float = SAFE_WITHIN_S, only: str = ""
) -> list[Made]:
    """Bring every output to its safe level and let it go; each bus in a thread of its own.  Never raises.

    only  "" for all, else the name of the one output
    """
    results: dict[str, Made] = {}
    buses: dict[str, list[tuple[Entry, Output]]] = {}
    chosen = [entry for entry in entries if only in ("", entry.name)]
    for entry in chosen:
        try:
            output = _make(entry, clock)
        except Exception as error:  # noqa: BLE001  # the other outputs shall be safe all the same
            results[entry.name] = Made(output=entry.name, safe=entry.safe, error=_words(error))
            continue
        key = output.bus if output.local else f"network {entry.name}"
        buses.setdefault(key, []).append((entry, output))
    threads = [
        threading.Thread(target=_bring, args=(pairs, results), name=f"safe-{key}", daemon=True)
        for key, pairs in buses.items()
    ]
    for thread in threads:
        thread.start()
    ends_s = clock.monotonic_s() + within_s
    for thread in threads:
        thread.join(max(0.0, ends_s - clock.monotonic_s()))
    late = f"no answer within {within_s:g} s; switch it off by hand"
    return [
        results.get(entry.name) or Made(output=entry.name, safe=entry.safe, error=late) for entry in chosen
    ]


def _make(entry: Entry, clock: Clock) -> Output:
    driver = output_driver(entry.driver)
    options = driver.options.model_validate(dict(entry.options))
    return driver.make(options, Terms(name=entry.name, safe=entry.safe, hold_s=entry.hold_s), clock)


def _bring(pairs: Sequence[tuple[Entry, Output]], results: dict[str, Made]) -> None:
    """Off before on, as everywhere."""
    for entry, output in sorted(pairs, key=lambda pair: pair[0].safe):
        error = ""
        try:
            output.open()
            output.write(entry.safe)
        except Exception as failed:  # noqa: BLE001  # the next output of the bus may still be reached
            error = _words(failed)
        try:
            output.release()
        except Exception as failed:  # noqa: BLE001
            error = error or _words(failed)
        results[entry.name] = Made(output=entry.name, safe=entry.safe, error=error)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
