"""What the command line may ask of the running daemon, over the local socket; every write is noted with who asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge.control.verbs import OutputVerbs
from edge.local import LocalRefused, Peer, Verb
from edge.mistakes import ConfigInvalid

if TYPE_CHECKING:
    from edge.app import App
    from edge.ground import Ground

DRAIN_S = 20.0


def verbs_of(ground: Ground) -> Mapping[str, Verb]:
    """Verb to what answers it."""
    verbs, outputs = _Verbs(ground), OutputVerbs(ground.control)
    return {
        "outputs": outputs.outputs,
        "outputs.set": outputs.set,
        "outputs.release": outputs.release,
        "outputs.confirm": outputs.confirm,
        "outputs.safe": outputs.safe,
        "why": outputs.why,
        "status": verbs.status,
        "devices": verbs.devices,
        "flush": verbs.flush,
        "reload": verbs.reload,
        "test": verbs.test,
        "device.enable": verbs.enable,
        "device.disable": verbs.disable,
        "sync.ask": verbs.ask,
        "sync.bind": verbs.bind,
        "sync.drain": verbs.drain,
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

    async def devices(self, _args: dict[str, Any], _peer: Peer) -> Any:
        return {"devices": self._ground.poller.status()}

    async def flush(self, _args: dict[str, Any], _peer: Peer) -> Any:
        await self._app.recorder.flush()
        await self._app.events.flush()
        return {"heads": dict(self._app.store.heads)}

    async def reload(self, _args: dict[str, Any], _peer: Peer) -> Any:
        try:
            return {"changed": await self._ground.reload()}
        except ConfigInvalid as error:
            raise LocalRefused(str(error)) from None

    async def test(self, args: dict[str, Any], _peer: Peer) -> Any:
        return await self._ground.poller.test(self._device(args))

    async def enable(self, args: dict[str, Any], peer: Peer) -> Any:
        name = self._device(args)
        await self._ground.poller.enable(name)
        self._ground.events.put("device-enabled", name, "info", {"uid": peer.uid})
        return {"device": name, "enabled": True}

    async def disable(self, args: dict[str, Any], peer: Peer) -> Any:
        name = self._device(args)
        await self._ground.poller.disable(name)
        self._ground.events.put("device-disabled", name, "info", {"uid": peer.uid})
        return {"device": name, "enabled": False}

    async def ask(self, _args: dict[str, Any], _peer: Peer) -> Any:
        self._app.delivering().ask()
        return {"asked": True}

    async def bind(self, args: dict[str, Any], peer: Peer) -> Any:
        ledger = str(args.get("ledger", ""))
        try:
            await self._app.delivering().bind(ledger, f"uid {peer.uid}")
        except ValueError as error:
            raise LocalRefused(str(error)) from None
        return {"ledger": ledger}

    async def drain(self, args: dict[str, Any], _peer: Peer) -> Any:
        return await self._app.drain(float(args.get("timeout_s", DRAIN_S)))

    def _device(self, args: dict[str, Any]) -> str:
        name = str(args.get("device", ""))
        names = [device.name for device in self._ground.config.devices]
        if name not in names:
            raise LocalRefused(f"there is no device {name!r}; there are: {', '.join(names) or 'none'}")
        return name
