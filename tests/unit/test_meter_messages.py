"""What the reader of a meter file says arrives as it was said."""

from __future__ import annotations

import io
from typing import Any, Final

import pytest

from drivers.nem12 import ChannelDay, parse
from edge.meters import messages
from tests.meterstore import nem12

FILE: Final = nem12([("20260110", "1.50"), ("20260111", "0")], serial="Zähler 7")


def days(content: bytes) -> list[ChannelDay]:
    return [item for item in parse(io.BytesIO(content)) if isinstance(item, ChannelDay)]


def test_days_arrive_field_by_field() -> None:
    found = days(FILE.replace(b",A,,,", b",S14,0,D\xc3\xa9faut,", 1))
    body = messages.encode(
        "days", 10, 20, [["6102000001", "E1"]], rows=[messages.row_of(7, one) for one in found]
    )
    *message, fields = messages.decode(body)
    assert message == ["days", 10, 20, [["6102000001", "E1"]]]
    size = messages.DAY_FIELDS
    for at, day in enumerate(found):
        wanted: tuple[Any, ...] = ("7", day.date.replace("-", ""), *day[3:13], day.hash)
        assert fields[at * size : (at + 1) * size] == [str(field or "") for field in wanted]
    assert len(fields) == size * len(found) > 0


@pytest.mark.parametrize("at", [b"TW1", b"A,,,", b"6102000001", b"1.50"])
def test_no_field_of_a_file_holds_what_stands_between_fields(at: bytes) -> None:
    """Such a row is dropped and told."""
    content = nem12([("20260110", "1.50"), ("20260111", "0")]).replace(at, at + messages.SEPARATOR.encode())
    assert all(
        messages.row_of(0, day).count(messages.SEPARATOR) == messages.DAY_FIELDS - 1 for day in days(content)
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\n", b'["days",1,2,[]]\nonly\x1ftwo', b'["days",1,2,[]]\n\xff']
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        messages.decode(body)
