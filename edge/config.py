"""The whole config as one frozen tree, composed from each slice's own `config.py`.

One file may serve the daemon, the upstream process or both: the first needs `[site]`, the other `[sink]`.
"""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator

from drivers import boards
from edge.control.advice import advice_of_values
from edge.control.checks import check_values
from edge.control.config import (
    SCHEDULES_MAX,
    THERMOSTATS_MAX,
    ControlConfig,
    OutputCommon,
    ScheduleConfig,
    ThermostatConfig,
    installed_outputs_model,
)
from edge.local import LocalConfig
from edge.log import LogConfig
from edge.meters.config import MetersConfig
from edge.options import AtRunTime
from edge.poll.config import DeviceCommon, PollConfig, device_model, installed_devices_model
from edge.poll.derived import derived_mistakes
from edge.poll.fallback import fallback_mistakes
from edge.settings import CrossChecked
from edge.store.config import StoreConfig
from edge.tomllines import KeyPath
from edge.uplink.config import UplinkConfig
from edge.web.config import WebConfig
from sync.config import SinkConfig

ELSEWHERE: Final = "an option of the daemon; the upstream process does not read it"
SITE_HEADING: Final = re.compile(r"^[ \t]*(?:\[[ \t]*site[ \t]*\]|site[ \t]*[.=])", re.MULTILINE)
SINK_HEADING: Final = re.compile(r"^[ \t]*(?:\[[ \t]*sink[ \t]*\]|sink[ \t]*[.=])", re.MULTILINE)

Elsewhere = Annotated[Any, BeforeValidator(lambda _: None)]
"""Accepted and dropped: another process's secrets have no business in this one."""


class SiteConfig(BaseModel):
    """Which site this is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="the site's name on the wire, its own: at most 63 small letters, digits, - and _",
    )
    timezone: str = Field("UTC", description="IANA zone of schedules and of the page, such as Europe/Vienna")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value != "UTC":
            try:
                zoneinfo.ZoneInfo(value)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(
                    "this time zone is not known; use an IANA name such as Europe/Vienna"
                ) from None
        return value


class Config(CrossChecked):
    """What `tidewatt run` works by."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    site: SiteConfig = Field(description="which site this is")
    log: LogConfig = Field(LogConfig(), description="log lines")
    store: StoreConfig = Field(StoreConfig(), description="the local database")
    poll: PollConfig = Field(PollConfig(), description="how devices that fail are dealt with")
    uplink: UplinkConfig = Field(UplinkConfig(), description="delivery over MQTT")
    web: WebConfig = Field(WebConfig(), description="page, API and metrics")
    local: LocalConfig = Field(LocalConfig(), description="the command line's way to the daemon")
    meters: MetersConfig = Field(MetersConfig(), description="meter files of the utility")
    sink: SinkConfig | None = Field(None, description="the upstream process, where this file serves it too")
    devices: Annotated[tuple[DeviceCommon, ...], AtRunTime(installed_devices_model)] = Field(
        (), description="what is polled; a [[devices]] table each"
    )

    control: ControlConfig = Field(ControlConfig(), description="what holds for all outputs together")
    outputs: Annotated[tuple[OutputCommon, ...], AtRunTime(installed_outputs_model)] = Field(
        (), description="what is driven; an [[outputs]] table each"
    )
    thermostats: Annotated[tuple[ThermostatConfig, ...], Field(max_length=THERMOSTATS_MAX)] = Field(
        (), description="values that outputs hold; a [[thermostats]] table each"
    )
    schedules: Annotated[tuple[ScheduleConfig, ...], Field(max_length=SCHEDULES_MAX)] = Field(
        (), description="when outputs are on; a [[schedules]] table each"
    )

    @classmethod
    def cross_check(cls, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        """Doubled device names, what points are derived from, what control's tables say and this board has."""
        yield from cls._doubled_devices(values)
        yield from derived_mistakes(values.get("devices"), _device_adapter().validate_python)
        yield from fallback_mistakes(values.get("devices"), _device_adapter().validate_python)
        yield from check_values(values, boards.here(), _device_adapter().validate_python)

    @classmethod
    def advise(cls, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        """What control's tables allow and should not."""
        yield from advice_of_values(values, boards.here(), _device_adapter().validate_python)

    @staticmethod
    def _doubled_devices(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        seen: dict[str, int] = {}
        devices = values.get("devices")
        for index, device in enumerate(devices if isinstance(devices, list | tuple) else ()):
            name = device.get("name") if isinstance(device, Mapping) else None
            if not isinstance(name, str):
                continue
            if name in seen:
                yield (
                    ("devices", index, "name"),
                    f'"{name}" is the name of the {_ordinal(seen[name])} device already; give each its own',
                )
            seen.setdefault(name, index)


class UpstreamConfig(CrossChecked):
    """What `tidewatt sink` works by; the daemon's sections may stand beside it and are not judged here."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    log: LogConfig = Field(LogConfig(), description="log lines")
    sink: SinkConfig = Field(SinkConfig(), description="the upstream process")
    site: Elsewhere = Field(None, description=ELSEWHERE)
    store: Elsewhere = Field(None, description=ELSEWHERE)
    poll: Elsewhere = Field(None, description=ELSEWHERE)
    uplink: Elsewhere = Field(None, description=ELSEWHERE)
    web: Elsewhere = Field(None, description=ELSEWHERE)
    local: Elsewhere = Field(None, description=ELSEWHERE)
    meters: Elsewhere = Field(None, description=ELSEWHERE)
    devices: Elsewhere = Field(None, description=ELSEWHERE)
    control: Elsewhere = Field(None, description=ELSEWHERE)
    outputs: Elsewhere = Field(None, description=ELSEWHERE)
    thermostats: Elsewhere = Field(None, description=ELSEWHERE)
    schedules: Elsewhere = Field(None, description=ELSEWHERE)


def model_of(path: Path) -> type[Config] | type[UpstreamConfig]:
    """Whose config a file is: one with [sink] and without [site] is the upstream process's."""
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError:
        return Config  # loading it says what is wrong
    return UpstreamConfig if SINK_HEADING.search(text) and not SITE_HEADING.search(text) else Config


@functools.cache
def _device_adapter() -> TypeAdapter[DeviceCommon]:
    return TypeAdapter(device_model())


def _ordinal(index: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth")
    return words[index] if index < len(words) else f"{index + 1}th"
