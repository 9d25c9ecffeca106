"""What the bench prints: beside each target whether it was met, and at the end which were not."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.bench import __main__ as bench
from tests.bench import week
from tests.bench.figures import Figure, Machine, as_json, merged, nearest_rank, summary, table
from tests.bench.parts import PARTS

FAST = Figure(part="a drain", what="drain : bare COPY", value=0.5, unit="", target=0.45, better="more")
SLOW = Figure(part="a drain", what="p99", value=25.0, unit="ms", target=10.0, note="a note", others=0.37)
FREE = Figure(part="a drain", what="rate", value=123_456.0, unit="rows/s")


def test_a_missed_target_is_said_where_it_stands_and_at_the_end() -> None:
    assert (FAST.verdict, SLOW.verdict, FREE.verdict) == ("met", "TARGET MISSED by 15 ms (150%)", "")
    assert summary([FAST, SLOW, FREE]) == "1 of 2 targets met; TARGET MISSED:\n  a drain: p99"
    assert summary([FAST, FREE]) == "1 of 1 targets met"
    lines = table([SLOW, FREE]).splitlines()
    assert lines[2] == "a drain  (one run; others used 37% of the machine before)"
    assert lines[3].split("  ")[-1] == "a note"
    assert "123,456 rows/s" in lines[4]
    assert lines[-1] == "  a drain: p99"


def test_json_has_the_same_and_says_how_loaded_the_machine_was() -> None:
    found = json.loads(as_json([FAST, SLOW, FREE]))
    assert [figure["met"] for figure in found["figures"]] == [True, False, None]
    assert found["figures"][1]["others"] == 0.37
    assert ", load " in found["machine"]


def test_the_machine_is_told_with_its_processor_its_kernel_and_the_day() -> None:
    told = str(Machine.here())
    assert re.search(r"^[^,]{3,}, \d+ cores?, Linux \S+, Python 3\.\d+\.\d+, \d{4}-\d\d-\d\d$", told), told


def test_of_several_runs_the_median_stands_with_its_note_and_the_spread_beside_it() -> None:
    runs = [
        [replace(SLOW, value=value, note=f"{value} ms", others=value / 100)] for value in (9.0, 30.0, 12.0)
    ]
    [figure] = merged([*runs, []])
    assert (figure.value, figure.note, figure.runs, figure.others) == (
        12.0,
        "12.0 ms",
        (9.0, 30.0, 12.0),
        0.3,
    )
    lines = table([figure]).splitlines()
    assert "medians of 3" in lines[2]
    assert "9 .. 30" in lines[3]
    assert figure.met is False, "by the median, not by the best"


def test_figures_that_some_runs_lack_keep_their_place() -> None:
    told = [(each.what, each.runs) for each in merged([[FAST], [FAST, SLOW], [FREE, SLOW]])]
    assert told == [("drain : bare COPY", (0.5, 0.5)), ("p99", (25.0, 25.0)), ("rate", (123_456.0,))]


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1, 100)]
)
def test_the_nearest_rank_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert nearest_rank([float(n) for n in range(1, 101)], share) == value
    assert nearest_rank([7.0], share) == 7


def test_a_part_that_there_is_not_is_told_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "drain", "fast"])
    with pytest.raises(SystemExit):
        bench.main()
    told = capsys.readouterr().err
    assert "there is no part fast; there are " + ", ".join(PARTS) in told


def test_the_week_says_how_much_more_it_took_and_is_nothing_where_all_fitted() -> None:
    found = {
        "rss_mb": [60.0, 61.0, 63.5, 63.0, 63.5], "pss_mb": [50.0] * 5, "peak_mb": [60.0, 61.5, 64.5, 66.0, 64.5],
        "readings": 1000, "raw": 100, "dropped": 0, "file": 3_000_000, "tries": 9,
    }  # fmt: skip
    figures = {figure.what: figure for figure in week.figures(found, 60, 8000)}
    assert figures["more after the week"].value == 3.5
    assert figures["more after the week"].met is True
    highest = figures["more at the highest than on day 3"]
    assert (highest.value, highest.met) == (1.5, False)
    with pytest.raises(RuntimeError, match="nothing had to be thinned"):
        list(week.figures(found | {"raw": 1000}, 60, 8000))
