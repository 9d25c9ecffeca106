"""What the config file says about devices: `[[devices]]`, told apart by `driver`, and `[poll]`.

A device's table is flat: what every device has, plus its driver's own options; anything else is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from drivers.base import DECIMALS_MAX, Clock, Device
from drivers.catalog import Catalog, Driver, installed
from edge.drivermodel import flat_model, list_of, one_of
from edge.poll import calibration
from edge.poll.deadband import Band
from edge.poll.plausibility import Limits

DEVICES_MAX: Final = 500

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
SeriesOrNone = Annotated[
    str, Field(max_length=200, pattern=r"^([a-z0-9][a-z0-9_-]{0,62}\.[a-z0-9][a-z0-9_-]{0,62})?$")
]


class PollConfig(BaseModel):
    """How the daemon deals with devices that fail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retry_first_s: float = Field(
        2.0,
        ge=0.1,
        le=3600,
        description="pause before a failed device is tried again, seconds; doubles each time",
    )
    retry_max_s: float = Field(
        60.0, ge=0.1, le=86_400, description="longest pause between two tries of a failed device, seconds"
    )


class PointConfig(BaseModel):
    """What is done with one point's values: `[devices.points.NAME]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    offset: Finite = Field(0.0, description="added to the raw value, in the point's unit")
    points: tuple[tuple[Finite, Finite], ...] = Field(
        (),
        description="calibration: two or more [raw, true] pairs, joined by straight lines; instead of offset",
    )
    decimals: int | None = Field(
        None, ge=0, le=DECIMALS_MAX, description="digits after the point that are kept; default: the driver's"
    )
    low: Finite | None = Field(None, description="a value below is not believed, in the point's unit")
    high: Finite | None = Field(None, description="a value above is not believed, in the point's unit")
    rate_max_per_min: Finite | None = Field(
        None, gt=0, description="a faster change is not believed, in the point's unit per minute"
    )
    confirm: int = Field(
        3, ge=1, le=1000, description="agreeing readings in a row that end the doubt after an implausible one"
    )
    dead_band: Finite = Field(
        0.0, ge=0, description="a smaller change is not stored, in the point's unit; 0 stores every reading"
    )
    silence_max_s: float = Field(
        300.0, gt=0, le=86_400, description="an unchanged value is stored at least so often, seconds"
    )

    fallback: SeriesOrNone = Field(
        "",
        description="series of the same unit that stands in while this point is bad or has no value, as an estimate "
        "that names it; thermostats and limits go by it then, and warn; what is stored stays this point's own",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.offset and self.points:
            raise ValueError(
                "offset and points exclude each other; add the offset to the true values of points"
            )
        if self.points:
            calibration.of_pairs(self.points)
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}; swap them")
        return self

    def calibration(self) -> calibration.Calibration:
        if self.points:
            return calibration.of_pairs(self.points)
        return calibration.of_offset(self.offset)

    def limits(self) -> Limits:
        return Limits(
            low=self.low, high=self.high, rate_max_per_min=self.rate_max_per_min, confirm=self.confirm
        )

    def band(self) -> Band:
        return Band(self.dead_band, self.silence_max_s)


class DeviceCommon(BaseModel):
    """What every device has, whatever its driver."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(
        description="the device's name: small letters, digits, _ and -; its series are NAME.POINT"
    )
    driver: str = Field(description="kind of device; `tidewatt drivers` lists them")
    interval_s: float = Field(
        10.0, ge=0.1, le=86_400, description="seconds between readings, counted from the full UTC hour"
    )
    timeout_s: float = Field(3.0, gt=0, le=600, description="longest wait for one reading, seconds")
    enabled: bool = Field(True, description="false: known but not read")
    bus: str = Field(
        "", max_length=63, description="devices of one bus are read one after another; default: the driver's"
    )
    points: dict[Name, PointConfig] = Field({}, description="settings of single points, by the point's name")


DeviceT = TypeVar("DeviceT", bound=DeviceCommon)


def device_model(catalog: Catalog | None = None) -> Any:
    """The type of one `[[devices]]` table for pydantic: a union over the catalog, told apart by `driver`."""
    known = catalog or installed()
    check = AfterValidator(functools.partial(_check_driver, known.drivers))
    models = (flat_model(DeviceCommon, driver, "Device") for driver in known.drivers.values())
    return one_of(models, known.broken, check)


def devices_model(catalog: Catalog | None = None) -> Any:
    """The type of the whole `devices` list: no name twice, at most DEVICES_MAX."""
    return list_of(device_model(catalog), DEVICES_MAX, "devices")


@functools.cache
def installed_devices_model() -> Any:
    """`devices_model` of the installed drivers, built once: it takes a hundredth of a second."""
    return devices_model()


def make_device(config: DeviceCommon, clock: Clock) -> Device:
    """The device a table describes; touches no hardware.  Raises whatever its driver raises."""
    return installed().drivers[config.driver].make(config, clock)


def _check_driver(drivers: Mapping[str, Driver], config: DeviceT) -> DeviceT:
    """Settings of a point that the device will never have are a mistake, where its points are known.

    Raises ValueError; DeviceMisconfigured is one, for a driver that cannot be asked for points and claims.
    """
    driver = drivers[config.driver]
    if driver.claims is not None:
        driver.claims(config)
    if driver.points is None:
        return config
    names = driver.points(config)
    for name in config.points:
        if name not in names:
            raise ValueError(
                f"points.{name}: device {config.name!r} has no such point; it has {', '.join(sorted(names))}"
            )
    return config
