"""`/api/v1/outputs` and its part of the live stream, over real control of simulated outputs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import TypeAdapter

from drivers.plant import OutputFault, forget, plant
from edge.clock import FakeClock
from edge.config import Config
from edge.control.compile import compile_rules
from edge.control.service import Control
from edge.image import Image
from edge.supervisor import Problems
from edge.web.outputmodels import Outputs
from edge.web.sse import DEVICE_ROUNDS, Hub, lasting
from tests.unit.control_parts import until
from tests.unit.test_web_api import connect
from tests.webdata import FakeSite, cause, output

pytestmark = pytest.mark.anyio
PLANT = "test-web-outputs"


class Controlled(FakeSite):
    """Its outputs are real ones."""

    def __init__(self, clock: FakeClock, control: Control) -> None:
        super().__init__(clock)
        self.control = control

    def outputs(self) -> Sequence[Mapping[str, Any]]:
        return [self.control.why(output["name"]) for output in self.control.outputs()]


def config() -> Config:
    return Config.model_validate(
        {
            "site": {"name": "reef-1"},
            "outputs": [
                {"name": "heater", "driver": "sim", "plant": PLANT, "kind": "heater", "safe": 0},
                {
                    "name": "light", "driver": "sim", "plant": PLANT, "kind": "light", "safe": 0, "dimmable": True,
                    "default": 0.5,
                },
            ],
            "thermostats": [{"name": "tank", "input": "tank.temperature", "target": 25, "heat": ["heater"]}],
        }
    )  # fmt: skip


@asynccontextmanager
async def controlled(folder: Path) -> AsyncIterator[Controlled]:
    forget(PLANT)
    clock, site = FakeClock(), config()
    control = Control(
        rules=compile_rules(site), outputs=site.outputs, database=folder / "control.db", clock=clock,
        image=Image(), problems=Problems(), put=lambda _kind, _subject, _severity, _body: None,
    )  # fmt: skip
    await control.begin()
    try:
        yield Controlled(clock, control)
    finally:
        await control.close()
        forget(PLANT)


async def ticked(site: Controlled, name: str, **wanted: Any) -> dict[str, Any]:
    """Tick until the output says so."""

    def so() -> bool:
        site.clock.pass_s(1.0)  # type: ignore[attr-defined]
        site.control.loop.tick()
        told = site.control.why(name)
        return all(told[key] == value for key, value in wanted.items())

    await until(so, f"{name} with {wanted}")
    return site.control.why(name)


async def asked(site: FakeSite) -> dict[str, Any]:
    async with connect(site) as client:
        answer = await client.get("/api/v1/outputs")
    assert answer.status_code == httpx.codes.OK
    TypeAdapter(Outputs).validate_python(answer.json(), strict=True)
    return {output["name"]: output for output in answer.json()["outputs"]}


async def test_before_the_first_decision_outputs_are_told_too(tmp_path: Path) -> None:
    async with controlled(tmp_path) as site:
        told = await asked(site)
        assert list(told) == ["heater", "light"]
        assert told["heater"]["cause"] is None
        assert told["heater"]["level"] == 0.0


async def test_reasons_and_changes_of_real_outputs_are_told_as_documented(tmp_path: Path) -> None:
    async with controlled(tmp_path) as site:
        await ticked(site, "light", believed=0.5)
        told = await asked(site)
        heater, light = told["heater"], told["light"]
        assert heater["cause"]["layer"] == "safety"
        assert heater["cause"]["guard"] == "input-lost"
        assert "tank.temperature" in heater["cause"]["text"]
        assert (light["level"], light["state"], light["hold_by"]) == (0.5, "up", "release")
        assert light["changes"][0]["to"] == 0.5
        assert light["changes"][0]["layer"] == "default"


async def test_a_fault_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with controlled(tmp_path) as site:
        await ticked(site, "light", believed=0.5)
        plant(PLANT).fail("light", OutputFault.REFUSE)
        fault = (await ticked(site, "light", state="faulted"))["fault"]
        assert "refuses" in fault
        assert (await asked(site))["light"]["fault"] == fault


def told(message: bytes) -> dict[str, Any]:
    found = {}
    for part in message.decode().strip().split("\n\n"):
        kind, data = part.split("\n")
        found[kind.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
    return found


async def test_a_change_of_an_output_is_told_at_once_and_its_age_seldom() -> None:
    clock = FakeClock()
    site = FakeSite(clock)
    hub = Hub(site, clock)
    with hub.join():
        async with anyio.create_task_group() as group:
            group.start_soon(hub.run)
            seen = await hub.next_round(0)
            assert len(told(await hub.messages(0))["outputs"]["outputs"]) == len(site.outputs_told)
            rounds = []
            for number in range(2 * DEVICE_ROUNDS):
                site.outputs_told = [{**one, "age_s": float(number)} for one in site.outputs_told]
                await clock.advance(1.0)
                seen = await hub.next_round(seen)
                if "outputs" in told(await hub.messages(seen - 1)):
                    rounds.append(number)
            assert len(rounds) == 2
            why = cause("controller", "tank", "it is cold", 1.0)
            site.outputs_told[0] = output("heater", "heater", 1.0, why)
            await clock.advance(1.0)
            seen = await hub.next_round(seen)
            assert told(await hub.messages(seen - 1))["outputs"]["outputs"][0]["level"] == 1.0
            group.cancel_scope.cancel()


def test_what_only_passes_is_no_change() -> None:
    why = cause("override", "anna", "anna set it", 1.0)
    first = output(
        "heater", "heater", 1.0, why | {"remaining_s": 12.0}, age_s=1.0, until="2026-01-01T00:00:00.000Z"
    )
    later = output(
        "heater", "heater", 1.0, why | {"remaining_s": 11.0}, age_s=2.0, until="2026-01-01T00:00:00.001Z"
    )
    assert lasting(first) == lasting(later)
    assert lasting(first) != lasting(later | {"overruled": [why]})
    assert lasting(first) != lasting(later | {"believed": 0.0})
