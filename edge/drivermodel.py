"""Models of a config's tables that name a driver: flat, what every such table has plus the driver's own options."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, create_model

from edge.options import DISCRIMINATOR

NOT_OF_A_NAME: Final = re.compile(r"\W|_")

Common = TypeVar("Common", bound=BaseModel)


class Kind(Protocol):
    """What there is to know of a driver; see `drivers.catalog`."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def options(self) -> type[BaseModel]: ...


class Named(Protocol):
    @property
    def name(self) -> str: ...


def flat_model(common: type[Common], driver: Kind, suffix: str) -> type[Common]:
    """Common fields and the driver's options in one model, which passes as the driver's options.

    suffix  what its name ends with, after the driver's: "Device"
    """
    literal: Any = Literal
    tag = (literal[driver.name], Field(description=f"{driver.name}: {driver.summary}"))
    fields: dict[str, Any] = {DISCRIMINATOR: tag}
    title = "".join(part.capitalize() for part in NOT_OF_A_NAME.split(driver.name))
    bases = (common, cast(type[Common], driver.options))
    return create_model(f"{title}{suffix}", __base__=bases, __doc__=driver.summary, **fields)


def one_of(models: Iterable[type[BaseModel]], broken: Mapping[str, str], *marks: Any) -> Any:
    """The type of one table for pydantic: a union of flat models, told apart by `driver`.

    broken  the drivers that are there and not usable, and why: who names one is told that
    marks   of Annotated
    """
    annotated: Any = Annotated
    refuse = BeforeValidator(functools.partial(_refuse_broken, broken))
    return annotated[
        functools.reduce(operator.or_, models), Field(discriminator=DISCRIMINATOR), refuse, *marks
    ]


def _refuse_broken(broken: Mapping[str, str], table: Any) -> Any:
    named = table.get(DISCRIMINATOR) if isinstance(table, Mapping) else None
    if isinstance(named, str) and named in broken:
        raise ValueError(f"{DISCRIMINATOR}: {broken[named]}")
    return table


def list_of(one: Any, most: int, what: str) -> Any:
    """The type of the whole list of such tables: at most so many, and no name twice.  what: "devices"."""
    annotated, several = cast(Any, Annotated), cast(Any, tuple)
    check = AfterValidator(functools.partial(_no_name_twice, what))
    return annotated[several[one, ...], Field(max_length=most), check]


def _no_name_twice(what: str, tables: Sequence[Named]) -> Sequence[Named]:
    seen: set[str] = set()
    for table in tables:
        if table.name in seen:
            raise ValueError(f"two {what} are called {table.name!r}; give each a name of its own")
        seen.add(table.name)
    return tables
