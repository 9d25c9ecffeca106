"""Readings by columns: a dictionary of the series, and differences of whole numbers wherever that is exact."""

from __future__ import annotations

from itertools import accumulate
from math import copysign
from operator import sub
from typing import Any

from sync.fields import items, parts_of, text, whole
from sync.messages import DECIMALS_MAX, QUALITY_END, SPAN_END_S, WHOLE_END, ReadingRows, SeriesRef, WireError


def pack_readings(rows: ReadingRows) -> dict[str, Any]:
    ref, stamps = list(rows.ref), list(rows.ts_ms)
    _check_columns(ref, stamps, len(rows.refs))
    if len(rows.value) != len(ref):
        raise WireError("values and series indexes differ in length")
    by_ref: list[list[float | None]] = [[] for _ in rows.refs]
    appends = [column.append for column in by_ref]
    for index, value in zip(ref, rows.value, strict=True):
        appends[index](value)
    dictionary, columns = [], []
    for series, values in zip(rows.refs, by_ref, strict=True):
        scale, column = _pack_values(values, series.decimals)
        dictionary.append(
            [*_check_series(series.name, series.unit), scale, text(series.calibration, "calibration")]
        )
        columns.append(column)
    packed: dict[str, Any] = {
        "dict": dictionary,
        "s": _differences(ref),
        "t": _differences(stamps),
        "n": columns,
    }
    if rows.odd:
        packed["odd"] = [_check_odd([at, *rows.odd[at]], len(ref)) for at in sorted(rows.odd)]
    return packed


def unpack_readings(message: dict[str, Any]) -> ReadingRows:
    packed, dictionary = items(message.get("n"), "n"), items(message.get("dict"), "dict")
    if len(packed) != len(dictionary):
        raise WireError("dictionary and values differ in length")
    refs: list[SeriesRef] = []
    columns: list[list[float | None]] = []
    for item, column in zip(dictionary, packed, strict=True):
        name, unit, scale, calibration = parts_of(item, "dictionary entry", 4)[:4]
        name, unit = _check_series(name, unit)
        columns.append(_unpack_values(scale, items(column, "values")))
        refs.append(
            SeriesRef(name=name, unit=unit, decimals=scale, calibration=text(calibration, "calibration"))
        )
    ref, stamps = _sums(message, "s"), _sums(message, "t")
    _check_columns(ref, stamps, len(refs))
    feeds = [iter(column) for column in columns]
    try:
        value = [next(feeds[index]) for index in ref]
    except StopIteration:
        raise WireError("a series has fewer values than rows") from None
    if sum(map(len, columns)) != len(ref):
        raise WireError("a series has more values than rows")
    odd = {}
    for item in items(message.get("odd", []), "odd"):
        at, quality, reason, span_s = _check_odd(item, len(ref))
        odd[at] = (quality, reason, span_s)
    return ReadingRows(refs=refs, ref=ref, ts_ms=stamps, value=value, odd=odd)


def _check_columns(ref: list[int], stamps: list[int], series: int) -> None:
    if len(ref) != len(stamps):
        raise WireError("series indexes and times do not fit together")
    if ref and not 0 <= min(ref) <= max(ref) < series:
        raise WireError("a series index is not in the dictionary")
    if stamps and not -WHOLE_END < min(stamps) <= max(stamps) < WHOLE_END:
        raise WireError("a time is out of bounds")


def _check_series(name: Any, unit: Any) -> tuple[str, str]:
    return text(name, "series"), text(unit, "unit")


def _check_odd(item: Any, rows: int) -> list[Any]:
    """`[row index, quality, reason, span_s]` of a row that is not a plain good sample."""
    at, quality, reason, span_s = parts_of(item, "odd row", 4)[:4]
    return [
        whole(at, "row index", 0, rows), whole(quality, "quality", 0, QUALITY_END),
        text(reason, "reason"), whole(span_s, "span", 0, SPAN_END_S),
    ]  # fmt: skip


def _differences(numbers: list[int]) -> list[int]:
    return numbers[:1] + list(map(sub, numbers[1:], numbers))


def _sums(message: dict[str, Any], key: str) -> list[int]:
    """What `_differences` made of whole numbers."""
    steps = items(message.get(key), key)
    if set(map(type, steps)) - {int}:
        raise WireError(f"{key} holds something that is not a whole number")
    return list(accumulate(steps))


def _spread(column: list[Any], dense: list[Any]) -> list[Any]:
    """`dense` with the Nones of `column` put back in their places."""
    feed = iter(dense)
    return [None if item is None else next(feed) for item in column]


def _pack_values(values: list[float | None], decimals: int | None) -> tuple[int | None, list[Any]]:
    """Differences in units of 10**-scale where that is exact for every value, else the values as they are."""
    there: list[Any] = values if None not in values else [value for value in values if value is not None]
    whole = _as_whole(there, decimals)
    if whole is None:
        return None, values
    packed = _differences(whole)
    return decimals, packed if there is values else _spread(values, packed)


def _as_whole(values: list[float], decimals: int | None) -> list[int] | None:
    if decimals is None or not 0 <= decimals <= DECIMALS_MAX:
        return None
    factor = 10**decimals
    try:
        whole = [round(value * factor) for value in values]
    except (ValueError, OverflowError):
        return None  # not finite: refused when it is written
    if [number / factor for number in whole] != values:
        return None
    if 0 in whole and any(copysign(1.0, value) < 0 for value in values if value == 0):
        return None  # -0.0 is another number
    return whole


def _unpack_values(scale: Any, column: list[Any]) -> list[float | None]:
    kinds = set(map(type, column))
    there = column if type(None) not in kinds else [item for item in column if item is not None]
    dense: list[float]
    try:
        if scale is None:
            if kinds - {int, float, type(None)}:
                raise WireError("a value is not a number")
            dense = list(map(float, there))
        else:
            factor = 10 ** whole(scale, "scale", 0, DECIMALS_MAX + 1)
            if kinds - {int, type(None)}:
                raise WireError("a scaled value is not a whole number")
            dense = [number / factor for number in accumulate(there)]
    except OverflowError:
        raise WireError("a value is too large") from None
    return list(dense) if there is column else _spread(column, dense)
