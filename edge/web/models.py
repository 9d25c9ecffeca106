"""The shapes of the API's answers, which the OpenAPI document is made from.  Nothing is validated going out.

Times are ISO 8601 in UTC with milliseconds; ids of 64 bits are strings.  Clients ignore unknown keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", examples=["2026-01-31T08:00:00.000Z"])
]
TimeOrNone = Annotated[Time | None, Field(description="null while it has never happened")]
Seconds = Annotated[float, Field(ge=0, description="seconds")]
Count = Annotated[int, Field(ge=0)]
QualityName = Literal["good", "estimated", "bad"]
SeriesName = Annotated[str, Field(description="device.point", examples=["tank.temperature"])]
UnitName = Annotated[str, Field(description="empty for a plain number", examples=["°C"])]
ClockName = Literal["synced", "holdover", "unknown"]


class Error(TypedDict):
    """Every answer that is not a result."""

    error: Annotated[str, Field(description="what is wrong, and what to do")]
    param: NotRequired[Annotated[str, Field(description="the parameter that is wrong")]]


class Health(TypedDict):
    """The process is alive and its loop runs."""

    status: Literal["ok"]
    uptime_s: Seconds


class Readiness(TypedDict):
    """Whether it does its work: the store is open and polling runs."""

    ready: bool
    problems: list[str]


class ClockStatus(TypedDict):
    """What the site's clock is worth."""

    state: Annotated[ClockName, Field(description="unknown: times are a guess, corrected later")]
    now: Time
    boot_id: str


class Budget(TypedDict):
    """What the disk budget allows and has cost since the start."""

    budget_bytes: Count
    used_bytes: Annotated[dict[str, int], Field(description="by class: raw, summaries, history, kept")]
    thinned_rows: Annotated[
        dict[str, int], Field(description="undelivered rows that became summaries, by seconds of a summary")
    ]
    dropped_rows: Annotated[Count, Field(description="readings dropped undelivered for want of room")]
    pressure: Annotated[int, Field(ge=1, description="by how much the caps at the source are tightened")]


class StoreStatus(TypedDict):
    """The local database."""

    path: str
    log: Annotated[str | None, Field(description="id of the log that is being written")]
    readings: Annotated[Count, Field(description="raw readings kept here")]
    events: Count
    stored_total: Annotated[Count, Field(description="readings committed since the start")]
    queued: Annotated[Count, Field(description="readings that wait for the next commit")]
    dropped: Annotated[dict[str, int], Field(description="readings that were not stored, by reason")]
    capped: NotRequired[
        Annotated[Count, Field(description="values of registers left out between two kept ones")]
    ]
    events_dropped: NotRequired[Annotated[Count, Field(description="events that were not stored")]]
    events_capped: NotRequired[Annotated[Count, Field(description="events of which only the number is kept")]]
    budget: NotRequired[Budget | None]
    flush_interval_s: Annotated[float, Field(description="what a power cut can lose at most, in seconds")]
    last_commit: TimeOrNone
    bytes: Annotated[Count, Field(description="size of the database files")]
    bytes_written: Annotated[Count, Field(description="by tidewatt since the start")]
    bytes_written_day: NotRequired[
        Annotated[float | None, Field(description="by tidewatt a day; null: it has not run for an hour yet")]
    ]
    disk_written_day_bytes: Annotated[
        float | None,
        Field(description="a day to the whole disk, by tidewatt and all other programs; null: as above"),
    ]
    on_card: NotRequired[Annotated[bool, Field(description="whether the disk is a Pi's card")]]
    card_life_years: Annotated[
        float | None,
        Field(
            description="years until a Pi's card has had 500 full writes at that rate; null: no card, or as above"
        ),
    ]
    disk_free_bytes: Count
    commits_total: NotRequired[Annotated[Count, Field(description="transactions since the start")]]


class DeviceCounts(TypedDict):
    """How many devices are in which state."""

    total: Count
    up: Count
    failing: Count
    parked: Count
    disabled: Count


class StreamStatus(TypedDict):
    """How far one stream has been delivered."""

    head: Annotated[Count, Field(description="the last position given out")]
    settled: Annotated[Count, Field(description="positions that upstream holds")]
    backlog: Annotated[Count, Field(description="positions that upstream does not hold yet")]
    oldest_unsent_age_s: Annotated[Seconds | None, Field(description="null when nothing waits")]
    holes: Annotated[Count, Field(description="positions that will never come, with a reason on record")]
    refused: Annotated[Count, Field(description="rows that upstream put aside as unreadable")]
    first_waiting: NotRequired[Annotated[Count, Field(description="0 when nothing waits")]]
    oldest_unsent: NotRequired[TimeOrNone]
    fragments: NotRequired[Annotated[Count, Field(description="into how many ranges the backlog falls")]]
    ranges: NotRequired[Annotated[list[list[int]], Field(description="the first ten of them: [first, last]")]]


class LaneStatus(TypedDict):
    """One of the two lanes: live follows what is new, backlog fills what is missing."""

    in_flight: Annotated[Count, Field(description="batches that wait for their answer")]
    limit: Annotated[Count, Field(description="how many may at present")]
    limit_max: Count
    bytes_in_flight: Count
    rows_s: Annotated[float, Field(ge=0, description="rows confirmed a second, over the last seconds")]
    bytes_s: Annotated[float, Field(ge=0, description="payload bytes confirmed a second")]
    behind_s: Annotated[Seconds | None, Field(description="age of the oldest that waits; null: nothing does")]


