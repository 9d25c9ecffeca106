"""The shapes of what the API tells about outputs.  Levels are 0-1."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from edge.web.models import Seconds, Time, TimeOrNone

Level = Annotated[float, Field(ge=0, le=1, description="0 is off, 1 is on; between them for a dimmer")]
LevelOrNone = Annotated[Level | None, Field(description="null where it is not known")]
LayerName = Literal["default", "schedule", "controller", "macro", "override", "safety"]
GuardName = Literal["interlock", "value-limit", "input-lost", "on-time", "off-time", "shortest", "inrush"]


class Cause(TypedDict):
    """Who speaks for an output, and what for."""

    layer: LayerName
    guard: Annotated[GuardName | None, Field(description="which rule of safety; null in other layers")]
    name: Annotated[str, Field(description="the rule's name, such as that of a thermostat")]
    text: Annotated[str, Field(description="in words, to be read after `because`")]
    level: Annotated[Level, Field(description="the level it asks for")]
    until: Annotated[Time | None, Field(description="when it ends by itself; null where that is not known")]
    remaining_s: NotRequired[Annotated[Seconds | None, Field(description="null where that is not known")]]


class Override(TypedDict):
    """A person's word in force."""

    level: Level
    remaining_s: Seconds
    who: str
    why: str
    blind: Annotated[bool, Field(description="driven without its input, by somebody at the site")]


# Keys of a change that has none of them are left out; `from` is a word of Python.
Change = TypedDict(
    "Change",
    {
        "ts": Time,
        "output": str,
        "change": NotRequired[Annotated[str, Field(description="its id")]],
        "state": Annotated[
            Literal["pending", "success", "failed"], Field(description="what became of it at the hardware")
        ],
        "from": NotRequired[LevelOrNone],
        "to": Level,
        "layer": LayerName,
        "guard": NotRequired[GuardName],
        "cause": NotRequired[Annotated[str, Field(description="the rule's name")]],
        "text": NotRequired[Annotated[str, Field(description="in words, to be read after `because`")]],
        "who": NotRequired[Annotated[str, Field(description="the person, where one did it")]],
        "why": NotRequired[str],
        "error": NotRequired[Annotated[str, Field(description="why it failed")]],
    },
)
Change.__doc__ = "One change of an output."


class Output(TypedDict):
    """An output: what is decided and why, and what the hardware says."""

    name: str
    kind: Annotated[str, Field(examples=["heater"])]
    driver: NotRequired[str]
    dimmable: bool
    level: Annotated[Level, Field(description="what is decided")]
    wanted: NotRequired[Annotated[LevelOrNone, Field(description="what the hardware was asked for last")]]
    believed: NotRequired[Annotated[LevelOrNone, Field(description="what the hardware took last")]]
    read_back: NotRequired[Annotated[LevelOrNone, Field(description="what the hardware says it has")]]
    safe: NotRequired[Annotated[Level, Field(description="the level when in doubt")]]
    state: Literal["up", "faulted", "stuck", "starting"]
    fault: Annotated[str, Field(description="why it is not up, and what to do; empty: nothing")]
    local: NotRequired[Annotated[bool, Field(description="false: reached over a network")]]
    hold_by: NotRequired[
        Annotated[
            Literal["device", "release", "oe", "nobody"],
            Field(description="who makes it safe while the daemon is hung or dead"),
        ]
    ]
    hold_s: NotRequired[Seconds]
    age_s: NotRequired[Annotated[Seconds | None, Field(description="since it was written")]]
    written: NotRequired[TimeOrNone]
    cause: Annotated[Cause | None, Field(description="null before the first decision")]
    overruled: Annotated[list[Cause], Field(description="who wanted otherwise, the strongest first")]
    since: Annotated[Time | None, Field(description="since when this cause decides; null: not known")]
    since_s: NotRequired[Annotated[Seconds | None, Field(description="how long this cause decides")]]
    until: Annotated[Time | None, Field(description="when its cause ends by itself; null: not known")]
    override: Annotated[Override | None, Field(description="a person's word in force")]
    sentence: Annotated[str, Field(description="all of it in one sentence, times in the site's zone")]
    changes: Annotated[
        list[Change], Field(description="the newest ten changes, those before a restart too, newest first")
    ]


class Outputs(TypedDict):
    """All outputs, in the order of the config."""

    outputs: list[Output]
