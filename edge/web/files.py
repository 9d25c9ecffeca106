"""`POST /api/v1/files`: a meter file handed over by a person on this machine.

The body is the file itself; it goes to the disk as it comes, never whole into memory.
`app.py` hands over what stores it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Literal, Protocol, get_args

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edge.web import filemodels
from edge.web.replies import answer, refuse
from edge.web.routes import Arguments, Role, Route, choice, text

SILENT_S: Final = 60.0
"""An upload of which nothing comes for so long is given up."""
FORM: Final = "multipart/form-data"
INSTEAD: Final = (
    "over the network nobody may hand files over yet; on this machine write: tidewatt ingest FILE, or"
    " curl --unix-socket {socket} -T FILE -X POST 'http://localhost/api/v1/files?name=FILE'"
)

log = structlog.get_logger("web")


Mode = Literal["lenient", "strict"]
Source = Literal["http", "cli", "demo"]


class UploadRefused(Exception):
    """The file is not taken; `status` is the answer's, the text says what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Receive(Protocol):
    """Stores an upload and gives a `filemodels.Upload`; `who` handed it over.  Raises UploadRefused."""

    async def __call__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        name: str,
        mode: Mode | None,
        source: Source,
        who: str,
        size_bytes: int | None,
    ) -> Mapping[str, Any]: ...


def routes(receive: Receive, socket: str) -> tuple[Route, ...]:
    """The route.  socket: where it is served, for those who try it elsewhere."""

    async def post(request: Request, args: Arguments) -> Response:
        if request.headers.get("content-type", "").startswith(FORM):
            return refuse(415, "send the file itself as the body, not a form: curl -T FILE -X POST")
        try:
            stored = await receive(
                _chunks(request), name=args["name"], mode=args["mode"], source=args["source"],
                who=str(request.scope.get("who", "")), size_bytes=_size(request),
            )  # fmt: skip
        except UploadRefused as error:
            return refuse(error.status, str(error), headers={"Connection": "close"})
        except ClientDisconnect:
            log.info("an upload was broken off", name=args["name"])
            return refuse(400, "the upload was broken off; send it again")
        return answer(request, stored, status=200 if stored["known"] else 202)

    return (
        Route(
            method="POST", path="/api/v1/files", role=Role.OPERATOR, handler=post, tag="meters",
            summary="Hand over a meter file (NEM12, NEM13, or a zip of several)",
            description="The body is the file. 202: it is stored and will be imported; 200: its content is known. "
            "Served on the local socket only.",
            params=(
                text("name", "the file's name, for telling", required=True),
                choice(
                    "mode", "how strictly it is read; default: as [meters] mode says",
                    {"default": None, "lenient": "lenient", "strict": "strict"}, default="default",
                ),
                choice(
                    "source", "what hands it over", {name: name for name in get_args(Source)}, default="http"
                ),
            ),
            response=filemodels.Upload, errors=(400, 403, 408, 413, 415, 503, 507),
            instead=INSTEAD.format(socket=socket),
        ),
    )  # fmt: skip


def _size(request: Request) -> int | None:
    told = request.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() else None


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            with anyio.fail_after(SILENT_S):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise UploadRefused(408, f"nothing came for {SILENT_S:.0f} s; send it again") from None
        yield chunk
