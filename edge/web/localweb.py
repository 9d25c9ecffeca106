"""The same application on a Unix socket beside the command line's: here people are known, and may write.

Who may open the socket is for its group and mode to say, who may write for the kernel's word of who it is.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.clock import Clock
from edge.local import LocalRefused, Peer, bind_socket, peer_of, unlink_if
from edge.peers import asker
from edge.web.backend import Backend
from edge.web.replies import refuse
from edge.web.routes import Role, Route
from edge.web.server import create_app, serve_app
from edge.web.sse import Hub

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class _PeerProtocol(H11Protocol):
    """Notes who is at the other end where others have an address: user and process."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = peer_of(transport.get_extra_info("socket"))
        self.client = (f"{peer.uid}:{peer.gid}", peer.pid)


class _Door:
    """Wraps the application: says what the person at the other end may do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in READING:
            ids, pid = scope["client"]
            uid, _, gid = ids.partition(":")
            try:
                scope["who"] = await asker(Peer(pid=pid, uid=int(uid), gid=int(gid)))
            except LocalRefused as error:
                await refuse(403, str(error))(scope, receive, send)
                return
            scope["roles"] = frozenset(Role)
        await self._app(scope, receive, send)


class LocalWeb:
    """`run` it: serves until cancelled."""

    def __init__(
        self, path: Path, backend: Backend, clock: Clock, *, routes: Sequence[Route] = (), version: str = "0"
    ) -> None:
        self.path = path
        self._hub = Hub(backend, clock)
        self._app = _Door(
            create_app(
                backend, clock, routes=routes, hub=self._hub, version=version, loopback_only=lambda: False
            )
        )

    async def run(self) -> None:
        """Listen and serve until cancelled.  Raises LocalUnavailable."""
        await self.serve(self.listen())

    def listen(self) -> socket.socket:
        """Raises LocalUnavailable where it cannot."""
        return bind_socket(self.path)

    async def serve(self, listening: socket.socket) -> None:
        """Serve until cancelled."""
        identity = self.path.stat().st_ino
        try:
            await serve_app(self._app, self._hub, [listening], protocol=_PeerProtocol)
        finally:
            unlink_if(self.path, identity)
