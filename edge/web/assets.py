"""The page's own files: few, small, read once, revalidated by the hash of their content."""

from __future__ import annotations

import functools
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from edge.web.replies import takes_gzip

FOLDER: Final = Path(__file__).parent / "page"
MEDIA: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
NAMES: Final = tuple(sorted(path.name for path in FOLDER.iterdir() if path.suffix in MEDIA))
GZIP_WBITS: Final = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file as it is sent; kept compressed only, since every browser takes that."""

    packed: bytes
    etag: str
    media: str


@functools.cache
def load(name: str) -> Asset:
    """One of `NAMES`."""
    return make((FOLDER / name).read_bytes(), MEDIA[Path(name).suffix])


def make(content: bytes, media: str) -> Asset:
    packer = zlib.compressobj(9, wbits=GZIP_WBITS)
    packed = packer.compress(content) + packer.flush()
    return Asset(packed=packed, etag=f'"{hashlib.sha256(content).hexdigest()[:16]}"', media=media)


def send(request: Request, asset: Asset) -> Response:
    """The file, or 304 when the browser has it."""
    headers = {
        "Cache-Control": "no-cache",
        "ETag": asset.etag,
        "Vary": "Accept-Encoding",
        "Content-Type": asset.media,
    }
    if asset.etag in (
        tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")
    ):
        return Response(status_code=304, headers=headers)
    if takes_gzip(request):
        return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"})
    return Response(zlib.decompress(asset.packed, wbits=GZIP_WBITS), headers=headers)
