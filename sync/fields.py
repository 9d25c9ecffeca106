"""Payloads as JSON objects, deflated or not, and the checks of their fields: nothing from outside is trusted."""

from __future__ import annotations

import json
import reprlib
import zlib
from typing import Any, Final, NoReturn

from sync.messages import LOG_END, POSITION_END, VERSION, WHOLE_END, UnknownVersion, WireError

DEFLATE_FROM_BYTES: Final = 160
DEFLATE_HARD_BYTES_MAX: Final = 16 * 1024
"""Up to here deflate tries hard: a small message gains, a large one costs twice the time for 5 % less."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def pack(message: dict[str, Any], bytes_max: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """JSON, deflated unless it is small; `strategy` is zlib's.  Raises WireError."""
    try:
        raw = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise WireError(f"cannot be written as JSON: {error}") from None
    if len(raw) > bytes_max:
        raise WireError(f"takes {len(raw)} bytes; at most {bytes_max} may go in one message")
    if len(raw) < DEFLATE_FROM_BYTES:
        return raw
    deflate = zlib.compressobj(6 if len(raw) <= DEFLATE_HARD_BYTES_MAX else 4, strategy=strategy)
    return deflate.compress(raw) + deflate.flush()


def unpack(payload: bytes, bytes_max: int) -> dict[str, Any]:
    raw = _inflate(payload, bytes_max) if payload[:1] == b"\x78" else payload
    if len(raw) > bytes_max:
        raise WireError(f"is larger than {bytes_max} bytes")
    try:
        message = _DECODER.decode(str(raw, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("is not a JSON object")
    version = message.get("v")
    if type(version) is not int or version != VERSION:
        kind = UnknownVersion if type(version) is int and version > VERSION else WireError
        raise kind(f"is of version {show(version)}; this program speaks {VERSION}")
    return message


def _inflate(payload: bytes, bytes_max: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(payload, bytes_max + 1)
    except zlib.error as error:
        raise WireError(f"cannot be inflated: {error}") from None
    if not inflate.eof:
        raise WireError(f"is cut off, or larger than {bytes_max} bytes when inflated")
    if inflate.unused_data:
        raise WireError("goes on after its end")
    return raw


def show(value: Any) -> str:
    """A value for an error text, cut short."""
    return reprlib.repr(value)


def whole(value: Any, what: str, low: int, end: int) -> int:
    """A whole number `low <= value < end`."""
    if type(value) is not int or not low <= value < end:
        raise WireError(f"{what} is {show(value)}, not a whole number from {low} to {end - 1}")
    return value


def log_id(value: Any, what: str, low: int = 1) -> int:
    return whole(value, what, low, LOG_END)


def position(value: Any, what: str, low: int = 1) -> int:
    return whole(value, what, low, POSITION_END)


def time_ms(value: Any, what: str) -> int:
    return whole(value, what, -WHOLE_END + 1, WHOLE_END)


def text(value: Any, what: str) -> str:
    """Any text: whether it can be stored is for the sink to say, row by row."""
    if not isinstance(value, str):
        raise WireError(f"{what} is {show(value)}, not text")
    return value


def items(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise WireError(f"{what} is {show(value)}, not a list")
    return value


def parts_of(value: Any, what: str, least: int) -> list[Any]:
    """A list of at least so many parts; a later program may have added some."""
    parts = items(value, what)
    if len(parts) < least:
        raise WireError(f"{what} has {len(parts)} parts instead of {least}")
    return parts
