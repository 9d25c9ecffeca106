"""What the command line may ask of the running daemon, over the local socket; every write is noted with who asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge.clockwatch import ClockRefused
from edge.control.verbs import OutputVerbs
from edge.local import LocalRefused, Peer, Verb
from edge.meters.files import as_json
from edge.mistakes import ConfigInvalid
from edge.peers import asker
from edge.poll.verbs import CalibrateVerbs
from edge.systemd import Notifier
from edge.uplink.resend import RESENDABLE, resend, until_settled

if TYPE_CHECKING:
    from edge.app import App
    from edge.ground import Ground

DRAIN_S = 20.0
SERVICE = "tidewatt-edge"
"""Under which systemd knows the daemon."""


def verbs_of(ground: Ground) -> Mapping[str, Verb]:
    """Verb to what answers it."""
    verbs, outputs = _Verbs(ground), OutputVerbs(ground.control)
    calibrate = CalibrateVerbs(
        ground.poller, ground.image, ground.clock, ground.events.put,
        file=lambda: (ground.config_state.path, ground.config_state.digest), goes_by=outputs.that_go_by,
        keep=ground.leases.keep,
        reload=f"sudo systemctl reload {SERVICE}" if Notifier().active else f"kill -HUP {os.getpid()}",
    )  # fmt: skip
    return {
        "outputs": outputs.outputs,
        "outputs.set": outputs.set,
        "outputs.release": outputs.release,
        "outputs.confirm": outputs.confirm,
        "outputs.safe": outputs.safe,
        "why": outputs.why,
        "calibrate": calibrate.info,
        "calibrate.begin": calibrate.begin,
        "calibrate.look": calibrate.look,
        "calibrate.end": calibrate.end,
        "clock": verbs.clock,
        "clock.confirm": verbs.confirm_clock,
        "status": verbs.status,
        "devices": verbs.devices,
        "flush": verbs.flush,
        "reload": verbs.reload,
        "test": verbs.test,
        "device.enable": verbs.enable,
        "device.disable": verbs.disable,
        "file": verbs.file,
        "sync.ask": verbs.ask,
        "sync.bind": verbs.bind,
        "sync.drain": verbs.drain,
        "sync.resend": verbs.resend,
    }


class _Verbs:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @property
    def _app(self) -> App:
        """Raises LocalRefused while the database is not open."""
        return self._ground.opened()

    async def status(self, _args: dict[str, Any], _peer: Peer) -> Any:
        return self._app.site.status()

    async def clock(self, _args: dict[str, Any], _peer: Peer) -> Any:
        return await self._ground.clock_watch.told(self._ground.config)

    async def confirm_clock(self, args: dict[str, Any], peer: Peer) -> Any:
        who, watch = await asker(peer), self._ground.clock_watch
        try:
            taken = await watch.confirm({"uid": peer.uid, "who": who, "why": str(args.get("why", ""))})
        except ClockRefused as error:
            raise LocalRefused(str(error)) from None
        return {"taken": taken} | await watch.told(self._ground.config)

    async def devices(self, _args: dict[str, Any], _peer: Peer) -> Any:
        return {"devices": self._ground.poller.status()}

    async def flush(self, _args: dict[str, Any], _peer: Peer) -> Any:
        await self._app.recorder.flush()
        await self._app.events.flush()
        return {"heads": dict(self._app.store.heads)}

    async def reload(self, args: dict[str, Any], peer: Peer) -> Any:
        who = await asker(peer)
        try:
            changed = await self._ground.reload()
        except ConfigInvalid as error:
            raise LocalRefused(str(error)) from None
        self._note("reload-asked", who, peer, args, who, {"changed": changed})
        return {"changed": changed}

    async def test(self, args: dict[str, Any], _peer: Peer) -> Any:
        return await self._ground.poller.test(self._device(args))

    async def enable(self, args: dict[str, Any], peer: Peer) -> Any:
        name, who = self._device(args), await asker(peer)
        await self._ground.poller.enable(name)
        self._note("device-enabled", name, peer, args, who)
        return {"device": name, "enabled": True}

    async def disable(self, args: dict[str, Any], peer: Peer) -> Any:
        name, who = self._device(args), await asker(peer)
        await self._ground.poller.disable(name)
        self._note("device-disabled", name, peer, args, who)
        return {"device": name, "enabled": False}

    async def file(self, args: dict[str, Any], _peer: Peer) -> Any:
        """A meter file by its hash, and how far its import is while it runs."""
        found = await self._app.taking().file(str(args.get("hash", "")))
        if found is None:
            raise LocalRefused("there is no such meter file; see tidewatt files")
        file, progress = found
        return {"file": as_json(file), "done_bytes": 0 if progress is None else progress.done_bytes}

    async def ask(self, args: dict[str, Any], peer: Peer) -> Any:
        who, publisher = await asker(peer), self._app.delivering()
        self._note("ledger-asked", self._ground.config.site.name, peer, args, who)
        publisher.ask()
        return {"asked": True}

    async def bind(self, args: dict[str, Any], peer: Peer) -> Any:
        ledger, who = str(args.get("ledger", "")), await asker(peer)
        try:
            await self._app.delivering().bind(ledger, who, str(args.get("why", "")))
        except ValueError as error:
            raise LocalRefused(str(error)) from None
        return {"ledger": ledger}

    async def resend(self, args: dict[str, Any], peer: Peer) -> Any:
        who = await asker(peer)
        app, publisher = self._app, self._app.delivering()
        wanted = str(args.get("stream") or "")
        if wanted and wanted not in RESENDABLE:
            raise LocalRefused(
                f"stream {wanted!r} is not sent again by time; there are: {', '.join(RESENDABLE)}"
            )
        from_ms, to_ms = int(args["from_ms"]), int(args["to_ms"])
        if to_ms <= from_ms:
            raise LocalRefused("that stretch of time has no length; --from has to be before --to")
        await self.flush({}, peer)
        streams = (wanted,) if wanted else RESENDABLE
        parts = await resend(app.store, app.outbox, streams, from_ms, to_ms, app.clock.monotonic_s())
        sent = {part.stream: part.positions.count for part in parts}
        self._note("resend-asked", wanted or "all", peer, args, who, {"sent": sent})
        publisher.wake()
        await until_settled(app.clock, app.outbox, parts, float(args.get("wait_s", 0.0)))
        told = {part.stream: part.as_json(app.outbox) for part in parts}
        return {"connected": publisher.link == "connected", "streams": told}

    async def drain(self, args: dict[str, Any], peer: Peer) -> Any:
        who, app = await asker(peer), self._app
        app.delivering()
        self._note("drain-asked", self._ground.config.site.name, peer, args, who)
        return await app.drain(float(args.get("timeout_s", DRAIN_S)))

    def _note(
        self,
        kind: str,
        subject: str,
        peer: Peer,
        args: Mapping[str, Any],
        who: str,
        more: Mapping[str, Any] = {},
    ) -> None:
        """The journal's row of a write: who asked, and what for."""
        body = {"uid": peer.uid, "who": who, "why": str(args.get("why", ""))} | dict(more)
        self._ground.events.put(kind, subject, "info", body)

    def _device(self, args: dict[str, Any]) -> str:
        name = str(args.get("device", ""))
        names = [device.name for device in self._ground.config.devices]
        if name not in names:
            raise LocalRefused(f"there is no device {name!r}; there are: {', '.join(names) or 'none'}")
        return name
