"""Channel-days by columns: what repeats is said once, and a day's values go as whole numbers of one scale.

Whatever stands in a row comes out as the same text: a column that does not fit a shorter form goes as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from itertools import accumulate, groupby, repeat
from operator import sub
from typing import Any, Final

from sync.fields import items, parts_of, show, whole
from sync.messages import (
    CHANNEL_DAYS,
    DECIMALS_MAX,
    PAYLOAD_BYTES_MAX,
    RECORD_COLUMNS,
    ROWS_MAX,
    WHOLE_END,
    Record,
    WireError,
)

COLUMNS: Final = RECORD_COLUMNS[CHANNEL_DAYS]
ROWS_A_RUN: Final = 2
"""From so many rows a run on, runs are shorter than the rows one by one."""
WHOLE_VALUE_END: Final = 10**15


def pack_days(rows: Sequence[Record]) -> dict[str, Any]:
    """Column name -> a list with an entry for each row, `{"runs": …}`, `{"steps": …}` or `{"days": …}`."""
    if any(len(row) != len(COLUMNS) for row in rows):
        raise WireError(f"a row of {CHANNEL_DAYS} has not {len(COLUMNS)} parts")
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    texts: dict[int, _Texts] = {}
    return {
        name: [_pack_values(value, texts) for value in column] if name == "values" else _pack_column(column)
        for name, column in zip(COLUMNS, columns, strict=True)
    }


def unpack_days(message: dict[str, Any]) -> list[Record]:
    """Raises WireError."""
    packed = message.get("days")
    if not isinstance(packed, dict):
        raise WireError(f"days are {show(packed)}, not columns")
    texts: dict[int, _Texts] = {}
    columns = [
        [_unpack_values(value, texts) for value in _unpack_column(packed.get(name), name)]
        if name == "values"
        else _unpack_column(packed.get(name), name)
        for name in COLUMNS
    ]
    if len(set(map(len, columns))) > 1:
        raise WireError("its columns differ in length")
    return list(zip(*columns, strict=True))


# -------------------------------------------------------------------------------------------- columns


def _pack_column(column: Sequence[Any]) -> Any:
    if set(map(type, column)) <= {str, int, type(None)}:  # of others what is equal need not be the same
        runs = [[value, len(list(run))] for value, run in groupby(column)]
        if column and len(runs) * ROWS_A_RUN <= len(column):
            return {"runs": runs}
    if _all_whole(column):
        return {"steps": _steps(column)}
    days = _ordinals(column)
    return {"days": _steps(days)} if days else list(column)


def _unpack_column(packed: Any, name: str) -> list[Any]:
    if isinstance(packed, list):
        return packed
    if isinstance(packed, dict) and len(packed) == 1:
        ((form, parts),) = packed.items()
        if form in _FORMS:
            return _FORMS[form](items(parts, name), name)
    raise WireError(f"{name} is {show(packed)}, not a column")


def _runs(parts: list[Any], name: str) -> list[Any]:
    """Bounded before anything grows: a payload may not say more than rows one by one could have."""
    runs = [parts_of(part, f"a run of {name}", 2)[:2] for part in parts]
    if sum(whole(count, "a run", 1, ROWS_MAX + 1) for _, count in runs) > ROWS_MAX:
        raise WireError(f"{name} has more than {ROWS_MAX} rows")
    for value, _ in runs:
        if isinstance(value, list | dict):
            raise WireError(f"{name} holds {show(value)}")
    if sum(len(value) * count for value, count in runs if isinstance(value, str)) > PAYLOAD_BYTES_MAX:
        raise WireError(f"{name} is larger than {PAYLOAD_BYTES_MAX} characters")
    return [value for value, count in runs for value in repeat(value, count)]


def _sums(parts: list[Any], name: str) -> list[int]:
    if set(map(type, parts)) - {int}:
        raise WireError(f"{name} holds something that is not a whole number")
    numbers = list(accumulate(parts))
    if numbers and not -WHOLE_END < min(numbers) <= max(numbers) < WHOLE_END:
        raise WireError(f"{name} is out of bounds")
    return numbers


def _dates(parts: list[Any], name: str) -> list[str]:
    try:
        return [date.fromordinal(day).isoformat() for day in _sums(parts, name)]
    except (ValueError, OverflowError) as error:
        raise WireError(f"{name} is none: {error}") from None


_FORMS: Final[dict[str, Callable[[list[Any], str], list[Any]]]] = {
    "runs": _runs,
    "steps": _sums,
    "days": _dates,
}


def _all_whole(column: Sequence[Any]) -> bool:
    return set(map(type, column)) == {int} and -WHOLE_END < min(column) <= max(column) < WHOLE_END


def _steps(numbers: Sequence[int]) -> list[int]:
    return [*numbers[:1], *map(sub, numbers[1:], numbers)]


def _ordinals(column: Sequence[Any]) -> list[int]:
    """The days that a column of ISO dates names; empty where it is none."""
    try:
        days = [date.fromisoformat(value) for value in column]
    except (ValueError, TypeError):
        return []
    return [day.toordinal() for day in days] if [day.isoformat() for day in days] == list(column) else []


# --------------------------------------------------------------------------------------------- values


class _Texts(dict[int | None, str]):
    """Number -> its JSON text in units of 10**-scale; made as they are asked for."""

    def __init__(self, scale: int) -> None:
        super().__init__({None: "null"})
        self._scale = scale

    def __missing__(self, number: int | None) -> str:
        digits = str(number).rjust(self._scale + 1, "0")
        text = f"{digits[: -self._scale]}.{digits[-self._scale :]}" if self._scale else digits
        self[number] = text
        return text


def _pack_values(text: Any, texts: dict[int, _Texts]) -> Any:
    """`[scale, number, …]` where that comes out as the same text again, else the text."""
    if not isinstance(text, str) or text[:1] != "[":
        return text
    body = text[1:-1]
    _, point, rest = body.partition(".")
    scale = len(rest.partition(",")[0]) if point else 0
    if scale > DECIMALS_MAX:
        return text
    parts = body.replace(".", "").split(",")
    numbers: list[int | None]
    try:
        numbers = (
            [None if part == "null" else int(part) for part in parts]
            if "n" in body
            else list(map(int, parts))
        )
    except ValueError:
        return text
    if not _in_bounds(numbers) or _text_of(scale, numbers, texts) != text:
        return text
    return [scale, *numbers]


def _unpack_values(packed: Any, texts: dict[int, _Texts]) -> Any:
    """What `_pack_values` made; a text for itself."""
    if not isinstance(packed, list):
        return packed
    if not packed or set(map(type, packed)) - {int, type(None)}:
        raise WireError("values hold something that is not a whole number")
    scale, *numbers = packed
    if not _in_bounds(numbers):
        raise WireError("a value is out of bounds")
    return _text_of(whole(scale, "scale", 0, DECIMALS_MAX + 1), numbers, texts)


def _in_bounds(numbers: list[int | None]) -> bool:
    there = [number for number in numbers if number is not None]
    return not there or (min(there) >= 0 and max(there) < WHOLE_VALUE_END)


def _text_of(scale: int, numbers: list[int | None], texts: dict[int, _Texts]) -> str:
    known = texts.get(scale)
    if known is None:
        known = texts[scale] = _Texts(scale)
    return f"[{','.join(map(known.__getitem__, numbers))}]"
