"""Programs of other versions: what a later one says, and how a later one reads what an earlier one said."""

from __future__ import annotations

import zlib
from typing import Final

EDITIONS: Final = ("this one", "one that says more", "the next version")
NEXT: Final = 2
_MARK: Final = b'{"v":1,'
_NEXT_MARK: Final = b'{"v":2,'


def said_by(edition: int, payload: bytes) -> bytes:
    """A message of ours as a program of that edition would have said it."""
    if not edition:
        return payload
    raw = zlib.decompress(payload) if payload[:1] == b"\x78" else payload
    raw = raw[:-1] + b',"later":{"more":[1,"x"]}}'
    if edition == NEXT:
        raw = raw.replace(_MARK, _NEXT_MARK, 1)
    return zlib.compress(raw)


def read_by(edition: int, payload: bytes) -> bytes:
    """A message as this program's decoder would see it in one of that edition, which knows all earlier versions."""
    if edition < NEXT or payload[:1] != b"\x78":
        return payload
    try:
        raw = zlib.decompress(payload)
    except zlib.error:
        return payload
    return raw.replace(_NEXT_MARK, _MARK, 1) if raw.startswith(_NEXT_MARK) else payload
