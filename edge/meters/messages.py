"""What the process that reads a meter file says to the daemon, as bytes and back.

A message is a JSON array in one line; the days come after that line as text.

    ["hash", sha256, size_bytes]                       first: what the file is
    ["days", done_bytes, bytes, [[nmi, suffix], …]]    channels not told before, which the rows name by number, in
                                                       order; then the fields of the rows, as `row_of` has them
    ["reads", done_bytes, bytes, rows]                 rows: RegisterRead
    ["problems", [[member, line, code, text], …]]      the first reading.PROBLEMS_KEPT_MAX of them
    ["end", counts, newest]                            last: what it all was: files.Counts, and columns of table channel
    ["refused", text, counts]                          last: the file is not taken, and why
    ["stopped", text]                                  last: the disk failed or is full, which is not its fault
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from drivers.nem12 import ChannelDay

LENGTH_BYTES: Final = 4
DAY_FIELDS: Final = 13
SEPARATOR: Final = "\x1f"
"""Between fields: none of a meter file holds a control character.  Takes a third of the time that JSON takes."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def row_of(channel: int, day: ChannelDay) -> str:
    """Number of the channel, date as CCYYMMDD, then unit to hash of the day; method and reason blank for None."""
    return f"{channel}\x1f{day.date.replace('-', '')}\x1f{day.version()}"


def send(stream: BinaryIO, *message: Any, rows: Sequence[str] = ()) -> None:
    """Write the message with its length before it."""
    body = encode(*message, rows=rows)
    stream.write(len(body).to_bytes(LENGTH_BYTES, "big"))
    stream.write(body)
    stream.flush()


def encode(*message: Any, rows: Sequence[str] = ()) -> bytes:
    """rows: of days."""
    return f"{_encode(message)}\n{SEPARATOR.join(rows)}".encode("utf-8", "replace")


def decode(body: bytes) -> list[Any]:
    """The message; that of days ends with the list of their fields.  Raises ValueError where it is none."""
    head, _, text = body.partition(b"\n")
    message: list[Any] = json.loads(head)
    if message[0] == "days":
        fields = text.decode().split(SEPARATOR)
        if len(fields) % DAY_FIELDS:
            raise ValueError(f"days of {len(fields)} fields")
        message.append(fields)
    return message
