"""Report by exception: which readings are worth storing.  Pure: (kept, reading, band) -> store it or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge.image import Reading

ROUNDING: Final = 1e-9  # 25.3 - 25.2 is a little less than 0.1


@dataclass(frozen=True, slots=True)
class Band:
    """dead_band in the point's unit, 0: store every value; silence_max_s: store one at least so often."""

    dead_band: float = 0.0
    silence_max_s: float = 300.0


def worth_storing(kept: Reading | None, reading: Reading, band: Band) -> bool:
    """Whether to store `reading` after `kept`, the one that was stored last.

    A change of quality or reason always counts.  Without a value there is nothing to follow, so a device that
    stays dead is stored when it dies and then once per `silence_max_s`.
    """
    if kept is None or reading.quality != kept.quality or reading.reason != kept.reason:
        return True
    if reading.monotonic_s - kept.monotonic_s >= band.silence_max_s:
        return True
    if reading.value is None or kept.value is None:
        return (reading.value is None) != (kept.value is None)
    if reading.span_s or reading.calibration != kept.calibration:
        return True  # an interval's value stands for its own interval only
    return not band.dead_band or abs(reading.value - kept.value) >= band.dead_band - ROUNDING
