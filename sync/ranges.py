"""Sets of positions as disjoint, ascending, inclusive ranges: what a ledger is made of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

Range = tuple[int, int]


class Ranges:
    """An immutable set of integers, kept as merged inclusive ranges `(first, last)`."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[Range] = ()) -> None:
        merged: list[Range] = []
        for first, last in sorted(spans):
            if first > last:
                raise ValueError(f"range {first}..{last} runs backwards")
            if merged and first <= merged[-1][1] + 1:
                if last > merged[-1][1]:
                    merged[-1] = (merged[-1][0], last)
            else:
                merged.append((first, last))
        self._spans: Final = tuple(merged)

    @classmethod
    def _of(cls, merged: Iterable[Range]) -> Ranges:
        """Spans already disjoint, ascending and not adjacent."""
        ranges = cls.__new__(cls)
        ranges._spans = tuple(merged)  # type: ignore[misc]  # the one place that builds without merging
        return ranges

    @classmethod
    def parse(cls, text: str) -> Ranges:
        """From Postgres' canonical int8multirange text, `{[1,5),[9,10)}`."""
        body = text.strip()[1:-1]
        if not body:
            return EMPTY
        spans = []
        for part in body[1:-1].split("),["):
            low, high = part.split(",")
            spans.append((int(low), int(high) - 1))
        return cls(spans)

    def to_multirange(self) -> str:
        """As Postgres' int8multirange text."""
        return "{" + ",".join(f"[{first},{last + 1})" for first, last in self._spans) + "}"

    @property
    def spans(self) -> tuple[Range, ...]:
        return self._spans

    def __iter__(self) -> Iterator[Range]:
        return iter(self._spans)

    def __len__(self) -> int:
        """How many fragments (see `count` for how many integers)."""
        return len(self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)

    def __repr__(self) -> str:
        return "Ranges(" + ", ".join(f"{first}..{last}" for first, last in self._spans) + ")"

    def __contains__(self, position: int) -> bool:
        at = bisect_right(self._spans, position, key=lambda s: s[0]) - 1
        return at >= 0 and self._spans[at][1] >= position

    @property
    def count(self) -> int:
        """How many integers it holds."""
        return sum(last - first + 1 for first, last in self._spans)

    @property
    def first(self) -> int:
        """The smallest member; IndexError when empty."""
        return self._spans[0][0]

    @property
    def last(self) -> int:
        """The greatest member; IndexError when empty."""
        return self._spans[-1][1]

    def __or__(self, other: Ranges) -> Ranges:
        if not other._spans:
            return self
        if not self._spans:
            return other
        if len(other._spans) == 1:
            return self._with(other._spans[0])
        if len(self._spans) == 1:
            return other._with(self._spans[0])
        return Ranges((*self._spans, *other._spans))

    def _with(self, span: Range) -> Ranges:
        """Union with a single range, by bisection."""
        first, last = span
        spans = self._spans
        low = bisect_left(spans, first - 1, key=lambda s: s[1])
        high = bisect_right(spans, last + 1, key=lambda s: s[0])
        if low < high:
            first, last = min(first, spans[low][0]), max(last, spans[high - 1][1])
        return Ranges._of((*spans[:low], (first, last), *spans[high:]))

    def __sub__(self, other: Ranges) -> Ranges:
        if not other._spans or not self._spans:
            return self
        left: list[Range] = []
        cuts = other._spans
        at = 0
        for first, last in self._spans:
            while at < len(cuts) and cuts[at][1] < first:
                at += 1
            here = at
            while here < len(cuts) and cuts[here][0] <= last:
                if cuts[here][0] > first:
                    left.append((first, cuts[here][0] - 1))
                first = cuts[here][1] + 1
                here += 1
            if first <= last:
                left.append((first, last))
        return Ranges._of(left)

    def __and__(self, other: Ranges) -> Ranges:
        if len(self._spans) > len(other._spans):
            return other & self
        common: list[Range] = []
        spans = other._spans
        for first, last in self._spans:
            at = bisect_left(spans, first, key=lambda s: s[1])
            while at < len(spans) and spans[at][0] <= last:
                common.append((max(first, spans[at][0]), min(last, spans[at][1])))
                at += 1
        return Ranges._of(common)

    def within(self, first: int, last: int) -> Ranges:
        """The part inside `first..last`."""
        return self & Ranges._of(((first, last),)) if first <= last else EMPTY

    def members(self) -> Iterator[int]:
        """Every integer, ascending."""
        for first, last in self._spans:
            yield from range(first, last + 1)


EMPTY: Final = Ranges()
