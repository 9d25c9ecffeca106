"""Control as the daemon sees it: outputs, loop, memory and `safe.json`, begun before anything else is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from drivers.base import Output
from drivers.catalog import output_catalog
from edge.clock import Clock
from edge.control import panel, safefile
from edge.control.bank import REFRESH_S, Bank, Spec
from edge.control.config import OutputCommon, make_output
from edge.control.loop import TICK_S, ControlHangs, ControlLoop
from edge.control.memory import Memory
from edge.control.model import Confirm, Override, Release
from edge.control.rules import Rules
from edge.image import Image, Reading
from edge.options import nearest
from edge.supervisor import Problems, PutEvent

FEEDS_PER_WATCHDOG: Final = 4.0
SAVED_WITHIN_S: Final = 2.0

logger = structlog.get_logger("control")


class Unmade(Output):
    """Stands in for an output that its driver could not make, and says why."""

    def __init__(self, name: str, error: Exception) -> None:
        self.bus = f"unmade {name}"
        self._error = error

    def open(self) -> None:
        raise self._error

    def write(self, level: float) -> None:  # noqa: ARG002
        raise self._error

    def read_back(self) -> float | None:
        return None

    def release(self) -> None:
        return


class Control:
    """Owned by the event loop: `begin`, then run `loop.run` and `memory.run`, at last `close`.

    outputs     the config's [[outputs]]: name, driver, safe, hold_s and the driver's options
    database    the control database; `safe.json` lies beside it
    watchdog_s  how often the service manager wants to be fed at least, None where it does not watch
    """

    def __init__(
        self,
        *,
        rules: Rules,
        outputs: Sequence[OutputCommon],
        database: Path,
        clock: Clock,
        image: Image,
        problems: Problems,
        put: PutEvent,
        record: Callable[[Reading], None] = lambda _reading: None,
        feed: Callable[[], None] = lambda: None,
        watchdog_s: float | None = None,
        socket: str = "",
    ) -> None:
        part_s = TICK_S if watchdog_s is None else watchdog_s / FEEDS_PER_WATCHDOG
        self.database = database
        self.bank = Bank(clock, problems, on_event=put, refresh_s=min(REFRESH_S, max(part_s, TICK_S)))
        self.memory = Memory(database, clock, problems, put)
        self.loop = ControlLoop(
            rules=rules, bank=self.bank, memory=self.memory, image=image, clock=clock, problems=problems, put=put,
            record=record, feed=feed, feed_gap_s=min(TICK_S, part_s),
        )  # fmt: skip
        self._outputs = tuple(outputs)
        self._clock = clock
        self._problems = problems
        self._socket = socket

    async def begin(self, others: tuple[Path, ...] = ()) -> None:
        """Take the outputs over, those that outlived the daemon where they stand, then recall.

        others  files that a site which has run before would have
        """
        await self.bank.replace(specs(self._outputs, self._clock))
        self.loop.begin(others, await self.bank.find())

    @property
    def configs(self) -> tuple[OutputCommon, ...]:
        """The outputs' configs that are in force."""
        return self._outputs

    async def change(self, rules: Rules, outputs: Sequence[OutputCommon]) -> None:
        """Other rules and outputs from now on."""
        self._outputs = tuple(outputs)
        await self.loop.change(rules, specs(self._outputs, self._clock))
        await self.compile_safe()

    async def close(self) -> None:
        """Every output safe and let go."""
        await self.bank.close()

    async def compile_safe(self) -> None:
        """Write `safe.json`, which `tidewatt outputs safe` needs and nothing else."""
        path = safefile.safe_path(self.database)
        known = output_catalog()
        entries = [safefile.entry_of(output, known[output.driver]) for output in self._outputs]
        try:
            write = partial(safefile.write, path, entries, socket=self._socket)
            await anyio.to_thread.run_sync(write, abandon_on_cancel=True)
        except OSError as error:
            text = f"{path} cannot be written ({error.strerror}): `tidewatt outputs safe` knows nothing new; free space"
            self._problems.set("control.safefile", text, severity="alarm" if entries else "info")
            logger.error("safe.json cannot be written", path=str(path), error=str(error))
        else:
            self._problems.clear("control.safefile")

    # -------------------------------------------------------------------------------------------- asked

    def outputs(self) -> list[dict[str, Any]]:
        """Every output with its level, its reasons, and what the hardware says."""
        return panel.outputs(self.loop)

    def why(self, name: str) -> dict[str, Any]:
        """One output, and its newest changes.  Raises ValueError for an unknown name."""
        self._known(name)
        return panel.output(self.loop, name) | {"changes": self.loop.journal.changes(name)}

    async def ask(self, request: Override | Release | Confirm) -> dict[str, Any]:
        """Take a request; what its output is now, and whether the request would survive a restart.

        Raises ValueError with why not, ControlHangs.
        """
        self._known(request.output)
        await self.loop.ask(request)
        saved = await self.memory.wait_saved(SAVED_WITHIN_S)
        return panel.output(self.loop, request.output) | {"saved": saved}

    async def ask_safe(self, for_s: float, who: str, why: str) -> list[dict[str, Any]]:
        """Override every output to its safe level; what each is then, or why it could not be asked."""
        refused: dict[str, str] = {}

        async def one(name: str) -> None:
            try:
                await self.loop.ask(Override(output=name, level=None, remaining_s=for_s, who=who, why=why))
            except (ValueError, ControlHangs) as error:
                refused[name] = str(error)

        async with anyio.create_task_group() as group:
            for name in self.loop.rules.outputs:
                group.start_soon(one, name)
        saved = await self.memory.wait_saved(SAVED_WITHIN_S)
        return [
            output | {"saved": saved, "refused": refused.get(output["name"], "")} for output in self.outputs()
        ]

    def _known(self, name: str) -> None:
        names = self.loop.rules.outputs
        if name not in names:
            near = nearest(name, names)
            guess = f"did you mean {near!r}?" if near else f"there are: {', '.join(names) or 'none'}"
            raise ValueError(f"there is no output {name!r}; {guess}")


def specs(outputs: Sequence[OutputCommon], clock: Clock) -> list[Spec]:
    """What the bank drives, made of the config; touches no hardware and never raises."""
    return [
        Spec(
            name=config.name, output=_make(config, clock), safe=config.safe, hold_s=config.hold_s, made=config
        )
        for config in outputs
    ]  # fmt: skip


def _make(config: OutputCommon, clock: Clock) -> Output:
    try:
        return make_output(config, clock)
    except Exception as error:  # noqa: BLE001  # one driver that cannot be used keeps no other output from safe
        return Unmade(config.name, error)
