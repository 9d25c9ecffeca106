"""How long an output was on, or off, within a rolling window.  Pure; all times in powered seconds."""

from __future__ import annotations

from typing import Final

from edge.control.rules import DAY_S

RUNS_MAX: Final = 96
"""Runs kept for one window; beyond that the two nearest are counted as one, which never counts too little."""
RECOVERED_SHARE: Final = 0.9
"""A window that was used up must come back to this share, else its output would chatter at the rim."""

Runs = tuple[tuple[float, float], ...]


def used_s(runs: Runs, open_since_s: float | None, now_s: float, window_s: float) -> float:
    """Seconds of the runs, and of the one that is still open, within the last `window_s` (0: a day)."""
    begin = now_s - (window_s or DAY_S)
    total = 0.0 if open_since_s is None else max(0.0, now_s - max(open_since_s, begin))
    for start, end in runs:
        if end > begin:
            total += end - max(start, begin)
    return total


def is_spent(spent: bool, used: float, most_s: float) -> bool:
    """Whether the window is used up, given whether it was."""
    return used > most_s * RECOVERED_SHARE if spent else used >= most_s


def closed(runs: Runs, begin_s: float, end_s: float, window_s: float) -> Runs:
    """The runs with one more, without those that have left the window."""
    if end_s <= begin_s:
        return runs
    oldest = end_s - (window_s or DAY_S)
    kept = [run for run in runs if run[1] > oldest]
    kept.append((max(begin_s, oldest), end_s))
    while len(kept) > RUNS_MAX:
        at = min(range(len(kept) - 1), key=lambda i: kept[i + 1][0] - kept[i][1])
        kept[at : at + 2] = [(kept[at][0], kept[at + 1][1])]
    return tuple(kept)
