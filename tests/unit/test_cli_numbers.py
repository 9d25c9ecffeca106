"""What people see of values and of their times in the tables of `tidewatt devices` and `tidewatt readings`."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from edge.cli.devices import rows_of
from edge.cli.readings import raw_row


def point(value: float | None, **more: Any) -> dict[str, Any]:
    return {"series": "tank.t", "unit": "°C", "value": value, "quality": "good", "age_s": 1.0, **more}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (point(25.5, decimals=3), "25.500"),
        (point(25.5625, decimals=3), "25.562"),
        (point(1.0, decimals=0), "1"),
        (point(None, decimals=None), "—"),
        (point(25.5), "25.5"),
    ],
)
def test_a_column_of_values_has_its_points_decimals(told: dict[str, Any], shown: str) -> None:
    (row,) = rows_of({"name": "tank", "driver": "ds18b20", "state": "up", "points": [told]})
    assert row[4] == shown


@pytest.mark.parametrize(
    ("clock", "shown"), [("synced", ""), ("holdover", ""), ("unknown", "unknown"), (None, "")]
)
def test_a_row_has_a_note_where_its_time_is_only_a_guess(clock: str | None, shown: str) -> None:
    row = {
        "ts": "2026-03-01T08:00:00.000Z",
        "series": "tank.t",
        "value": 25.5,
        "unit": "°C",
        "quality": "good",
    }
    assert raw_row(row | ({"clock": clock} if clock else {}), UTC)[-1] == shown
