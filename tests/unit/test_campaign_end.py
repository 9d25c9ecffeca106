"""What a campaign plays, and what it says at its end: clean is only one that played all its faults."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, cast

import pytest

from tests.campaign import play
from tests.campaign.__main__ import verdict
from tests.campaign.kinds import FAULTS
from tests.campaign.play import RARE, Outcome, Plan, Player, kinds

DAY_S = 86_400.0


def plan(faults: int, *, left_s: float = DAY_S) -> Plan:
    return Plan(seed=7, faults=faults, end_s=time.monotonic() + left_s, quiet_s=1.0)


def test_a_seed_plays_every_kind_once_before_any_twice() -> None:
    assert set(FAULTS) > RARE
    first = kinds(plan(len(FAULTS)))
    assert sorted(first) == sorted(FAULTS)
    assert kinds(plan(10)) == first[:10]
    two = Counter(kinds(plan(2 * len(FAULTS) - len(RARE))))
    assert {name for name, count in two.items() if count == 1} == RARE


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        (Outcome(played=Counter(a=3, b=7)), 0, "clean, 10 faults"),
        (Outcome(played=Counter(a=3), time_is_up=True), 1, "time is up after 3 of 10 faults; nothing lost in those"),
        (Outcome(played=Counter(a=9)), 1, "only 9 of 10 faults could be played"),
        (Outcome(played=Counter(a=10), findings=["a row lost"]), 1, "FAILED, 1 findings in 10 of 10"),
        (Outcome(played=Counter(a=3), findings=["a row lost"], time_is_up=True), 1, "FAILED, 1 findings in 3 of 10"),
    ],
)  # fmt: skip
def test_the_exit_code_and_why(outcome: Outcome, code: int, words: str) -> None:
    said = verdict(outcome, 10)
    assert said[0] == code
    assert said[1].startswith(words)


def test_a_campaign_whose_time_is_up_judges_what_it_has_played(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    monkeypatch.setattr(play, "ready", lambda *_: True)
    monkeypatch.setattr(Player, "_one", lambda self, number: self.outcome.played.update(a=1))
    monkeypatch.setattr(Player, "check", lambda self: judged.append(self.outcome.played.total()))
    site = cast("Any", None)
    late = Player(site, plan(3, left_s=-1.0), lambda _: None).play()
    assert (late.time_is_up, judged) == (True, [0])
    assert verdict(late, 3)[0] == 1
    whole = Player(site, plan(3), lambda _: None).play()
    assert (whole.time_is_up, judged) == (False, [0, 3])
    assert verdict(whole, 3)[0] == 0
