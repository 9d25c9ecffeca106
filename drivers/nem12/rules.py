"""Everything that can be wrong with a meter data file, by code: what the standard asks, and what its sender can do.

A code never changes its meaning: ledgers, events and scripts hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from drivers.nem12.items import NemRefused, Problem

FOUND_CHARS_MAX: Final = 40
"""How much of a field is quoted in a problem's text."""


class Rule(NamedTuple):
    """refuses: strict mode refuses the file for it; once: lenient mode tells it once a file (and kind of record).

    doubt: the row may be two that ran together, with what stood between them lost
    """

    asks: str
    do: str
    refuses: bool = True
    once: bool = False
    doubt: bool = False


def _warn(asks: str, do: str) -> Rule:
    return Rule(asks, do, refuses=False)


def _once(asks: str, do: str) -> Rule:
    return Rule(asks, do, once=True)


def _doubt(asks: str, do: str) -> Rule:
    return Rule(asks, do, doubt=True)


_RESEND: Final = "ask the sender for the whole file again"

RULES: Final[dict[str, Rule]] = {
    # the file
    "not-nem": Rule("a 100 record, then NEM12 or NEM13 records", "send the CSV file itself, as plain text"),
    "header-missing": _once("a 100 record first", "put the 100 record back; versions are told by its time"),
    "header-malformed": Rule("100,NEM12 or NEM13,CCYYMMDDhhmm,from,to", "correct the 100 record"),
    "wrong-version": _once("NEM12 or NEM13 records, never both", "send two files"),
    "end-missing": Rule("a 900 record last", f"the file may be cut off: {_RESEND}"),
    "after-end": Rule("nothing after the 900 record", "send each file by itself, or take the inner 900 away"),
    # how it is written
    "byte-mark": _once("plain ASCII without a byte order mark", "save the file without a byte order mark"),
    "quotes": _once("fields without quotes, and no commas in them", "write the fields without quotes"),
    "blanks": _once("no blanks around fields", "write the fields without them"),
    "letter-case": _once("capital letters", "write them in capitals"),
    "encoding": _once("plain ASCII", "write the text in plain ASCII"),
    "row-blank": _once("no empty rows", "take the empty rows away"),
    "row-padded": _once("as many fields as the record has", "take the commas at the end away"),
    "fields-missing": _once("every field of the record with its comma, blank or not", "add the missing commas"),
    "fields-extra": _doubt("as many fields as the record has", "write free text without commas"),
    "row-unknown": Rule("records 100, 200, 300, 400, 500, 900 (NEM12) or 100, 250, 550, 900 (NEM13)",
                        "take the row away, or correct its first field"),
    "row-damaged": _doubt("printable text", _RESEND),
    "row-too-long": Rule("one record a row", _RESEND),
    "row-wrapped": Rule("a record in one row", "write the record without line breaks"),
    "row-cut": Rule("whole records", f"the file is cut off: {_RESEND}"),
    # 200
    "channel-missing": Rule("a 200 record before 300, 400 and 500", "put the 200 record back"),
    "nmi-form": Rule("an NMI of ten capital letters and digits, without I and O", "correct the NMI"),
    "nmi-check-digit": Rule("the NMI's ten characters without its check digit", "write the ten characters only"),
    "suffix-form": Rule("a suffix of a letter and 1-9 or a letter, such as E1", "correct NMISuffix"),
    "suffix-unlisted": Rule("every suffix in NMIConfiguration", "list it there"),
    "unit-blank": Rule("a unit such as KWH", "fill UOM in"),
    "unit-unknown": Rule("MWh, kWh, Wh, MVArh, kVArh, VArh, MVAr, kVAr, VAr, MW, kW, W, MVAh, kVAh, VAh, MVA, kVA, VA, "
                         "kV, V, kA, A or pf", "correct UOM"),
    "interval-length": Rule("an IntervalLength of 5, 15 or 30", "correct IntervalLength"),
    "next-read-date": Rule("NextScheduledReadDate as CCYYMMDD, or blank", "correct it, or leave it blank"),
    # 300
    "date-malformed": _doubt("IntervalDate as CCYYMMDD, a day of the calendar", "correct it"),
    "dates-order": Rule("IntervalDates that ascend under one 200 record",
                        "sort the 300 records; send a changed day in a newer file"),
    "count-disagrees": _doubt("1440 / IntervalLength values, then the quality",
                            "correct IntervalLength, or send all values of the day"),
    "value-malformed": Rule("values as digits with at most one decimal point, without sign and exponent",
                            "correct the value, or send null data (quality N)"),
    "value-blank": Rule("a value for every interval that is not null data (quality N)",
                        "send the values, or say so by quality N"),
    "day-blank": Rule("values, or null data (quality N)", "send the values, or say so by quality N"),
    "stamp-missing": Rule("an UpdateDateTime, unless the quality is N",
                          "fill it in: the newest version of a day is told by it"),
    "stamp-short": _once("times as CCYYMMDDhhmmss", "write the seconds too"),
    "stamp-malformed": _doubt("times as CCYYMMDDhhmmss", "correct the time"),
    # quality
    "quality-unknown": _doubt("quality A, E, S, F, N or V (V in a 300 of NEM12 only)", "correct the quality"),
    "method-missing": Rule("a method behind the quality E, S or F, such as S14", "add the method"),
    "method-unexpected": Rule("no method behind the quality A, N or V", "take the method away"),
    "method-unlisted": _warn("a method that the tables give for this quality", "see whether the method is meant"),
    "reason-missing": Rule("a reason for the quality S or F", "add the reason code"),
    "reason-malformed": _doubt("a reason code of 0 to 99", "correct the reason code"),
    "reason-text-missing": Rule("a description for reason 0", "say the reason in ReasonDescription"),
    "text-too-long": _warn("a description of at most 240 characters", "shorten it"),
    # 400
    "event-orphan": Rule("a 400 record right after the 300 (and 400s) of its day", "put it there"),
    "event-dropped": Rule("a readable 300 record before its 400s", "correct the 300 record"),
    "event-range": _doubt("StartInterval and EndInterval from 1 to 1440 / IntervalLength, in this order",
                        "correct the two"),
    "event-overlap": Rule("400s that do not overlap", "let each interval stand in one 400 record"),
    "event-gap": Rule("400s that cover every interval of a day of quality V", "add the missing 400 records"),
    "event-missing": Rule("400s for a day of quality A with reason 61, 79 or 89", "add the 400 records"),
    "event-unexpected": Rule("400s only for a day of quality V, or A with reason 61, 79 or 89",
                             "give the day quality V"),
    # 500, 250, 550
    "service-malformed": Rule("a transaction code A, C, D, E, G, N, O, R or S, an order of at most 15 characters and "
                              "a time as CCYYMMDDhhmmss", "correct the record"),
    "service-orphan": Rule("a 550 record right after its 250", "put it there"),
    "direction-unknown": Rule("DirectionIndicator I or E", "correct it"),
    "read-malformed": Rule("register reads and the quantity as digits with at most one decimal point",
                           "correct the number"),
    "read-time": Rule("read times as CCYYMMDDhhmmss", "correct the time"),
}  # fmt: skip


