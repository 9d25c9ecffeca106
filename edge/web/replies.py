"""JSON going out: never cached, compressed where that is worth it, long history in pieces.

Encoding holds the loop that control runs on, so no piece is longer than `ROWS_PER_PIECE` readings.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

ROWS_PER_PIECE: Final = 250
GZIP_FROM_BYTES: Final = 4096
GZIP_LEVEL: Final = 1
GZIP_WBITS: Final = 31
"""zlib's way to say: deflate with a gzip header."""

NO_STORE: Final = {"Cache-Control": "no-store"}


def encode(body: Any) -> bytes:
    """Compact JSON in UTF-8; raises ValueError on NaN, which no browser reads."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def wants_json(request: Request) -> bool:
    """Whether the client asks for JSON by name; a browser and a bare curl do not."""
    return "application/json" in request.headers.get("accept", "")


def answer(
    request: Request, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer."""
    content = encode(body)
    more = {**NO_STORE, "Vary": "Accept-Encoding", **(headers or {})}
    if len(content) >= GZIP_FROM_BYTES and takes_gzip(request):
        packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
        content = packer.compress(content) + packer.flush()
        more["Content-Encoding"] = "gzip"
    return Response(content, status_code=status, media_type="application/json", headers=more)


def refuse(status: int, text: str, *, param: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON: what is wrong, and what to do."""
    body = {"error": text, "param": param} if param else {"error": text}
    return Response(
        encode(body),
        status_code=status,
        media_type="application/json",
        headers={**NO_STORE, **(headers or {})},
    )


def answer_history(request: Request, found: Sequence[Mapping[str, Any]]) -> Response:
    """`models.Readings`, encoded piece by piece between turns of the loop."""
    headers = {**NO_STORE, "Vary": "Accept-Encoding"}
    pieces: Iterator[bytes] = _history(found)
    if takes_gzip(request):
        headers["Content-Encoding"] = "gzip"
        pieces = _packed(pieces)
    return StreamingResponse(_spread(pieces), media_type="application/json", headers=headers)


async def _spread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    # Sending a piece is a turn of the loop; a plain iterator would be walked in a worker thread instead.
    for piece in pieces:
        yield piece


def _history(found: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    yield b'{"readings":['
    for number, part in enumerate(found):
        head = encode({key: value for key, value in part.items() if key != "readings"})
        yield (b"," if number else b"") + head[:-1] + b',"readings":['
        rows = part["readings"]
        for at in range(0, len(rows), ROWS_PER_PIECE):
            yield (b"," if at else b"") + encode(rows[at : at + ROWS_PER_PIECE])[1:-1]
        yield b"]}"
    yield b"]}"


def _packed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WBITS)
    for piece in pieces:
        # An empty piece is sent as well: it is the turn that the loop gets.
        yield packer.compress(piece)
    yield packer.flush()
