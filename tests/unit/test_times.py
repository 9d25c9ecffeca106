"""Times and durations as people write and read them; `test_cli_table` and `test_web_api` have more of them."""

from __future__ import annotations

from datetime import UTC

import pytest

from edge.times import parse_time, roughly

NOW_MS = 1_774_785_600_000  # 2026-03-29T12:00:00Z


@pytest.mark.parametrize(
    "text", ["now", "-90m", "-6h", "-2d", "2026-03-29T08:00:00+10:00", "2026-03-29T08:00Z"]
)
def test_where_nobody_has_a_zone_the_same_words_mean_the_same(text: str) -> None:
    assert parse_time(text, NOW_MS) == parse_time(text, NOW_MS, UTC)


@pytest.mark.parametrize("text", ["today", "yesterday", "6h", "-1.5h", "-90min", "-1000000s", "2026-03-29"])
def test_what_needs_a_zone_or_is_loosely_written_is_for_people_alone(text: str) -> None:
    parse_time(text, NOW_MS, UTC)
    with pytest.raises(ValueError, match=r"is no time|has no time zone"):
        parse_time(text, NOW_MS)


def test_a_duration_in_a_sentence_has_one_unit() -> None:
    words = [roughly(seconds) for seconds in (0.4, 90, 119, 120, 905, 7199, 7200, 43_200, 259_200)]
    assert words == ["0 s", "90 s", "119 s", "2 min", "15 min", "120 min", "2 h", "12 h", "72 h"]
