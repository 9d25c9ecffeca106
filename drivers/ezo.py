"""Atlas Scientific EZO circuits in I2C mode: pH, ORP, conductivity (EC) and temperature (RTD).

Source: Atlas's datasheets EZO-pH, EZO-ORP, EZO-EC and EZO-RTD; codes and delays as in ESPHome's ezo.

A command is text; after its processing delay the answer is a code (1 done, 2 not understood, 254 not ready, 255
nothing asked) and text up to a zero byte.

A read makes the bus's reading thread wait 0.6-0.9 s, `restarts` 0.3 s more, the first one with an old firmware
2.1 s; a command that is not ready in time is waited for 0.6 s longer and then given up.  The bus itself is free
meanwhile.  `bus = "ezo-ph"` in its table gives a circuit a reading thread of its own.

Calibration belongs to the circuit and is never written.  Written are the temperature for the compensation, which
the circuit forgets without power, and (once, where it is missing) which values an EC circuit puts out.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import Field, model_validator

from drivers import i2c, smbus
from drivers.base import Clock, Device, DeviceMisconfigured, DeviceUnavailable, Point, Quality, Sample
from drivers.catalog import Claim, Driver

DONE: Final = 1
SYNTAX: Final = 2
PENDING: Final = 254
NOTHING: Final = 255
ANSWER_BYTES: Final = 42  # the longest answer, EC with four values, has 40
SHORT_S: Final = 0.3
LOOK_S: Final = 0.1
LOOKS_MAX: Final = 6

SUPPLY: Final = "supply"
RESTART: Final = "restart"
STATUS_POINTS: Final[Mapping[str, Point]] = {
    SUPPLY: Point(unit="V", decimals=3, low=2.5, high=6.0, apart=True),
    RESTART: Point(unit="", decimals=0, low=0.0, high=4.0, apart=True),
}
#: Why it started last, as `Status` says it: power, software, brown-out, watchdog, unknown.
RESTARTS: Final = "PSBWU"


class EzoKind(enum.StrEnum):
    """What a circuit measures."""

    PH = "ph"
    ORP = "orp"
    EC = "ec"
    RTD = "rtd"


class EcOutput(enum.StrEnum):
    """A value of an EC circuit, in the order in which it puts them out."""

    EC = "ec"
    TDS = "tds"
    SALINITY = "salinity"
    GRAVITY = "gravity"


EC_NAMES: Final[Mapping[EcOutput, str]] = {
    EcOutput.EC: "EC", EcOutput.TDS: "TDS", EcOutput.SALINITY: "S", EcOutput.GRAVITY: "SG",
}  # fmt: skip
EC_POINTS: Final[Mapping[EcOutput, Point]] = {
    EcOutput.EC: Point(unit="µS/cm", decimals=2, low=0.0, high=1_000_000.0),
    EcOutput.TDS: Point(unit="ppm", decimals=1, low=0.0, high=1_000_000.0),
    EcOutput.SALINITY: Point(unit="PSU", decimals=2, low=0.0, high=42.0),
    EcOutput.GRAVITY: Point(unit="", decimals=3, low=1.0, high=1.3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """answers: what `i` calls it; delay_s: of `R`; compensated: whether it takes a temperature."""

    answers: str
    address: int
    delay_s: float
    compensated: bool = False


CIRCUITS: Final[Mapping[EzoKind, Circuit]] = {
    EzoKind.PH: Circuit(answers="pH", address=0x63, delay_s=0.9, compensated=True),
    EzoKind.ORP: Circuit(answers="ORP", address=0x62, delay_s=0.9),
    EzoKind.EC: Circuit(answers="EC", address=0x64, delay_s=0.6, compensated=True),
    EzoKind.RTD: Circuit(answers="RTD", address=0x66, delay_s=0.6),
}
COMPENSATED_S: Final = 0.9  # processing delay of `RT`
SINGLE_POINTS: Final[Mapping[EzoKind, tuple[str, Point]]] = {
    EzoKind.PH: ("ph", Point(unit="pH", decimals=3, low=0.0, high=14.0)),
    EzoKind.ORP: ("orp", Point(unit="mV", decimals=1, low=-2000.0, high=2000.0)),
    EzoKind.RTD: ("temperature", Point(unit="°C", decimals=3, low=-126.0, high=1254.0)),
}
NO_PROBE_C: Final = -1023.0  # what an RTD circuit says without a probe


class EzoOptions(i2c.I2cOptions):
    """Options of `driver = "ezo"`."""

    kind: EzoKind = Field(description="what the circuit measures: ph, orp, ec or rtd")
    address: int | None = Field(
        None,
        ge=0x08,
        le=0x77,
        description="I2C address; default: the factory's, 0x63 ph, 0x62 orp, 0x64 ec, 0x66 rtd",
        json_schema_extra=i2c.HEX,
    )
    temperature_c: float | None = Field(
        None,
        ge=-20,
        le=200,
        allow_inf_nan=False,
        description="ph and ec: the water's temperature that each reading is compensated for, °C; absent: as the "
        "circuit has it, 25 °C after power-up",
    )
    outputs: tuple[EcOutput, ...] = Field(
        (EcOutput.EC,),
        min_length=1,
        description="ec: values to read, of ec, tds, salinity, gravity; one that the circuit has off is switched on",
    )
    restarts: bool = Field(
        False,
        description="true: also its supply voltage, and why it started last: 0 power, 1 software, 2 brown-out, "
        "3 watchdog, 4 unknown; 0.3 s longer",
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.temperature_c is not None and not CIRCUITS[self.kind].compensated:
            raise ValueError(f"{self.kind} is not compensated; leave temperature_c out")
        if self.outputs != (EcOutput.EC,) and self.kind is not EzoKind.EC:
            raise ValueError('outputs are those of kind = "ec"; leave them out')
        if len(set(self.outputs)) != len(self.outputs):
            raise ValueError("outputs name a value twice; name each once")
        return self


def points_of(options: EzoOptions) -> dict[str, Point]:
    if options.kind is EzoKind.EC:
        found = {str(output): EC_POINTS[output] for output in EcOutput if output in options.outputs}
    else:
        found = dict([SINGLE_POINTS[options.kind]])
    return found | (dict(STATUS_POINTS) if options.restarts else {})


def address_of(options: EzoOptions) -> int:
    return CIRCUITS[options.kind].address if options.address is None else options.address


class NotUnderstood(DeviceUnavailable):
    """Code 2: the firmware does not know the command, or it was disturbed."""


class Ezo(Device):
    """One circuit."""

    def __init__(self, options: EzoOptions) -> None:
        self._options = options
        self._circuit = CIRCUITS[options.kind]
        self._port = i2c.Port(options.i2c, address_of(options))
        self._points = points_of(options)
        self._order: list[str] = [name for name in self._points if name not in STATUS_POINTS]
        self._compensates_at_once = True
        self.bus = smbus.bus_name(options.i2c)

    @property
    def points(self) -> Mapping[str, Point]:
        return self._points

    def open(self) -> None:
        try:
            what = self._ask("i").split(",")
        except DeviceUnavailable as error:
            raise DeviceUnavailable(
                f"{error}; a circuit whose LED is not blue is in UART mode: switch it to I2C, check the datasheet"
            ) from error
        if len(what) < 2 or what[1].casefold() != self._circuit.answers.casefold():
            raise DeviceUnavailable(
                f"at {self._port} answers {','.join(what)!r}, no EZO {self._circuit.answers} circuit; set kind or "
                "address, or check the wiring"
            )
        self._compensates_at_once = True
        if self._options.kind is EzoKind.EC:
            self._order = self._switch_on()
        elif self._options.kind is EzoKind.RTD and self._ask("S,?").casefold() != "?s,c":
            raise DeviceMisconfigured(
                f"the RTD circuit at {self._port} does not speak °C; send it the command S,c once"
            )

    def _switch_on(self) -> list[str]:
        """The circuit's values in its order, with all of ours among them."""
        wanted = {EC_NAMES[output] for output in self._options.outputs}
        for name in sorted(wanted - set(self._outputs())):
            self._send(f"O,{name},1", SHORT_S)
        there = self._outputs()
        if not wanted <= set(there):
            raise DeviceUnavailable(
                f"the EC circuit at {self._port} puts out {', '.join(there) or 'nothing'}, and does not switch on "
                f"{', '.join(sorted(wanted - set(there)))}; check its firmware and its protocol lock (Plock)"
            )
        points = {name: str(output) for output, name in EC_NAMES.items()}
        return [points.get(name, "") for name in there]

    def _outputs(self) -> list[str]:
        return [name for name in self._ask("O,?").split(",")[1:] if name in EC_NAMES.values()]

    def read(self) -> Sequence[Sample]:
        fields = self._reading().split(",")
        if len(fields) != len(self._order):
            samples = [
                Sample(point=point, value=None, quality=Quality.BAD, reason="text")
                for point in self._points
                if point not in STATUS_POINTS
            ]
        else:
            named = zip(self._order, fields, strict=True)
            samples = [_sample(point, text) for point, text in named if point in self._points]
        return samples + (self._status() if self._options.restarts else [])

    def _reading(self) -> str:
        temperature_c = self._options.temperature_c
        if temperature_c is None:
            return self._send("R", self._circuit.delay_s)
        if self._compensates_at_once:
            try:
                return self._send(f"RT,{temperature_c:.2f}", COMPENSATED_S)
            except NotUnderstood:
                self._compensates_at_once = False  # an old firmware: in two steps, from now on
        self._send(f"T,{temperature_c:.2f}", SHORT_S)
        return self._send("R", self._circuit.delay_s)

    def _status(self) -> list[Sample]:
        fields = self._ask("Status").split(",")
        if len(fields) != 3 or len(fields[1]) != 1 or fields[1] not in RESTARTS:
            return [
                Sample(point=point, value=None, quality=Quality.BAD, reason="text") for point in STATUS_POINTS
            ]
        restart = Sample(point=RESTART, value=float(RESTARTS.index(fields[1])))
        return [_sample(SUPPLY, fields[2]), restart]

    def _ask(self, question: str) -> str:
        """An answer of the form `?NAME,...`; raises DeviceUnavailable for any other."""
        answer = self._send(question, SHORT_S)
        if not answer.casefold().startswith(f"?{question.partition(',')[0]}".casefold()):
            raise DeviceUnavailable(
                f"what is at {self._port} answers {question!r} by {answer!r}; check that it is an EZO circuit"
            )
        return answer

    def _send(self, command: str, delay_s: float) -> str:
        self._port.send(command.encode("ascii"))
        i2c.pause(delay_s)
        for _ in range(LOOKS_MAX):
            answer = self._port.take(ANSWER_BYTES)
            if answer[0] != PENDING:
                break
            i2c.pause(LOOK_S)
        return self._text(command, answer)

    def _text(self, command: str, answer: bytes) -> str:
        # The Pi's controller misreads a chip that stretches the clock: bit 7, which ASCII does not have.
        text = bytes(byte & 0x7F for byte in answer[1:]).partition(b"\0")[0].decode("ascii").strip()
        if answer[0] == DONE:
            return text
        if answer[0] == SYNTAX:
            raise NotUnderstood(
                f"the EZO circuit at {self._port} does not understand {command!r}; check its kind and firmware"
            )
        said = {
            PENDING: "is not ready in time; check its supply",
            NOTHING: "has forgotten what it was asked: it started anew; check its supply",
        }.get(answer[0], f"answers by code {answer[0]}; check that it is an EZO circuit")
        raise DeviceUnavailable(f"the EZO circuit at {self._port} {said} (it was asked {command!r})")


def _sample(point: str, text: str) -> Sample:
    try:
        value = float(text)
    except ValueError:
        return Sample(point=point, value=None, quality=Quality.BAD, reason="text" if text else "no-value")
    if not math.isfinite(value):
        return Sample(point=point, value=None, quality=Quality.BAD, reason="text")
    if point == "temperature" and value == NO_PROBE_C:
        return Sample(point=point, value=value, quality=Quality.BAD, reason="sentinel")
    return Sample(point=point, value=value)


def make(options: Any, _clock: Clock) -> Device:
    return Ezo(options)


def claims(options: EzoOptions) -> list[Claim]:
    return i2c.claims(options.i2c, address_of(options))


DRIVER: Final = Driver(
    name="ezo",
    summary="Atlas Scientific EZO circuits on I2C: pH, ORP, conductivity, temperature",
    options=EzoOptions,
    make=make,
    points=points_of,
    claims=claims,
)
