"""What a driver is: a kind of device or output, and the hardware that each needs for itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from drivers.base import Clock, Device, HoldBy, Output, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A piece of hardware that one device or output needs for itself.

    what  its name for people, the same for everybody who needs it: "GPIO 17", "i2c-1 0x40 channel 3"
    by    who may share it: claims of the same `by` go together (the channels of a chip share its OE pin)
    pin   the GPIO's number where it is one, for `boards.refuse`
    use   what the pin is needed for: "output", "input" or "pwm"
    """

    what: str
    by: str = ""
    pin: int | None = None
    use: str = ""

    def clashes(self, other: Claim) -> bool:
        """Whether two devices or outputs with these claims cannot both work."""
        return self.what == other.what and not (self.by and self.by == other.by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A kind of device.

    name     as the config's `driver` says it
    summary  one line for `tidewatt drivers`
    options  its own options as a pydantic model (extra="forbid", frozen, every field described)
    make     (options, clock) -> device; only stores its arguments, touches no hardware
    points   options -> the points it will deliver, where they are known without the hardware
    find     the options of each such device on this machine, for `tidewatt scan`; where it can be told
    claims   options -> the hardware that the device needs for itself
    """

    name: str
    summary: str
    options: type[BaseModel]
    make: Callable[[Any, Clock], Device]
    points: Callable[[Any], Collection[str]] | None = None
    find: Callable[[], Sequence[Mapping[str, object]]] | None = None
    claims: Callable[[Any], Sequence[Claim]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDriver:
    """A kind of output.

    name      as the config's `driver` says it
    summary   one line for `tidewatt drivers`
    options   its own options as a pydantic model (extra="forbid", frozen, every field described)
    make      (options, terms, clock) -> output; only stores its arguments, touches no hardware
    hold_by   options -> who makes it safe while the daemon is hung or dead
    dimmable  options -> whether levels between 0 and 1 mean something
    local     options -> False for what is reached over a network
    claims    options -> the hardware that the output needs for itself
    refuse    (options, terms) -> what of the common options it cannot do, as a sentence; "" when it can
    advise    (options, terms) -> what works but should be done better, as a sentence; "" when all is well
    held      who makes it safe while the daemon is hung or dead, as `tidewatt drivers` tells it
    """

    name: str
    summary: str
    options: type[BaseModel]
    make: Callable[[Any, Terms, Clock], Output]
    hold_by: Callable[[Any], HoldBy]
    dimmable: Callable[[Any], bool] = lambda _options: False
    local: Callable[[Any], bool] = lambda _options: True
    claims: Callable[[Any], Sequence[Claim]] = lambda _options: ()
    refuse: Callable[[Any, Terms], str] = lambda _options, _terms: ""
    advise: Callable[[Any, Terms], str] = lambda _options, _terms: ""
    held: str = "its driver does not say"