class DeliveryStatus(TypedDict):
    """The way upstream."""

    enabled: bool
    state: Literal["connected", "connecting", "disabled"]
    why: NotRequired[Annotated[str, Field(description="why it is not connected")]]
    broker: str
    ledger: Annotated[str, Field(description="the upstream database this site delivers to; empty: none yet")]
    bound: bool
    candidate: Annotated[str, Field(description="the upstream database that offers itself")]
    advice: Annotated[str, Field(description="what a person has to do; empty: nothing")]
    last_answer: TimeOrNone
    in_flight: Annotated[Count, Field(description="batches under way")]
    connects: NotRequired[
        Annotated[Count, Field(description="how often a connection came to stand since the start")]
    ]
    batches_sent: NotRequired[Annotated[Count, Field(description="since the start, repeats included")]]
    bytes_sent: NotRequired[Count]
    rows_sent: NotRequired[Count]
    lanes: NotRequired[Annotated[dict[str, LaneStatus], Field(description="live and backlog")]]
    rows_s: NotRequired[Annotated[float, Field(ge=0, description="rows confirmed a second, both lanes")]]
    bytes_s: NotRequired[Annotated[float, Field(ge=0, description="payload bytes confirmed a second")]]
    eta_s: NotRequired[
        Annotated[Seconds | None, Field(description="until nothing waits, at this rate; null: nothing moves")]
    ]
    streams: dict[str, StreamStatus]


class ConfigStatus(TypedDict):
    """The config file."""

    path: str
    loaded: Time
    error: Annotated[str, Field(description="why the newest version was refused; empty: it was not")]


class MeterImport(TypedDict):
    """A meter file on its way in."""

    name: str
    size_bytes: Count
    done_bytes: Annotated[Count, Field(description="read so far, of the file or of what was packed in it")]
    days: Count
    reads: Count


class MeterFilesStatus(TypedDict):
    """Meter files; /api/v1/files lists them."""

    ended: Annotated[Count, Field(description="imports that came to an end since the start")]
    importing: list[MeterImport]


class Status(TypedDict):
    """The site at a glance."""

    site: str
    version: str
    started: Time
    uptime_s: Seconds
    health: Literal["ok", "degraded", "failing"]
    problems: Annotated[list[str], Field(description="what is wrong, and what to do")]
    clock: ClockStatus
    store: StoreStatus
    devices: DeviceCounts
    delivery: DeliveryStatus
    meter_files: NotRequired[Annotated[MeterFilesStatus | None, Field(description="null: none are taken in")]]
    config: ConfigStatus


class PointValue(TypedDict):
    """The newest value of one point of a device."""

    series: SeriesName
    unit: UnitName
    decimals: NotRequired[Annotated[Count | None, Field(description="that are worth showing")]]
    value: Annotated[float | None, Field(description="null when there is none")]
    quality: Annotated[QualityName | None, Field(description="null before the first reading")]
    reason: Annotated[str, Field(description="why it is not good")]
    ts: TimeOrNone
    age_s: Seconds | None


class Device(TypedDict):
    """A configured device."""

    name: str
    driver: str
    bus: Annotated[str, Field(description="devices on one bus are read one after the other")]
    bus_waits: NotRequired[Annotated[str, Field(description="what its bus hangs in; empty: nothing")]]
    state: Literal["up", "failing", "parked", "disabled", "starting", "stuck"]
    interval_s: Seconds
    points: list[PointValue]
    polls: Count
    errors: Count
    late: Annotated[Count, Field(description="ticks that were skipped because they came too late")]
    lateness_s: NotRequired[Annotated[Seconds, Field(description="of the newest poll")]]
    last_error: str
    last_error_at: TimeOrNone
    next_retry_s: Annotated[Seconds | None, Field(description="null when none is due")]


class Devices(TypedDict):
    """All devices, in the order of the config."""

    devices: list[Device]


class Series(TypedDict):
    """A series that has history."""

    name: SeriesName
    unit: UnitName
    decimals: Count
    n: NotRequired[Annotated[Count, Field(description="readings kept here")]]
    first: NotRequired[TimeOrNone]
    last: NotRequired[TimeOrNone]
    value: float | None
    quality: QualityName | None
    ts: TimeOrNone


class SeriesList(TypedDict):
    """All series."""

    series: list[Series]


class HistoryReading(TypedDict):
    """A reading, or with a resolution the mean of an interval that begins at `ts`."""

    ts: Time
    value: float | None
    quality: NotRequired[QualityName]
    reason: NotRequired[str]
    clock: NotRequired[ClockName]
    seq: NotRequired[Annotated[int, Field(description="position in the log")]]
    span_s: NotRequired[Annotated[int, Field(description="length of the interval that ends at `ts`")]]
    n: NotRequired[Annotated[Count, Field(description="readings in the mean")]]
    min: NotRequired[float | None]
    max: NotRequired[float | None]


class SeriesReadings(TypedDict):
    """A piece of one series' history, oldest first."""

    series: SeriesName
    unit: UnitName
    readings: list[HistoryReading]


class Readings(TypedDict):
    """History of one or more series."""

    readings: list[SeriesReadings]


class Event(TypedDict):
    """Something that happened."""

    seq: int
    ts: Time
    kind: Annotated[str, Field(examples=["device-failed"])]
    subject: Annotated[str, Field(description="what it happened to; empty: the site")]
    severity: Literal["info", "warning", "alarm"]
    body: dict[str, Any]


class Events(TypedDict):
    """Events, newest first."""

    events: list[Event]