class Teller:
    """Takes problems as they are found: hands them on, or refuses the file for them.

    doubt  one of them was such that its row is in doubt; whoever minds takes it back
    """

    def __init__(self, hand_on: Callable[[Problem], object], *, strict: bool) -> None:
        self._hand_on = hand_on
        self._strict = strict
        self._told: set[tuple[str, str]] = set()
        self.count = 0
        self.doubt = False

    def tell(self, line: int, code: str, text: str, *, kind: str = "") -> None:
        """kind: what `once` counts apart, such as the record.  Raises NemRefused."""
        rule = RULES[code]
        if rule.once and (code, kind) in self._told:
            return
        self._told.add((code, kind))
        problem = Problem(line, code, text)
        if self._strict and rule.refuses:
            raise NemRefused(problem)
        self.count += 1
        self.doubt = self.doubt or rule.doubt
        self._hand_on(problem)

    def would_pass(self, code: str, kind: str = "") -> bool:
        """Was this told already, so that it need not be looked at again?"""
        return RULES[code].once and (code, kind) in self._told


def quoted(text: str) -> str:
    """A field of a file as a problem's text shows it: short, printable, in quotes."""
    shown = text if len(text) <= FOUND_CHARS_MAX else text[:FOUND_CHARS_MAX] + "…"
    return '"' + "".join(char if char.isprintable() else "·" for char in shown) + '"'
