"""The records of a meter data file one after the other: what is known at a row, and what is to be told of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

from drivers.nem12 import reads
from drivers.nem12.damage import ends_in_time, holds_channel, joined, may_be_channel
from drivers.nem12.days import Day, day_of, day_pattern, plain_tail
from drivers.nem12.events import Event, channel_day, event_of, finished, lost_event
from drivers.nem12.fields import TRANSACTIONS, day_date, stamp_of
from drivers.nem12.heads import Channel, channel_of, header_of
from drivers.nem12.items import End, Header, Item, NemRefused, Problem, RegisterRead
from drivers.nem12.lines import LINE_BYTES_MAX, fields_of
from drivers.nem12.rows import BYTE_MARK, KINDS, WIDTHS, Beginning, fitted, flaw_of, kind_of, shown
from drivers.nem12.rules import Teller, quoted

VERSION_OF: Final = {
    "200": "NEM12",
    "300": "NEM12",
    "400": "NEM12",
    "500": "NEM12",
    "250": "NEM13",
    "550": "NEM13",
}
CLOSES_DAY: Final = (b"300,", b"200,")
"""How a row begins after which no 400 of the day before comes any more."""
FRAGMENTS_MAX: Final = 400
"""Rows over which a 300 record may be wrapped."""
DAY: Final = timedelta(days=1)
LAST_DATE: Final = date.max.isoformat()
LOST: Final = "; rows are dropped until the next 200 record, for their channel is no longer certain"


def no_day(_row: bytes) -> None:
    """Stands for the pattern of a day while no channel is known."""


class Reader:
    """What is known at one row of a file: the header, the channel, and the record that is not complete yet."""

    def __init__(self, hand_on: Callable[[Item], object], *, strict: bool) -> None:
        self._hand_on = hand_on
        self._teller = Teller(hand_on, strict=strict)
        self.day_row: Callable[[bytes], re.Match[bytes] | None] = no_day
        self.line = 0
        self._beginning = Beginning(self._teller, strict=strict)
        self._ended = self._open = False
        self._version = self._created = ""
        self._channel: Channel | None = None
        self._last_date = ""
        self._day: Day | None = None
        self._events: list[Event] = []
        self._fragment: list[tuple[int, bytes]] = []
        self._dropped = False  # the 300 before: its 400s go with it
        self._limit: str | None = None  # rows may be missing, a 200 too: how late the next day may be
        self._read: RegisterRead | None = None
        self._days = self._reads = self._values = self._services = 0

    # ---------------------------------------------------------------------------------- rows as they should be

    def take_day(self, line: int, match: re.Match[bytes], *, alone: bool) -> bool:
        """A 300 record that is as it should be; False where anything about it is to be told.

        alone  no 400 follows
        """
        if self._fragment:
            self._flush_fragment()
        channel = self._channel
        if channel is None or self._limit is not None:
            return False
        date, values, row_end = match.groups()
        day = day_date(date)
        tail = plain_tail(row_end)
        if tail is None or day is None or day <= self._last_date:
            return False
        quality, updated, loaded, untold = tail
        if untold and not all(self._teller.would_pass(code, "300") for code in untold):
            return False
        if self._day is not None:
            self._flush()
        self._dropped = False
        self._last_date = day
        numbers = values.decode("ascii")
        if alone and not quality.events:
            flag, method, reason, _, _ = quality
            self._days += 1
            self._values += channel.size
            self._hand_on(
                channel_day(channel, line, day, numbers, flag, method, reason, updated, loaded, self._created)
            )
        else:
            self._day = Day(line, day, numbers, (), (), quality, updated, loaded)
        return True

    # --------------------------------------------------------------------------------------------- any other row

    def take(self, line: int, row: bytes) -> None:
        """Any row."""
        row = row[: LINE_BYTES_MAX + 1]
        if row.startswith(BYTE_MARK):
            row = row.removeprefix(BYTE_MARK)
            self._beginning.tell(line, "byte-mark", "the row begins with a UTF-8 byte order mark")
        if not row.strip(b', "\t'):
            self._beginning.tell(line, "row-blank", "the row is empty")
            return
        kind = kind_of(row)
        room = LINE_BYTES_MAX - sum(len(part) for _, part in self._fragment)
        if self._fragment and kind not in KINDS and len(row) <= room and len(self._fragment) < FRAGMENTS_MAX:
            self._fragment.append((line, row))
            return
        self._flush_fragment()
        if row.startswith(CLOSES_DAY):
            self._flush()
        if not self._beginning.over and not self._begins(line, row, kind):
            return
        if self._ended:
            self._ended = False
            self._teller.tell(line, "after-end", "rows stand after the 900 record")
        fields = self._fields(line, row, kind)
        if fields is not None:
            self._record(line, row, kind, fields)
            self._mind_doubt(row, kind)

    def take_open(self, line: int, row: bytes) -> None:
        """The last row, without a line end: where no 900 record says otherwise it may be cut off."""
        row = row[: LINE_BYTES_MAX + 1]
        kind = kind_of(row.removeprefix(BYTE_MARK))
        certain = kind in ("100", "200", "900") or (kind != "400" and ends_in_time(row, kind))
        if self._ended or certain or not self._beginning.over or not row.strip(b', "\t'):
            self.take(line, row)
            return
        if self._fragment and kind not in KINDS:
            self._fragment.append((line, b"\0"))  # never whole
        if kind == "400":
            self._lose_event(line)
        self._flush()
        self._teller.tell(line, "row-cut", f"the file ends within the row {shown(row)}")

    def end(self) -> None:
        """After the last row.  Raises NemRefused."""
        self._flush()
        if not self._beginning.over:
            what = "the file is empty" if not self.line else "there is no NEM12 or NEM13 record in it"
            raise NemRefused(Problem(1, "not-nem", f"this is no meter data file: {what}"))
        if not self._ended:
            self._teller.tell(self.line, "end-missing", "the file ends without a 900 record")
        self._hand_on(
            End(self.line, self._days, self._reads, self._values, self._teller.count, self._services)
        )

    def _begins(self, line: int, row: bytes, kind: str) -> bool:
        """Is this the first record?  Raises NemRefused where there will be none."""
        if not self._beginning.ends(line, row, kind):
            return False
        if kind != "100":
            self._teller.tell(line, "header-missing", f"the first record is a {kind} record")
            self._version = VERSION_OF.get(kind, "")
            self._hand_on(Header(self._version, "", "", "", line))
        return True

    def _fields(self, line: int, row: bytes, kind: str) -> list[str] | None:
        """The row's fields, as many as its record has at least; None (told) where the row cannot be read."""
        fields, notes = fields_of(row)
        code, told = flaw_of(row, kind, fields)
        if fields is None or code:
            self._unreadable(line, row, kind, code, told)
            return None
        for code in notes:
            self._teller.tell(line, code, f"in a {kind} record", kind=kind)
        return fields if kind == "300" else fitted(line, fields, kind, self._teller)

    def _unreadable(self, line: int, row: bytes, kind: str, code: str, text: str) -> None:
        """A row that is dropped.  Where it may have been a 200 record, the channel is no longer certain."""
        if kind == "400":
            self._lose_event(line)
        self._flush()
        of_another_kind = kind not in ("", "200") and (kind in KINDS or code == "row-unknown")
        self._drop(line, code, text, lost=holds_channel(row) if of_another_kind else True)
        self._dropped = kind == "300"
        if code != "row-unknown":
            self._doubt_after(row)

    def _lose_event(self, line: int) -> None:
        self._flush_fragment()
        if self._day is not None:
            self._events.append(lost_event(line))

    def _drop(self, line: int, code: str, text: str, *, lost: bool) -> None:
        if self._channel and lost:
            self._enter(None)
            text += LOST
        self._teller.tell(line, code, text + "; the row is dropped")

    # ------------------------------------------------------------------------------------------------- records

    def _record(self, line: int, row: bytes, kind: str, fields: list[str]) -> None:
        if kind != "400":
            self._flush(keep_read=kind == "550")
        if self._version and VERSION_OF.get(kind, self._version) != self._version:
            self._teller.tell(line, "wrong-version", f"a {kind} record in a {self._version} file", kind=kind)
        if kind == "100":
            self._take_header(line, fields)
        elif kind == "200":
            channel = channel_of(line, fields, self._teller)
            self._enter(None if any(fields[WIDTHS["200"] :]) else channel)
        elif kind == "300":
            self._take_odd_day(line, row, fields)
        elif kind == "400":
            self._take_event(line, fields)
        elif kind == "250":
            self._read = reads.read_of(line, fields, self._created, self._teller)
        elif kind in ("500", "550"):
            self._take_service(line, fields, kind)
        else:
            self._ended, self._open = True, False
            self._enter(None)

    def _take_header(self, line: int, fields: list[str]) -> None:
        if self._open:
            self._teller.tell(line, "end-missing", "a second 100 record before a 900 record")
        header = header_of(line, fields, self._teller)
        self._version, self._created, self._open = header.version, header.created, True
        self._enter(None)
        self._hand_on(header)

    def _enter(self, channel: Channel | None) -> None:
        self._channel = channel
        self._last_date = ""
        self._dropped, self._limit = False, None
        self.day_row = day_pattern(channel.size).fullmatch if channel else no_day

    def _take_odd_day(self, line: int, row: bytes, fields: list[str]) -> None:
        """A 300 record that the pattern did not match, or that something is to be told of."""
        if self._channel is None:
            told = "a 300 record of no certain channel; the day is dropped"
            self._teller.tell(line, "channel-missing", told)
            self._dropped = True
            return
        count = self._channel.size
        if len(fields) > count + 5 and fields[count + 5]:
            self._hold(day_of(line, fields, self._channel, self._teller), line, row)
        else:  # it may go on in the next row
            self._fragment = [(line, row)]

    def _hold(self, day: Day | None, line: int, row: bytes) -> None:
        self._day, self._dropped = day, day is None
        if day is None:
            if holds_channel(row):
                self._enter(None)
                self._dropped = True
                told = "what is left of a 200 record stands within the row"
                self._teller.tell(line, "row-damaged", told + LOST)
            return
        if self._limit is not None and not self._last_date < day.date <= self._limit:
            self._day = None
            self._enter(None)
            self._dropped = True
            told = (
                f"field 2 (IntervalDate) is {day.date}, not the day after the damaged row; the day is dropped"
            )
            self._teller.tell(line, "channel-missing", told + LOST)
            return
        self._limit = None
        if day.date <= self._last_date:
            told = f"field 2 (IntervalDate) is {day.date}, after {self._last_date}"
            self._teller.tell(line, "dates-order", told)
        self._last_date = day.date

    def _take_event(self, line: int, fields: list[str]) -> None:
        if self._day is None or self._channel is None:
            code = "event-dropped" if self._dropped else "event-orphan"
            why = "with its day" if self._dropped else "for there is no day"
            self._teller.tell(line, code, f"the 400 is dropped {why}")
            return
        event = event_of(line, fields, self._channel.size, self._teller)
        if len(self._events) < self._channel.size:
            self._events.append(event)
        else:
            self._teller.tell(line, "event-overlap", "more 400s than intervals; the 400 is dropped")

    def _take_service(self, line: int, fields: list[str], kind: str) -> None:
        self._services += 1
        if kind == "550":
            if self._read is None:
                self._teller.tell(line, "service-orphan", "a 550 record without a 250 before it; dropped")
                return
            self._read = reads.with_services(self._read, line, fields, self._teller)
            self._flush()
            return
        if self._channel is None:
            self._teller.tell(line, "channel-missing", "a 500 record without a 200 record before it")
        bad = fields[1] not in TRANSACTIONS or len(fields[2]) > reads.ORDER_CHARS_MAX
        if bad or stamp_of(fields[3]) is None:
            self._teller.tell(line, "service-malformed", f"the 500 record is {quoted(','.join(fields))}")

    # ----------------------------------------------------------------------------------- a record is complete

    def _flush(self, *, keep_read: bool = False) -> None:
        """Hand on what is complete now that another record begins."""
        if self._fragment:
            self._flush_fragment()
        if self._day is not None and self._channel is not None:
            events, self._events = self._events, []
            day = finished(self._day, events, self._channel, self._created, self._teller)
            self._day = None
            if day is not None:
                self._days += 1
                self._values += self._channel.size
                self._hand_on(day)
        if self._read is not None and not keep_read:
            self._hand_on(reads.finished(self._read))
            self._read = None
            self._reads += 1

    def _flush_fragment(self) -> None:
        """A 300 record that was not complete in its row: with the rows after it, where they make one for certain."""
        if not self._fragment or self._channel is None:
            return
        (line, row), *more = self._fragment
        self._fragment = []
        whole = joined(line, [row, *(part for _, part in more)], self._channel) if more else None
        if whole is not None:
            self._teller.tell(line, "row-wrapped", f"the 300 record goes on for {len(more)} rows; joined")
            self._hold(whole, line, row)
            return
        fields = fields_of(row).fields or []
        self._hold(day_of(line, fields, self._channel, self._teller), line, row)
        for at, part in more:
            self._flush()
            self._drop(at, "row-unknown", f"the row is {shown(part)}", lost=may_be_channel(part))
        self._mind_doubt(row, "300")

    # ---------------------------------------------------------------------------------------- rows may be missing

    def _mind_doubt(self, row: bytes, kind: str) -> None:
        if self._teller.doubt and kind != "200":
            self._doubt_after(row)
        self._teller.doubt = False

    def _doubt_after(self, row: bytes) -> None:
        """The row may be two that ran together, with a 200 lost between: only the day after it is certain to belong."""
        if self._channel is None:
            return
        own = day_date(row[4:12]) if row.startswith(b"300,") else None
        self._last_date = max(own or "", self._last_date)
        last = max(self._last_date, self._limit or "")
        self._limit = (date.fromisoformat(last) + DAY).isoformat() if last and last < LAST_DATE else last
