"""The bench's own arithmetic: lateness of ticks that ran, and of those that were left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import ticks


def written(folder: Path, late_s: list[float], step_s: float = 0.1) -> Path:
    path = folder / "ticks"
    path.write_bytes(b"".join(ticks.TICK.pack(100 + n * step_s, late) for n, late in enumerate(late_s)))
    return path


def test_shares_are_of_ticks_and_the_greatest_is_exact(tmp_path: Path) -> None:
    path = written(tmp_path, [n / 1000 for n in range(1, 101)], step_s=1.0)
    found = ticks.lateness(path, 100, 200, step_s=1.0)
    assert (found.ticks, found.p50_ms, found.p99_ms, found.max_ms) == pytest.approx((100, 50, 99, 100))


def test_a_stall_counts_for_the_ticks_it_swallowed(tmp_path: Path) -> None:
    found = ticks.lateness(written(tmp_path, [0.0] * 7 + [0.35]), 100, 200)
    assert found.ticks == 11, "three ticks were left out: late by 0.25, 0.15 and 0.05 s"
    assert (found.p50_ms, found.max_ms) == pytest.approx((0, 350))
    assert ticks.lateness(written(tmp_path, [0.0] * 3 + [0.35]), 100, 200).p50_ms == pytest.approx(50)


def test_only_the_while_that_is_asked_for_counts(tmp_path: Path) -> None:
    path = written(tmp_path, [0.001, 0.002, 0.003], step_s=1.0)
    with path.open("ab") as file:
        file.write(b"half")
    assert ticks.lateness(path, 101, 102).max_ms == pytest.approx(2)
    with pytest.raises(RuntimeError, match="no tick"):
        ticks.lateness(path, 500, 510)
