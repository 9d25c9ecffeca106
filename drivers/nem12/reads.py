"""NEM13: register reads (250) and the services that belong to them (550)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from drivers.nem12.fields import (
    NAME_CHARS_MAX,
    READ,
    TEXT_CHARS_MAX,
    TRANSACTIONS,
    Quality,
    number_of,
    quality_of,
    stamp_of,
)
from drivers.nem12.heads import nmi_of, suffix_of, told_date, told_unit
from drivers.nem12.items import RegisterRead
from drivers.nem12.rules import Teller, quoted

ORDER_CHARS_MAX: Final = 15


class Side(NamedTuple):
    """One of the two reads of a 250 record."""

    read: str
    at: str
    quality: Quality | None


def read_of(line: int, fields: Sequence[str], header: str, teller: Teller) -> RegisterRead | None:
    """Of a 250 record with its 23 fields; None (told) where it is not certain which read of which register it is.

    Its hash is still to be made: see `finished`.
    """
    nmi = nmi_of(line, fields[1], teller)
    suffix = suffix_of(line, fields[4], fields[2], 5, teller)
    direction = fields[7].upper()
    if direction not in ("I", "E"):
        teller.tell(
            line, "direction-unknown", f"field 8 (DirectionIndicator) is {quoted(fields[7])}; taken as blank"
        )
        direction = ""
    previous = _side(line, fields[8:13], "Prev", 9, teller)
    current = _side(line, fields[13:18], "Cur", 14, teller)
    quantity = number_of(fields[18])
    if quantity is None:
        teller.tell(line, "read-malformed", f"field 19 (Quantity) is {quoted(fields[18])}; taken as blank")
    unit = told_unit(line, fields[19], 20, teller)
    told_date(line, fields[20], 21, teller)
    updated = told_stamp(line, fields[21], 22, "UpdateDateTime", "stamp-malformed", teller)
    if not fields[21]:
        teller.tell(line, "stamp-missing", "field 22 (UpdateDateTime) is blank")
    loaded = told_stamp(line, fields[22], 23, "MSATSLoadDateTime", "stamp-malformed", teller)
    if nmi is None or suffix is None or not current.at:
        return None
    body = {
        "configuration": fields[2][:TEXT_CHARS_MAX],
        "stream": fields[5][:NAME_CHARS_MAX],
        **_said("previous", previous.quality),
        **_said("current", current.quality, flag=False),
        "next_read_date": fields[20][:NAME_CHARS_MAX],
    }
    return RegisterRead(
        nmi, suffix, fields[3][:NAME_CHARS_MAX], fields[6][:NAME_CHARS_MAX], direction, previous.at, current.at,
        previous.read, current.read, quantity or "", unit, current.quality.flag if current.quality else "",
        _json(body), updated, loaded, header, line, "",
    )  # fmt: skip


def _side(line: int, fields: Sequence[str], name: str, at: int, teller: Teller) -> Side:
    found, read_at, flag, reason, text = fields
    if not READ.fullmatch(found):
        teller.tell(line, "read-malformed", f"field {at} ({name}Read) is {quoted(found)}; taken as blank")
        found = ""
    stamp = told_stamp(line, read_at, at + 1, f"{name}ReadDateTime", "read-time", teller)
    if not read_at:
        dropped = "; the read is dropped" if name == "Cur" else ""
        teller.tell(line, "read-time", f"field {at + 1} ({name}ReadDateTime) is blank{dropped}")
    quality = quality_of(flag, reason, text)
    if quality is None or quality.flag == "V":
        teller.tell(
            line, "quality-unknown", f"field {at + 2} ({name}QualityMethod) is {quoted(flag)}; taken as blank"
        )
        return Side(found, stamp, None)
    for code, problem in quality.problems:
        teller.tell(line, code, f"field {at + 2}: {problem}", kind="250")
    return Side(found, stamp, quality)


def told_stamp(line: int, found: str, at: int, name: str, code: str, teller: Teller) -> str:
    """A time as it is kept: its digits, "" where blank or malformed (told)."""
    if not found:
        return ""
    stamp = stamp_of(found)
    if stamp is None:
        teller.tell(line, code, f"field {at} ({name}) is {quoted(found)}; taken as blank")
        return ""
    if len(stamp) == 12:
        teller.tell(line, "stamp-short", f"field {at} ({name}) is {quoted(found)}", kind="250")
    return stamp


def _said(side: str, quality: Quality | None, *, flag: bool = True) -> dict[str, str | None]:
    if quality is None:
        return {}
    said: dict[str, str | None] = {f"{side}_method": quality.method, f"{side}_reason": quality.reason}
    return {f"{side}_quality": quality.flag, **said} if flag else said


def with_services(read: RegisterRead, line: int, fields: Sequence[str], teller: Teller) -> RegisterRead:
    """The read with the 550 record (five fields) behind it."""
    for at, name in ((1, "Prev"), (3, "Cur")):
        code, order = fields[at], fields[at + 1]
        if code not in TRANSACTIONS or len(order) > ORDER_CHARS_MAX:
            found = f"field {at + 1} ({name}TransCode) is {quoted(code)}, field {at + 2} {quoted(order)}"
            teller.tell(line, "service-malformed", found)
    names = ("previous_transaction", "previous_order", "current_transaction", "current_order")
    said = {name: field[:NAME_CHARS_MAX] for name, field in zip(names, fields[1:5], strict=True)}
    return read._replace(body=_json(json.loads(read.body) | said))


def finished(read: RegisterRead) -> RegisterRead:
    """The read with its hash."""
    content = "\x1f".join(map(str, (read.serial, read.direction, read.from_at, *read[7:17])))
    return read._replace(hash=blake2b(content.encode(), digest_size=10).hexdigest())


def _json(body: dict[str, str | None]) -> str:
    """What is blank is left out."""
    return json.dumps(
        {key: text for key, text in body.items() if text}, ensure_ascii=False, separators=(",", ":")
    )
