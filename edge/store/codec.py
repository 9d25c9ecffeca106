"""One series' hour as one compressed block.  Standard library only: a small process of its own uses it."""

from __future__ import annotations

import json
import math
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, NamedTuple, TypeAlias

HOUR_MS: Final = 3_600_000
BAD: Final = 2
FORMAT: Final = 1
DECIMALS_MAX: Final = 9
SCALED_MAX: Final = 1 << 53
CLOCKS: Final = ("synced", "holdover", "corrected", "estimated", "unknown")
"""What a sample's clock was worth: set; set earlier; corrected by evidence, or by an estimate; nothing."""


class BlockError(ValueError):
    """Bytes that are no block of ours."""


class Sample(NamedTuple):
    """One stored reading.

    ts_ms        corrected UTC milliseconds
    quality      0 good, 1 estimated, 2 bad
    calibration  local id, 0 for none
    clock        index into CLOCKS
    """

    ts_ms: int
    value: float | None
    quality: int = 0
    reason: str = ""
    span_s: int = 0
    calibration: int = 0
    clock: int = 0


Traits: TypeAlias = tuple[int, str, int, int, int]
"""quality, reason, span_s, calibration, clock: the same for long runs of samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Of the values that are not bad; `n` says how many, the others are None for none."""

    n: int
    min: float | None
    max: float | None
    mean: float | None
    last: float | None


def stats(samples: Sequence[Sample]) -> Stats:
    """What a chart wants to know of samples in the order of their times."""
    values = [sample.value for sample in samples if sample.value is not None and sample.quality != BAD]
    if not values:
        return Stats(n=0, min=None, max=None, mean=None, last=None)
    low, high = min(values), max(values)
    mean = mean_within([value / len(values) for value in values], low, high)
    return Stats(n=len(values), min=low, max=high, mean=mean, last=values[-1])


def mean_within(parts: Sequence[float], low: float, high: float) -> float:
    """The sum of a mean's parts, between the least and the greatest value even where it is rounded or overflows."""
    try:
        total = math.fsum(parts)
    except OverflowError:
        total = 2 * math.fsum(part / 2 for part in parts)
    return min(max(total, low), high)


# ----------------------------------------------------------------------------------------------- codec
#
# byte 0: FORMAT.  Then, deflated: length of the head (4 bytes, little-endian), the head (JSON), the time
# deltas, the values.  The head is [n, t0, code of the deltas, code of the values, decimals or -1, runs
# without a value as [at, length], runs of traits as [length, quality, reason, span_s, calibration, clock]].
# Codes are those of `array`; the numbers are little-endian.  Values are differences of value x 10^decimals
# where that gives every bit back, else plain doubles.


def encode(samples: Sequence[Sample]) -> bytes:
    """Pack samples in their order.  Their values must be finite."""
    times = [sample.ts_ms for sample in samples]
    deltas = fit([later - earlier for earlier, later in pairwise(times)])
    holes = [[at, n] for at, n in _runs_of_none(samples)]
    value_code, decimals, values = encode_values(_filled(samples))
    runs = [[sum(1 for _ in group), *traits] for traits, group in groupby(samples, key=_traits)]
    head = json.dumps(
        [len(times), times[0] if times else 0, deltas.typecode, value_code, decimals, holes, runs],
        separators=(",", ":"),
    ).encode()
    body = struct.pack("<I", len(head)) + head + little(deltas) + values
    return bytes([FORMAT]) + zlib.compress(body, 9)


def decode(data: bytes) -> list[Sample]:
    """What `encode` packed.  Raises BlockError."""
    if not data or data[0] != FORMAT:
        raise BlockError(f"block of format {data[0] if data else None}; this version knows {FORMAT}")
    try:
        return _decode(zlib.decompress(data[1:]))
    except (zlib.error, struct.error, ValueError, TypeError, IndexError) as error:
        raise BlockError(f"block is damaged: {error}") from error


def first_ms(data: bytes) -> int:
    """The time of the first sample, without unpacking the rest.  Raises BlockError."""
    try:
        body = zlib.decompress(data[1:])
        (length,) = struct.unpack_from("<I", body)
        return int(json.loads(body[4 : 4 + length])[1])
    except (zlib.error, struct.error, ValueError, TypeError, IndexError) as error:
        raise BlockError(f"block is damaged: {error}") from error


def _decode(body: bytes) -> list[Sample]:
    (length,) = struct.unpack_from("<I", body)
    n, t0, time_code, value_code, decimals, holes, runs = json.loads(body[4 : 4 + length])
    at = 4 + length
    deltas, at = take(body, at, time_code, max(0, n - 1))
    raw, at = take(body, at, value_code, n)
    if at != len(body):
        raise BlockError("block has bytes left over")
    values: list[float | None] = list(raw if decimals < 0 else unscale(raw, decimals))
    for first, count in holes:
        values[first : first + count] = [None] * count
    traits = [tuple(run[1:]) for run in runs for _ in range(run[0])]
    samples = []
    ts = t0
    for i in range(n):
        if i:
            ts += deltas[i - 1]
        samples.append(Sample(ts, values[i], *traits[i]))
    return samples


def _traits(sample: Sample) -> Traits:
    return sample[2:]


def _runs_of_none(samples: Sequence[Sample]) -> Iterator[tuple[int, int]]:
    at = 0
    for missing, group in groupby(samples, key=lambda sample: sample.value is None):
        n = sum(1 for _ in group)
        if missing:
            yield at, n
        at += n


def _filled(samples: Sequence[Sample]) -> array[float]:
    """Values with each missing one replaced by the one before it, which costs least."""
    values = array("d")
    before = 0.0
    for sample in samples:
        before = before if sample.value is None else sample.value
        values.append(before)
    return values


def encode_values(values: array[float]) -> tuple[str, int, bytes]:
    """(array code, decimals or -1, bytes)."""
    if not all(map(math.isfinite, values)):
        raise BlockError("a value is not finite")
    for decimals in range(DECIMALS_MAX + 1):
        scale = 10**decimals
        if any(abs(value) * scale >= SCALED_MAX for value in values):
            break
        scaled = [round(value * scale) for value in values]
        if array("d", [number / scale for number in scaled]).tobytes() == values.tobytes():
            fitted = fit([b - a for a, b in pairwise([0, *scaled])])
            return fitted.typecode, decimals, little(fitted)
    return "d", -1, little(values)


def unscale(deltas: Iterable[int], decimals: int) -> Iterator[float]:
    """The values whose differences, times 10^decimals, these are."""
    scale, number = 10**decimals, 0
    for delta in deltas:
        number += delta
        yield number / scale


def fit(numbers: Sequence[int]) -> array[int]:
    """The narrowest array that takes the numbers."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    for code, bits in (("b", 7), ("h", 15), ("i", 31), ("q", 63)):
        if -(1 << bits) <= low and high < 1 << bits:
            return array(code, numbers)
    raise BlockError("a number does not fit into 64 bits")


def little(numbers: array[int] | array[float]) -> bytes:
    """Numbers as little-endian bytes."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def take(body: bytes, at: int, code: str, n: int) -> tuple[array[int], int]:
    """`n` numbers of a code at a place, and the place behind them.  Raises BlockError."""
    if code not in ("b", "h", "i", "q", "d"):
        raise BlockError(f"block has numbers of an unknown kind {code!r}")
    numbers: array[int] = array(code)
    end = at + n * numbers.itemsize
    if end > len(body):
        raise BlockError("block is cut off")
    numbers.frombytes(body[at:end])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers, end
