"""Who may write over the local socket, by what the kernel says of the peer: root, the daemon's own user, its group."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Final

import anyio
import anyio.to_thread

from edge.local import LocalRefused, Peer

GROUP: Final = "tidewatt"
NAMES_TIMEOUT_S: Final = 5.0


def name_of(peer: Peer) -> str:
    """The peer's user name, for the journal; "uid 1234" for one without a name."""
    try:
        return pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        return f"uid {peer.uid}"


def may_write(peer: Peer, *, own_uid: int | None = None, group: str = GROUP) -> bool:
    """Whether this peer may change anything: root, the daemon's own user and the members of the group may."""
    if peer.uid in (0, os.geteuid() if own_uid is None else own_uid):
        return True
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return False
    return peer.gid == found.gr_gid or name_of(peer) in found.gr_mem


def writer(peer: Peer) -> str:
    """The name of a peer that may write.  Raises LocalRefused."""
    if not may_write(peer):
        raise LocalRefused(
            f"{name_of(peer)} may look but change nothing here; add the user to the group {GROUP}"
            f" (sudo usermod -aG {GROUP} {name_of(peer)}) and log in again, or use sudo"
        )
    return name_of(peer)


async def asker(peer: Peer) -> str:
    """`writer` beside the loop, because names may be looked up afar.  Raises LocalRefused."""
    with anyio.move_on_after(NAMES_TIMEOUT_S):
        return await anyio.to_thread.run_sync(writer, peer, abandon_on_cancel=True)
    raise LocalRefused("who asks could not be found out in time; try again as root")
