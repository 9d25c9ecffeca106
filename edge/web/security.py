"""What every answer carries, and who may ask: headers, the Host check, roles."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.web.replies import refuse
from edge.web.routes import Role

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
#: What anybody may do who reaches the port.  There are no users yet, so nothing beyond reading is served.
ROLES_OF_ANYBODY: Final = frozenset({Role.VIEWER})


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_name(header: str) -> str:
    """The name in a Host header, without the port: "LOCALHOST:8080" -> "localhost"."""
    name = header.strip().lower()
    if name.startswith("["):
        address, _, rest = name[1:].partition("]")
        return address if rest == "" or rest.startswith(":") else name
    return name.rpartition(":")[0] if ":" in name else name


class Guard:
    """Wraps the application.

    loopback_only  the port is bound to loopback: another name than loopback's is somebody else's page that
                   had its name pointed here to read through the visitor's browser (DNS rebinding)
    """

    def __init__(self, app: ASGIApp, *, loopback_only: Callable[[], bool]) -> None:
        self._app = app
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self._loopback_only() and not is_loopback(host_name(Headers(scope=scope).get("host", ""))):
            refusal = refuse(
                421,
                "this page answers to this machine's own names only; open it as http://localhost with its"
                " port, or set [web] host to the address it shall be reached at",
            )
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def permitted(role: Role, roles: Sequence[Role] | frozenset[Role] = ROLES_OF_ANYBODY) -> bool:
    """Whether a visitor with these roles may call a route that needs `role`."""
    return role in roles
