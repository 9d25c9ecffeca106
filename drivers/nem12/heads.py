"""The records that say what follows: 100 (the file) and 200 (a channel)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from drivers.nem12.fields import (
    DAY_MIN,
    INTERVAL_LENGTHS,
    NAME_CHARS_MAX,
    NMI,
    NMI_CHARS_MAX,
    SUFFIX,
    SUFFIX_CHARS_MAX,
    UNIT_CHARS_MAX,
    check_digit,
    date_of,
    stamp_of,
    unit_of,
)
from drivers.nem12.items import Header
from drivers.nem12.rules import Teller, quoted

VERSIONS: Final = ("NEM12", "NEM13")
PARTICIPANT_CHARS_MAX: Final = 10


class Channel(NamedTuple):
    """What a 200 record says of the 300s after it; `size` values a day."""

    nmi: str
    suffix: str
    unit: str
    interval_min: int
    register: str
    stream: str
    serial: str
    size: int


def header_of(line: int, fields: Sequence[str], teller: Teller) -> Header:
    """Of a 100 record with its five fields.  What is malformed is left blank."""
    _, version, created, sender, receiver = fields[:5]
    if version not in VERSIONS:
        teller.tell(line, "header-malformed", f"field 2 (VersionHeader) is {quoted(version)}")
        version = version.upper() if version.upper() in VERSIONS else ""
    stamp = stamp_of(created)
    if stamp is None or len(stamp) != 12:
        teller.tell(line, "header-malformed", f"field 3 (DateTime) is {quoted(created)}")
    for at, (name, found) in enumerate((("FromParticipant", sender), ("ToParticipant", receiver)), 4):
        if not 0 < len(found) <= PARTICIPANT_CHARS_MAX:
            teller.tell(line, "header-malformed", f"field {at} ({name}) is {quoted(found)}")
    return Header(version, stamp or "", sender[:NAME_CHARS_MAX], receiver[:NAME_CHARS_MAX], line)


def channel_of(line: int, fields: Sequence[str], teller: Teller) -> Channel | None:
    """Of a 200 record with its ten fields; None where its NMI, suffix or interval length is not certain."""
    _, nmi, listed, register, suffix, stream, serial, unit, length, next_read = fields[:10]
    kept_nmi = nmi_of(line, nmi, teller)
    kept_suffix = suffix_of(line, suffix, listed, 5, teller)
    kept_unit = told_unit(line, unit, 8, teller)
    interval_min = _interval_min(line, length, teller)
    told_date(line, next_read, 10, teller)
    if kept_nmi is None or kept_suffix is None or interval_min is None:
        return None
    return Channel(
        kept_nmi, kept_suffix, kept_unit, interval_min, register[:NAME_CHARS_MAX], stream[:NAME_CHARS_MAX],
        serial[:NAME_CHARS_MAX], DAY_MIN // interval_min,
    )  # fmt: skip


def nmi_of(line: int, found: str, teller: Teller) -> str | None:
    """The NMI as it is kept: without its check digit, in capitals; an odd one as it stands; None where unusable."""
    nmi = found.upper()
    if nmi != found:
        teller.tell(line, "letter-case", f"field 2 (NMI) is {quoted(found)}", kind="nmi")
    if NMI.fullmatch(nmi):
        return nmi
    if NMI.fullmatch(nmi[:10]) and len(nmi) == 11:
        wanted = check_digit(nmi[:10])
        if nmi[10] == wanted:
            teller.tell(
                line, "nmi-check-digit", f"field 2 (NMI) is {quoted(nmi)}, with its check digit {wanted}"
            )
            return nmi[:10]
        told = f"field 2 (NMI) is {quoted(nmi)}, whose eleventh character is not the check digit {wanted}"
    else:
        told = f"field 2 (NMI) is {quoted(nmi)}"
    usable = 0 < len(nmi) <= NMI_CHARS_MAX
    teller.tell(line, "nmi-form", told + ("; kept as it stands" if usable else "; its rows are dropped"))
    return nmi if usable else None


def suffix_of(line: int, found: str, listed: str, at: int, teller: Teller) -> str | None:
    """The suffix as it is kept; None where unusable."""
    suffix = found.upper()
    if suffix != found:
        teller.tell(line, "letter-case", f"field {at} (NMISuffix) is {quoted(found)}", kind="suffix")
    usable = 0 < len(suffix) <= SUFFIX_CHARS_MAX
    if not SUFFIX.fullmatch(suffix):
        told = "kept as it stands" if usable else "its rows are dropped"
        teller.tell(line, "suffix-form", f"field {at} (NMISuffix) is {quoted(suffix)}; {told}")
    elif suffix not in pairs_of(listed.upper()):
        teller.tell(
            line, "suffix-unlisted",
            f"field {at} (NMISuffix) is {quoted(suffix)}, field 3 (NMIConfiguration) lists {quoted(listed)}",
        )  # fmt: skip
    return suffix if usable else None


def pairs_of(listed: str) -> set[str]:
    """The suffixes of an NMIConfiguration: two characters each."""
    return {listed[at : at + 2] for at in range(0, len(listed), 2)}


def told_unit(line: int, found: str, at: int, teller: Teller) -> str:
    """The unit as it is kept: in the standard's spelling, an unknown one as it stands."""
    unit = unit_of(found)
    if unit is not None:
        return unit
    if not found:
        teller.tell(line, "unit-blank", f"field {at} (UOM) is blank")
    else:
        teller.tell(line, "unit-unknown", f"field {at} (UOM) is {quoted(found)}; kept as it stands")
    return found[:UNIT_CHARS_MAX]


def told_date(line: int, found: str, at: int, teller: Teller) -> None:
    if found and date_of(found) is None:
        teller.tell(line, "next-read-date", f"field {at} (NextScheduledReadDate) is {quoted(found)}")


def _interval_min(line: int, found: str, teller: Teller) -> int | None:
    length = int(found) if found.isascii() and found.isdigit() and len(found) <= 4 else 0
    if length in INTERVAL_LENGTHS:
        return length
    usable = length > 0 and DAY_MIN % length == 0
    told = f"read with {DAY_MIN // length} values a day" if usable else "its rows are dropped"
    teller.tell(line, "interval-length", f"field 9 (IntervalLength) is {quoted(found)}; {told}")
    return length if usable else None
