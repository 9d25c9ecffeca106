"""The one order of versions that edge and sink share."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from sync.rank import DayRank, day_rank

STAMPS = st.none() | st.sampled_from(["", "20260101", "202601010000", "20260101000000", "20260101000001"])
RANKS = st.builds(
    lambda updated, loaded, header, line, content: day_rank(
        updated=updated, loaded=loaded, header=header, line=line, content_hash=content
    ),
    STAMPS, STAMPS, STAMPS, st.integers(0, 3), st.sampled_from(["a", "b"]),
)  # fmt: skip


def rank(updated: str | None = None, loaded: str | None = None, header: str = "", line: int = 1) -> DayRank:
    return day_rank(updated=updated, loaded=loaded, header=header, line=line, content_hash="h")


def test_update_time_comes_first_then_load_then_header_then_line() -> None:
    assert rank(updated="20260102000000") > rank(updated="20260101000000", loaded="20269999000000")
    assert rank(loaded="20260102000000") > rank(loaded="20260101000000", header="202699990000")
    assert rank(header="202601020000") > rank(header="202601010000", line=99)
    assert rank(line=10) > rank(line=9)


def test_blank_is_the_oldest() -> None:
    assert rank(updated="20010101000000") > rank(updated=None)
    assert rank(updated=None) == rank(updated="")


def test_stamps_of_twelve_and_fourteen_digits_compare_as_what_they_say() -> None:
    assert rank(updated="202601010000") == rank(updated="20260101000000")
    assert rank(updated="202601010001") > rank(updated="20260101000059")
    assert rank(updated="20260101") < rank(updated="20260101000001")


def test_the_hash_decides_last() -> None:
    same = {"updated": "20260101000000", "loaded": None, "header": "202601010000", "line": 3}
    assert day_rank(**same, content_hash="b") > day_rank(**same, content_hash="a")  # type: ignore[arg-type]


@given(st.lists(RANKS, min_size=1, max_size=5))
def test_the_current_one_does_not_depend_on_arrival(ranks: list[DayRank]) -> None:
    currents = set()
    for order in permutations(ranks):
        current = order[0]
        for other in order[1:]:
            current = max(current, other)
        currents.add(current)
    assert len(currents) == 1
