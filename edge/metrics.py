"""Prometheus metrics.  What is counted anyway is read on demand; only durations are noted as they pass.

The histograms are observed by the poll runner, the recorder and `probe_loop_lag`; everything else comes
out of the status and the devices (`Source`), so that the hot path pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from edge.clock import Clock

LATENESS_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LAG_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
COMMIT_BUCKETS_S: Final = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LAG_INTERVAL_S: Final = 1.0

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
POLL_LATENESS: Final = prometheus_client.Histogram(
    "tidewatt_poll_lateness_seconds",
    "How much later than due a poll began",
    buckets=LATENESS_BUCKETS_S,
    registry=REGISTRY,
)
COMMIT_SECONDS: Final = prometheus_client.Histogram(
    "tidewatt_commit_seconds",
    "How long a commit of readings took, lock and disk included",
    buckets=COMMIT_BUCKETS_S,
    registry=REGISTRY,
)
LOOP_LAG: Final = prometheus_client.Histogram(
    "tidewatt_loop_lag_seconds",
    "How much later than asked the event loop woke a sleeper",
    buckets=LAG_BUCKETS_S,
    registry=REGISTRY,
)
prometheus_client.ProcessCollector(registry=REGISTRY)


class Source(Protocol):
    """Where the counters are: the same that the API shows."""

    def status(self) -> Mapping[str, Any]:
        """The status document."""

    def devices(self) -> Sequence[Mapping[str, Any]]:
        """The devices with their counters."""


async def probe_loop_lag(clock: Clock, observe: Callable[[float], None] = LOOP_LAG.observe) -> None:
    """Note once a second how late the loop wakes, until cancelled."""
    while True:
        began_s = clock.monotonic_s()
        await clock.sleep(LAG_INTERVAL_S)
        observe(max(0.0, clock.monotonic_s() - began_s - LAG_INTERVAL_S))


class Metrics:
    """What `/metrics` answers with: `REGISTRY`, and what `source` knows at that moment."""

    def __init__(self, source: Source, registry: CollectorRegistry = REGISTRY) -> None:
        self._collectors: tuple[Collector, ...] = (registry, SourceCollector(source))

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            yield from collector.collect()

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type, as the asker takes it."""
        encoder, media = choose_encoder(accept)
        return encoder(self), media


