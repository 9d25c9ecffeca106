"""What a driver of another package may do wrong, put into words for its author: which driver, what, and where."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

from drivers.base import DeviceMisconfigured, DriverError, Point, Sample

POINT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
#: Below these a mistake is never the cause: they run, or check, what somebody else wrote.
NEVER_THE_CAUSE: Final = frozenset(
    {"drivers.base", "drivers.catalog", "drivers.faults", "drivers.driver", "drivers.usable"}
)
#: What another package's code may raise; sys.exit() in it is only a mistake like any other.
Raised: Final = (Exception, SystemExit)


class Unusable(Exception):
    """An entry point that names nothing usable; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Something that a driver brings and tidewatt calls.

    takes    the names of its arguments, in their order
    mistake  answer -> what is wrong with it, "" when nothing is
    needed   whether it may not be None
    """

    name: str
    takes: tuple[str, ...]
    mistake: Callable[[object], str] = lambda _answer: ""
    needed: bool = True


def told(error: BaseException) -> str:
    """ "ZeroDivisionError: division by zero (tidewatt_battery.py, line 33)"."""
    text = str(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """Where the driver, not what lies below it, raised: " (tidewatt_battery.py, line 33)"; "" where nobody knows."""
    if isinstance(error, SyntaxError):
        return ""  # its own text has the place
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__"))
        below = module.partition(".")[0] in {*sys.stdlib_module_names, "pydantic"}
        if not below and module not in NEVER_THE_CAUSE:
            return f" ({Path(frame.f_code.co_filename).name}, line {line})"
    return ""


def kind_of(value: object) -> str:
    """What a value is: "None", "dict", "the class Battery"."""
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def load_entry(entry: EntryPoint) -> object:
    """What an entry point names.  Raises Unusable."""
    match = entry.pattern.match(entry.value)
    if match is None or not match["attr"]:
        raise Unusable(
            f"the entry point's {entry.value!r} is no address; write module:OBJECT, such as tidewatt_battery:DRIVER"
        )
    try:
        found: object = entry.load()
    except SystemExit as error:
        raise Unusable(
            f"its import ended with SystemExit{place_of(error)}; put what runs under "
            'if __name__ == "__main__":, or update or remove its package'
        ) from error
    except Exception as error:  # another package's code may raise anything
        first = "correct the entry point, or " if _names_nothing(entry, error) else ""
        raise Unusable(f"cannot be imported ({told(error)}); {first}update or remove its package") from error
    return found


def _names_nothing(entry: EntryPoint, error: Exception) -> bool:
    """Whether what the entry point says is not there; an import further inside is the package's own matter."""
    if isinstance(error, AttributeError):
        return error.obj is not None and error.obj is sys.modules.get(entry.module)
    return isinstance(error, ModuleNotFoundError) and f"{entry.module}.".startswith(f"{error.name}.")


def role_mistake(owner: object, role: Role) -> str:
    """What is wrong with what a driver brings for a role, as far as can be told without calling it."""
    call = getattr(owner, role.name)
    if call is None and not role.needed:
        return ""
    wanted = f"{role.name}({', '.join(role.takes)})"
    if not callable(call):
        return f"{role.name} is no function but {kind_of(call)}; write {role.name}=lambda {', '.join(role.takes)}: …"
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return ""  # built in, or otherwise without one
    try:
        signature.bind(*role.takes)
    except TypeError:
        return f"{role.name} takes {signature}; it is called as {wanted}"
    return ""


def guarded(driver: str, role: Role, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; what it raises or answers wrongly names the driver and the role.

    It raises DriverError: its own ones as they are, DeviceMisconfigured for all that is a mistake in the driver.
    """

    @functools.wraps(call, updated=())
    def guard(*arguments: Any) -> Any:
        try:
            answer = call(*arguments)
            mistake = role.mistake(answer)
        except DriverError:
            raise
        except Raised as error:
            raise DeviceMisconfigured(f"driver {driver}: {role.name}() failed: {told(error)}") from error
        if mistake:
            raise DeviceMisconfigured(f"driver {driver}: {role.name}() {mistake}")
        return answer

    return guard


def must_be(kind: type, words: str) -> Callable[[object], str]:
    """A role's `mistake`: its answer has to be an instance of `kind`; words: "a Device"."""

    def mistake(answer: object) -> str:
        if isinstance(answer, kind):
            return ""
        call = (
            f"; write {answer.__name__}(…)" if isinstance(answer, type) and issubclass(answer, kind) else ""
        )
        return f"must return {words}, returned {kind_of(answer)}{call}"

    return mistake


def must_list(kind: type) -> Callable[[object], str]:
    """A role's `mistake`: its answer has to be a list of instances of `kind`."""

    def mistake(answer: object) -> str:
        if isinstance(answer, str | Mapping) or not isinstance(answer, Collection):
            return f"must return a list of {kind.__name__}, returned {kind_of(answer)}"
        wrong = next((each for each in answer if not isinstance(each, kind)), answer)
        return "" if wrong is answer else f"must return a list of {kind.__name__}, has {kind_of(wrong)} in it"

    return mistake


def names_mistake(points: object) -> str:
    """What is wrong with the points that are told without the hardware: names, or a mapping of names to Point."""
    if isinstance(points, Mapping):
        return points_mistake(points)
    if isinstance(points, str) or not isinstance(points, Collection):
        return f"must return a mapping of names to Point, returned {kind_of(points)}"
    return next(filter(None, map(_name_mistake, points)), "")


def points_mistake(points: Mapping[Any, Any]) -> str:
    """What is wrong with a mapping of names to Point, "" when nothing is."""
    for name, point in points.items():
        wrong = _name_mistake(name)
        if not wrong and not isinstance(point, Point):
            wrong = f"has {kind_of(point)} for {name!r}; write Point(unit=…)"
        if wrong:
            return wrong
    return ""


def _name_mistake(name: object) -> str:
    if isinstance(name, str) and POINT_NAME.fullmatch(name):
        return ""
    return f"names a point {name!r}; use 1 to 63 small letters, digits, _ and -, a letter or digit first"


def points_of(device: Any) -> Mapping[str, Point]:
    """What a device says of its points.  Raises DeviceMisconfigured for what are none, and what the driver raises."""
    points: object = device.points
    if inspect.ismethod(points):
        raise DeviceMisconfigured(
            "points must be a property or attribute, is a method; write @property above it"
        )
    if not isinstance(points, Mapping):
        raise DeviceMisconfigured(f"points must be a mapping of names to Point, is {kind_of(points)}")
    mistake = points_mistake(points)
    if mistake:
        raise DeviceMisconfigured(f"points {mistake}")
    return points


def samples_of(answer: object) -> tuple[Sample, ...]:
    """What `read` gave.  Raises DriverError for what are no samples."""
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        raise DriverError(f"read() must return a list of Sample, returned {kind_of(answer)}")
    samples = tuple(answer)
    for sample in samples:
        if not isinstance(sample, Sample):
            raise DriverError(f"read() must return a list of Sample, has {kind_of(sample)} in it")
        if not isinstance(sample.point, str):
            raise DriverError(
                f"read() must return a list of Sample, has one whose point is {kind_of(sample.point)}"
            )
    return samples
