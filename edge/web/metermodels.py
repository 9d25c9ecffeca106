"""JSON of meters, intervals and the file ledger.  Values are text: the file's own digits, and exact sums of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from edge.web.filemodels import MeterFile
from edge.web.models import Count, QualityName, Time

Day = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\d$", description="a day of the market, or of the meter's own clock")
]
Digits = Annotated[str, Field(description="a decimal number as it was written", examples=["1.250"])]
Stamp = Annotated[
    str, Field(description="the file's digits, in the meter's own clock", examples=["20260131000000"])
]


class MeterChannel(TypedDict):
    """A data stream of a meter, as its newest day describes it."""

    suffix: Annotated[str, Field(examples=["E1"])]
    unit: str
    interval_min: Count
    register: str
    serial: str
    days: Annotated[Count, Field(description="days that have intervals")]
    missing: Annotated[Count, Field(description="days between the first and the last without")]
    replaced: Annotated[Count, Field(description="channel-days of which a newer version came")]
    first: Day
    last: Day


class RegisterRead(TypedDict):
    """An accumulated read (NEM13), the newest version of it."""

    suffix: str
    register: str
    serial: str
    direction: Literal["I", "E", ""]
    from_at: Stamp
    to_at: Stamp
    previous_read: str
    current_read: str
    quantity: Digits
    unit: str
    quality: str


class MeterInfo(TypedDict):
    """A meter that files told of."""

    nmi: str
    utc_offset_min: Annotated[int, Field(description="its clock's distance from UTC, the same all year")]
    channels: list[MeterChannel]
    reads: list[RegisterRead]


class Meters(TypedDict):
    meters: list[MeterInfo]


class MeterInterval(TypedDict):
    """A value from `start` until `end`; `flag`, `method` and `reason` as the file has them, empty where they differ."""

    start: Time
    end: Time
    value: Annotated[Digits | None, Field(description="null where the file has none")]
    quality: Annotated[QualityName, Field(description="of several intervals the worst")]
    flag: str
    method: str
    reason: str
    count: Annotated[Count, Field(description="intervals of the file in it that have a value")]
    expected: Annotated[Count, Field(description="intervals there would be if none were missing")]


class Intervals(TypedDict):
    """A page of intervals, oldest first."""

    nmi: str
    suffix: str
    unit: str
    utc_offset: Annotated[str, Field(examples=["+10:00"])]
    resolution: str
    total: Annotated[Count, Field(description="how many there are without limit and offset")]
    intervals: list[MeterInterval]


class FileProblem(TypedDict):
    """What was wrong in a file."""

    member: Annotated[str, Field(description="name inside a zip")]
    line: Count
    code: Annotated[str, Field(description="a short word for programs")]
    text: str


class MeterFiles(TypedDict):
    files: list[MeterFile]


class MeterFileDetail(TypedDict):
    """A file with its first problems; `file.problems` counts all."""

    file: MeterFile
    problems: list[FileProblem]
