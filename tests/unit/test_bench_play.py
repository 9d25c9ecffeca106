"""How parts of the bench are played: again and again, in order, and whatever a part dies of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bench import play as played
from tests.bench.figures import Figure
from tests.bench.parts import PARTS, SMALL, Bench, Options, Part
from tests.bench.play import Outcome, Remaining, play

Measure = Callable[[Bench], Iterator[Figure]]


def test_each_part_is_measured_as_often_as_the_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([3.0, 1.0, 2.0, 7.0])

    def once(_bench: Bench) -> Iterator[Figure]:
        yield _figure("rate", next(found))

    outcome = _played(
        monkeypatch,
        {
            "three": Part(says="", measure=once, about_s=1),
            "one": Part(says="", measure=once, about_s=1, runs=1),
        },
    )
    three, one = outcome.all
    assert (three.value, three.runs, three.spread) == (2.0, (3.0, 1.0, 2.0), "1 .. 3")
    assert (one.value, one.spread) == (7.0, "")
    assert outcome.whole == {"three", "one"}


def test_a_part_that_dies_leaves_what_it_found_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = iter(range(3))

    def dies(_bench: Bench) -> Iterator[Figure]:
        yield _figure("early", 1.0)
        if next(runs) == 1:
            raise RuntimeError("no more")
        yield _figure("late", 2.0)

    outcome = _played(
        monkeypatch,
        {"dies": Part(says="", measure=dies, about_s=1), "lives": Part(says="", measure=_lives, about_s=1)},
    )
    assert outcome.failed == {"dies": "RuntimeError: no more"}
    assert [(figure.what, len(figure.runs)) for figure in outcome.figures["dies"]] == [
        ("early", 2),
        ("late", 1),
    ]
    assert len(outcome.figures["lives"][0].runs) == 3
    assert outcome.whole == {"lives"}
    assert "dies FAILED" in capsys.readouterr().err
    assert next(runs) == 2, "a part that died is not run again"


def test_after_a_part_that_died_the_next_has_a_fresh_rig(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(Bench, "close", lambda _bench: closed.append(True))

    def dies(_bench: Bench) -> Iterator[Figure]:
        raise RuntimeError("the broker is gone")

    _played(monkeypatch, {"dies": Part(says="", measure=dies, about_s=1)})
    assert closed == [True]


def test_ctrl_c_leaves_what_there_is_and_publishes_no_part_that_is_not_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_bench: Bench) -> Iterator[Figure]:
        yield _figure("early", 1.0)
        raise KeyboardInterrupt

    outcome = _played(
        monkeypatch,
        {
            "lives": Part(says="", measure=_lives, about_s=1),
            "broken off": Part(says="", measure=interrupted, about_s=1),
            "never": Part(says="", measure=_lives, about_s=1),
        },
    )
    assert outcome.interrupted
    assert [(name, len(figures)) for name, figures in outcome.figures.items()] == [
        ("lives", 1),
        ("broken off", 1),
    ]
    assert outcome.whole == {"lives"}


def test_what_is_left_goes_by_how_long_it_took_so_far() -> None:
    now_s = iter([0.0, 150.0])
    remaining = Remaining([100, 100, 800], now_s.__next__)
    assert remaining.told(0) == "about 17 min left"
    assert remaining.told(1) == "about 22 min left", "100 s were planned, and 150 have gone by"


def test_the_whole_bench_takes_less_than_half_an_hour_as_planned_and_its_small_form_is_not_the_default() -> (
    None
):
    together_s = sum(
        part.about_s * (part.runs or Options().runs) for part in PARTS.values() if not part.alone
    )
    assert together_s < 1800
    assert Options() != SMALL
    assert Options().runs >= 3


def _lives(_bench: Bench) -> Iterator[Figure]:
    yield _figure("rate", 5.0)


def _figure(what: str, value: float) -> Figure:
    return Figure(part="a part", what=what, value=value, unit="s")


def _played(monkeypatch: pytest.MonkeyPatch, parts: dict[str, Part]) -> Outcome:
    monkeypatch.setattr(played, "PARTS", parts)
    return play(list(parts), Bench(Options()), look_around_s=0.01)