class SourceCollector(Collector):
    """Makes metrics out of the status and the devices.  A key that is not there makes no metric."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        status = self._source.status()
        yield _build_info(status)
        yield from _polls(self._source.devices())
        yield from _store(status.get("store") or {})
        yield from _delivery(status.get("delivery") or {})
        clock = status.get("clock") or {}
        yield _gauge(
            "tidewatt_clock_synced", "1 while the clock is disciplined", float(clock.get("state") == "synced")
        )
        yield _gauge("tidewatt_problems", "Problems on the status page", len(status.get("problems") or ()))


def _build_info(status: Mapping[str, Any]) -> Metric:
    family = GaugeMetricFamily(
        "tidewatt_build_info", "Always 1; the labels say what runs", labels=("version", "site")
    )
    family.add_metric((str(status.get("version", "")), str(status.get("site", ""))), 1)
    return family


def _polls(devices: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    polls = CounterMetricFamily("tidewatt_polls", "Polls of a device that began", labels=("device",))
    errors = CounterMetricFamily("tidewatt_poll_errors", "Polls of a device that failed", labels=("device",))
    up = GaugeMetricFamily("tidewatt_device_up", "1 while a device answers", labels=("device",))
    late = 0
    for device in devices:
        name = (str(device["name"]),)
        polls.add_metric(name, device.get("polls", 0))
        errors.add_metric(name, device.get("errors", 0))
        up.add_metric(name, float(device.get("state") == "up"))
        late += device.get("late", 0)
    yield from (polls, errors, up)
    yield _counter("tidewatt_poll_late", "Ticks that were skipped because they came too late", late)


def _store(store: Mapping[str, Any]) -> Iterator[Metric]:
    for key, name, words in (
        ("stored_total", "tidewatt_readings_stored", "Readings committed to the local database"),
        ("commits_total", "tidewatt_commits", "Transactions committed to the local database"),
        ("bytes_written", "tidewatt_disk_bytes_written", "Bytes the process had the kernel write to disks"),
    ):
        if store.get(key) is not None:
            yield _counter(name, words, store[key])
    for key, name, words in (
        ("queued", "tidewatt_readings_queued", "Readings in memory that wait for the next commit"),
        ("bytes", "tidewatt_database_bytes", "Size of the local database"),
        (
            "disk_written_day_bytes",
            "tidewatt_disk_bytes_written_per_day",
            "Writes of everybody to the disk, at this rate",
        ),
        (
            "card_life_years",
            "tidewatt_card_life_years",
            "Years until a card has had 500 full writes at this rate",
        ),
        ("disk_free_bytes", "tidewatt_disk_free_bytes", "Free space where the database lies"),
    ):
        if store.get(key) is not None:
            yield _gauge(name, words, store[key])
    for key, name, words in (
        ("capped", "tidewatt_readings_capped", "Values of registers left out between two that are kept"),
        ("events_dropped", "tidewatt_events_dropped", "Events that were not stored: the queue was full"),
        (
            "events_capped",
            "tidewatt_events_capped",
            "Events beyond the cap an hour, of which only the number is kept",
        ),
    ):
        if store.get(key) is not None:
            yield _counter(name, words, store[key])
    if store.get("budget"):
        yield from _budget(store["budget"])
    dropped = CounterMetricFamily(
        "tidewatt_readings_dropped", "Readings that were not stored, by reason", labels=("reason",)
    )
    for reason, count in ({"queue-full": 0} | (store.get("dropped") or {})).items():
        dropped.add_metric((str(reason),), count)
    yield dropped


def _budget(budget: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("tidewatt_store_budget_bytes", "Disk that the database may take", budget["budget_bytes"])
    used = GaugeMetricFamily("tidewatt_store_used_bytes", "Disk that it takes, by class", labels=("class",))
    for name, size in budget["used_bytes"].items():
        used.add_metric((name,), size)
    thinned = CounterMetricFamily(
        "tidewatt_thinned_rows", "Undelivered rows that became summaries, by their seconds", labels=("span",)
    )
    for span_s, rows in budget["thinned_rows"].items():
        thinned.add_metric((span_s,), rows)
    yield from (used, thinned)
    yield _counter(
        "tidewatt_overflow_rows", "Readings dropped undelivered for want of room", budget["dropped_rows"]
    )


LANE_METRICS: Final = (
    ("in_flight", "tidewatt_lane_batches_in_flight", "Batches that wait for their answer"),
    ("limit", "tidewatt_lane_batches_in_flight_limit", "Batches that may wait for their answer at present"),
    ("bytes_in_flight", "tidewatt_lane_bytes_in_flight", "Payload bytes that wait for their answer"),
    ("rows_s", "tidewatt_lane_rows_per_second", "Rows confirmed, over the last seconds"),
    ("bytes_s", "tidewatt_lane_bytes_per_second", "Payload bytes confirmed, over the last seconds"),
    ("behind_s", "tidewatt_lane_behind_seconds", "Age of the oldest row that waits in the lane"),
)


def _lanes(lanes: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    for key, name, words in LANE_METRICS:
        family = GaugeMetricFamily(name, words, labels=("lane",))
        for lane, numbers in lanes.items():
            family.add_metric((lane,), numbers[key] or 0.0)
        yield family


def _delivery(delivery: Mapping[str, Any]) -> Iterator[Metric]:
    connected = float(delivery.get("state") == "connected")
    yield _gauge("tidewatt_mqtt_connected", "1 while the broker is connected", connected)
    for key, name, words in (
        ("connects", "tidewatt_mqtt_connects", "Connections to the broker that came to stand"),
        ("batches_sent", "tidewatt_batches_sent", "Batches given to the broker, repeats included"),
        ("bytes_sent", "tidewatt_bytes_sent", "Payload bytes given to the broker, repeats included"),
    ):
        if delivery.get(key) is not None:
            yield _counter(name, words, delivery[key])
    if delivery.get("lanes"):
        yield from _lanes(delivery["lanes"])
    backlog = GaugeMetricFamily(
        "tidewatt_backlog_rows", "Rows that upstream does not hold yet", labels=("stream",)
    )
    oldest = GaugeMetricFamily(
        "tidewatt_oldest_unsent_age_seconds",
        "Age of the oldest row that upstream does not hold",
        labels=("stream",),
    )
    holes = GaugeMetricFamily(
        "tidewatt_hole_rows", "Positions that will never come, each with its reason", labels=("stream",)
    )
    refused = GaugeMetricFamily(
        "tidewatt_refused_rows", "Rows in upstream's dead letters, as this run was told", labels=("stream",)
    )
    for stream, state in (delivery.get("streams") or {}).items():
        holes.add_metric((stream,), state["holes"])
        refused.add_metric((stream,), state["refused"])
        backlog.add_metric((stream,), state["backlog"])
        oldest.add_metric((stream,), state["oldest_unsent_age_s"] or 0.0)
    yield from (backlog, oldest, holes, refused)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(name, words, value=value)
