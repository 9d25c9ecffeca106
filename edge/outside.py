"""Loops of other packages' modules (entry point group `tidewatt.modules`), run and kept by the daemon.

A module's `loop` names `async def loop(around: Around) -> None`.  It is started again when it raises, with growing
pauses, and cancelled when the daemon stops; what is wrong with it is shown as problem `module-NAME...`.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from edge.clock import Clock
from edge.image import Image
from edge.store.database import Store
from edge.supervisor import Problems
from migrations.modules import Module
from migrations.outside import Installed


class PutEvent(Protocol):
    def __call__(self, kind: str, subject: str, severity: str, body: dict[str, Any]) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a module's loop works with.

    store      the open database: `async with store.write() as tx`, `async with store.read() as connection`
    clock      the only time there is
    image      the newest reading of every point
    put_event  (kind, subject, severity, body): note an event; severity is info, warning or alarm
    problems   what is wrong now; keys of a module begin with `module-NAME.`
    """

    store: Store
    clock: Clock
    image: Image
    put_event: PutEvent
    problems: Problems


def start(
    found: Installed,
    refused: Mapping[str, str],
    around: Around,
    start_loop: Callable[[str, Callable[[], Awaitable[None]]], None],
) -> None:
    """Start the loop of every usable module, and show what is wrong with the others.

    refused  modules whose tables could not be migrated -> why
    """
    for number, text in enumerate(found.problems):
        around.problems.set(f"modules.{number}", text)
    for name, text in refused.items():
        around.problems.set(f"module-{name}.tables", f"module {name} does not run: {text}")
    for module in found.modules:
        if module.loop and module.name not in refused:
            start_loop(f"module-{module.name}", partial(_run, module, around))


async def _run(module: Module, around: Around) -> None:
    where, _, attribute = module.loop.partition(":")
    loop = getattr(importlib.import_module(where), attribute)
    await loop(around)
