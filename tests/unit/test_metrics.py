"""The metrics: names, units, help texts, and numbers that are the slices' own."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.clock import FakeClock
from edge.metrics import LAG_INTERVAL_S, Metrics, probe_loop_lag
from tests.webdata import FakeSite

WANTED = {
    "tidewatt_polls_total", "tidewatt_poll_errors_total", "tidewatt_poll_late_total", "tidewatt_device_up",
    "tidewatt_poll_lateness_seconds_bucket", "tidewatt_loop_lag_seconds_bucket", "tidewatt_commit_seconds_bucket",
    "tidewatt_readings_stored_total", "tidewatt_readings_dropped_total", "tidewatt_readings_queued",
    "tidewatt_backlog_rows", "tidewatt_oldest_unsent_age_seconds", "tidewatt_mqtt_connects_total",
    "tidewatt_batches_sent_total",
    "tidewatt_bytes_sent_total", "tidewatt_commits_total", "tidewatt_disk_bytes_written_total",
    "tidewatt_database_bytes", "tidewatt_disk_free_bytes", "tidewatt_clock_synced", "tidewatt_mqtt_connected",
    "tidewatt_lane_batches_in_flight", "tidewatt_lane_batches_in_flight_limit", "tidewatt_lane_bytes_in_flight",
    "tidewatt_lane_rows_per_second", "tidewatt_lane_bytes_per_second", "tidewatt_lane_behind_seconds",
    "tidewatt_hole_rows", "tidewatt_refused_rows", "tidewatt_store_budget_bytes", "tidewatt_store_used_bytes",
    "tidewatt_thinned_rows_total", "tidewatt_overflow_rows_total", "tidewatt_events_dropped_total",
    "tidewatt_events_capped_total", "tidewatt_readings_capped_total",
    "tidewatt_problems", "tidewatt_build_info", "process_resident_memory_bytes", "process_cpu_seconds_total",
}  # fmt: skip


def scrape(site: FakeSite) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values -> number."""
    text, media = Metrics(site).expose("")
    assert media.startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture
def site() -> FakeSite:
    return FakeSite(FakeClock())


def test_everything_that_is_watched_is_there(site: FakeSite) -> None:
    assert set(scrape(site)) >= WANTED


def test_every_family_has_a_help_text_and_no_creation_times(site: FakeSite) -> None:
    text = Metrics(site).expose("")[0].decode()
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    typed = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert typed == helped
    assert "_created" not in text


def test_the_numbers_are_those_of_the_slices(site: FakeSite) -> None:
    found = scrape(site)
    status = site.status()
    assert found["tidewatt_poll_errors_total"]["return_probe",] == 42
    assert found["tidewatt_device_up"]["return_probe",] == 0
    assert found["tidewatt_device_up"]["tank",] == 1
    assert found["tidewatt_readings_stored_total"][()] == status["store"]["stored_total"]
    assert found["tidewatt_backlog_rows"]["readings",] == 1234
    assert found["tidewatt_oldest_unsent_age_seconds"] == {("readings",): 184, ("events",): 0, ("meta",): 0}
    assert found["tidewatt_readings_dropped_total"]["queue-full",] == 0
    assert found["tidewatt_lane_behind_seconds"] == {("live",): 0, ("backlog",): 184}
    assert found["tidewatt_store_used_bytes"]["raw",] == 41_000_000
    assert found["tidewatt_thinned_rows_total"]["60",] == 1200
    assert found["tidewatt_overflow_rows_total"][()] == 5
    assert (found["tidewatt_readings_capped_total"][()], found["tidewatt_events_capped_total"][()]) == (17, 3)
    assert found["tidewatt_mqtt_connected"][()] == 1
    assert found["tidewatt_clock_synced"][()] == 1
    assert found["tidewatt_build_info"]["reef-1", "0.1.0"] == 1


def test_the_numbers_follow(site: FakeSite) -> None:
    site.delivery.update(state="connecting", backlog=9)
    site.clock_state = "unknown"
    site.problems = []
    found = scrape(site)
    assert found["tidewatt_mqtt_connected"][()] == 0
    assert found["tidewatt_backlog_rows"]["readings",] == 9
    assert found["tidewatt_clock_synced"][()] == 0
    assert found["tidewatt_problems"][()] == 0


class Bare:
    """A site that has hardly begun, or has delivery switched off."""

    def status(self) -> dict[str, Any]:
        return {"store": {}, "delivery": {"state": "disabled", "streams": {}}}

    def devices(self) -> list[dict[str, Any]]:
        return []


def test_what_is_not_known_makes_no_metric() -> None:
    text = Metrics(Bare()).expose("")[0].decode()
    assert "tidewatt_readings_stored_total" not in text
    assert "tidewatt_mqtt_connected 0.0" in text


def test_an_asker_who_wants_openmetrics_gets_it(site: FakeSite) -> None:
    text, media = Metrics(site).expose("application/openmetrics-text; version=1.0.0")
    assert media.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_labels_are_escaped(site: FakeSite) -> None:
    class Odd(Bare):
        def devices(self) -> list[dict[str, Any]]:
            return [{"name": 'a"b\\c\nd', "polls": 3, "errors": 0, "late": 0, "state": "up"}]

    text = Metrics(Odd()).expose("")[0].decode()
    assert 'tidewatt_polls_total{device="a\\"b\\\\c\\nd"} 3.0' in text


@pytest.mark.anyio
async def test_the_probe_notes_how_late_the_loop_woke() -> None:
    clock = FakeClock()
    seen: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(probe_loop_lag, clock, seen.append)
        await clock.advance(LAG_INTERVAL_S)
        await clock.until_sleeping()
        # A call that blocks the loop: the sleeper is due meanwhile and wakes late.
        clock.pass_s(LAG_INTERVAL_S + 0.25)
        await clock.advance(0)
        group.cancel_scope.cancel()
    assert seen == pytest.approx([0, 0.25])
