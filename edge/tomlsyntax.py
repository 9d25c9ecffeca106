"""What is wrong with a file's TOML, in the words of the person who wrote it, and where."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from typing import Any, Final

from edge.mistakes import Mistake

SYNTAX_MISTAKES_MAX: Final = 50

_POSITION: Final = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
_KEY_VALUE: Final = re.compile(r"""^\s*(?P<key>[\w.\-"' ]+?)\s*[=:]\s*(?P<value>.*?)\s*$""")
_HEADER: Final = re.compile(r"^\s*\[+\s*(?P<table>[^\]#]*?)\s*\]+")
_HEADING: Final = re.compile(r"^\s*(?P<open>\[+)\s*(?P<table>[\w.\- ]*?)\s*(?P<close>\]*)\s*(?:#.*)?$")
_TYPOGRAPHIC: Final = re.compile("[“”„‟«»‘’‚‛]")
_DASHES: Final = re.compile("[‐‑‒–—−]")
_QUOTES: Final = re.compile("\"\"\"|'''")
_NOT_IN_KEYS: Final = re.compile(r"[^A-Za-z0-9_.-]")
_BOOLEANS: Final = ("true", "false", "yes", "no", "on", "off")
_WITH_UNIT: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?\s*[A-Za-z°%µ][^\s;]*$")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+$")
_LEADING_ZERO: Final = re.compile(r"[+-]?0+[0-9]+(?:\.[0-9]+)?$")
_ENDLESS: Final = re.compile(r"[0-9_]{4000,}")
"""Python reads no longer number; no option takes one of a fraction of that."""


def read_toml(text: str, where: str) -> tuple[dict[str, Any], list[Mistake], bool]:
    """Values, what is wrong with the syntax, and whether the rest can still be judged.

    A wrong `key = value` line is reported and passed over, so that one slip does not hide the others.
    """
    mistakes: list[Mistake] = []
    lines = text.split("\n")
    while True:
        try:
            return tomllib.loads("\n".join(lines)), mistakes, True
        except tomllib.TOMLDecodeError as error:
            mistake, index = _syntax_mistake(error, lines, where)
        except (ValueError, RecursionError):  # not from tomllib's grammar, so that it names no place
            mistake, index = _endless(lines, where)
        mistakes.append(mistake)
        if not mistake.line or not _may_pass_over(lines, index) or len(mistakes) >= SYNTAX_MISTAKES_MAX:
            return {}, mistakes, False
        lines[index] = ""


def _syntax_mistake(error: tomllib.TOMLDecodeError, lines: list[str], where: str) -> tuple[Mistake, int]:
    found = _POSITION.search(str(error))
    at_line = found["line"] if found else None
    index = min(int(at_line), len(lines)) - 1 if at_line else len(lines) - 1
    reason = _POSITION.sub("", str(error))
    opened = _left_open(lines, len(lines) if at_line is None else index)
    if opened is not None:
        index, reason = opened
    pair, line = _KEY_VALUE.match(lines[index]), index + 1
    text = _of_heading(reason, lines, index) or _of_value(reason, pair["value"] if pair else "")
    text = text or _of_key(reason, lines[index]) or _syntax_text(reason)
    return Mistake(line, f"{where}:{line}", _key_of(lines, index), text), index


def _endless(lines: list[str], where: str) -> tuple[Mistake, int]:
    """What cannot be read though its grammar is right: a number of a thousand digits, lists in lists without end."""
    index = next((i for i, line in enumerate(lines) if _ENDLESS.search(line)), -1)
    if index < 0:
        return Mistake(0, where, "", "lists or tables stand in each other too deeply; take some apart"), 0
    said = "the number has too many digits; no option needs so many"
    return Mistake(index + 1, f"{where}:{index + 1}", _key_of(lines, index), said), index


def _key_of(lines: list[str], index: int) -> str:
    """The dotted key that a line sets, as far as it can be read."""
    pair = _KEY_VALUE.match(lines[index])
    return ".".join(part for part in (_table_of(lines, index), pair["key"] if pair else "") if part)


def _of_heading(reason: str, lines: list[str], index: int) -> str:
    """What is wrong with a line that begins a table; "" for any other."""
    heading = _HEADING.match(lines[index])
    if heading is None:
        return ""
    name, brackets = heading["table"], max(len(heading["open"]), len(heading["close"]))
    if len(heading["open"]) != len(heading["close"]):
        most = min(brackets, 2)
        return f"the brackets do not match; write {'[' * most}{name}{']' * most}"
    if reason != "Cannot overwrite a value":
        return ""
    for line, text in enumerate(lines[:index], start=1):
        above = _HEADING.match(text)
        if above and above["table"] == name:
            return f"[{name}] stands in line {line} with one bracket; write [[{name}]] there too"
        if above and above["table"].startswith(f"{name}."):
            return f"[{above['table']}] in line {line} stands before it; move that behind the [[{name}]] it is of"
    return ""


def _of_value(reason: str, value: str) -> str:
    """What is wrong with the right side of an equals sign, where that can be told."""
    bare = value.partition("#")[0].strip()
    if reason == "Invalid value":
        return _no_value(bare)
    return _left_over(bare) if reason == "Expected newline or end of document after a statement" else ""


def _no_value(bare: str) -> str:
    if not bare:
        return "has no value; give it one, or put # before the line to use the default"
    if bare.lower().rstrip(" ,") in _BOOLEANS:
        return "not a TOML value; write true or false, in small letters and without quotes"
    if _TYPOGRAPHIC.match(bare):
        return f'these are typographic quotes ({bare[0]}); use "'
    if _DASHES.match(bare):
        return f"this is a typographic dash ({bare[0]}); write a minus: -"
    return "two equals signs; write key = value" if bare.startswith("=") else ""


def _left_over(bare: str) -> str:
    """Shows nothing of the value: it may be a secret that lacks its quotes."""
    if bare.endswith(";"):
        return "a line ends without a semicolon here; remove it"
    if _DECIMAL_COMMA.match(bare):
        return "decimals have a point: 2.5"
    if _LEADING_ZERO.match(bare):
        return "a number begins with no 0; take it away, or put text into quotes"
    if _WITH_UNIT.match(bare):
        return "letters after a number; write the number alone, in the option's own unit, or put text into quotes"
    return ""


def _of_key(reason: str, line: str) -> str:
    """What is wrong with the left side of an equals sign, or with a line that has none, where that can be told."""
    for character in line:
        if character not in " \t" and unicodedata.category(character) in ("Zs", "Cf", "Cc"):
            shown = unicodedata.name(character, "control character").lower()
            return f"an invisible character (U+{ord(character):04X}, {shown}) is in this line; type the line anew"
    if reason != "Expected '=' after a key in a key/value pair":
        return ""
    key, equals, _ = line.partition("#")[0].partition("=")
    key = key.strip()
    if not equals:
        return "no equals sign but a colon; write key = value" if ":" in key else ""
    odd = _NOT_IN_KEYS.search(key)
    if odd is None:
        return ""
    if odd[0].isspace():
        return f"a key has no blanks; write {'_'.join(key.split())} = …"
    return f"{odd[0]} may not stand in a key; keys are small letters, digits and _"


def _syntax_text(reason: str) -> str:
    texts = {
        "Invalid value": 'not a TOML value; text needs quotes: key = "text"',
        "Expected newline or end of document after a statement": (
            'something is left over after the value; text needs quotes, and decimals a point: "text", 2.5'
        ),
        "Expected '=' after a key in a key/value pair": "no equals sign after the key; write key = value",
        "Invalid statement": "neither [table] nor key = value; put # before it if it is a comment",
        "Cannot overwrite a value": "is set twice; keep one of them",
        "Invalid hex value": "a backslash is special in double quotes; use single quotes",
        "Escaped character is not a Unicode scalar value": "a backslash is special in double quotes; use single quotes",
        "Illegal character '\\n'": "the text has no closing quote; end it in the line where it begins",
        "Unescaped '\\' in a string": "a backslash is special in double quotes; use single quotes",
        "Unterminated string": "the text that begins here has no end; close its quotes",
        "Unclosed array": "the list that begins here has no end; close it with ]",
        "Unclosed inline table": "the table in braces has no end; keep it in one line and close it with }",
        "Expected ']' at the end of a table declaration": "the table's name has no end; write [table]",
        "Expected ']]' at the end of an array declaration": "the table's name has no end; write [[table]]",
    }
    if reason.startswith("Cannot declare"):
        return "this table stands twice; put its options under one heading, or write [[…]] if it is one of several"
    return texts.get(reason, f"is not TOML ({reason}); see https://toml.io")


def _left_open(lines: list[str], end: int) -> tuple[int, str] | None:
    """The line before `end` whose list or long text was never closed, and what tomllib would say of it."""
    for index in range(end - 1, -1, -1):
        if _HEADER.match(lines[index]):
            return None
        pair = _KEY_VALUE.match(lines[index])
        if pair is None:
            continue
        text = "\n".join([pair["value"], *lines[index + 1 : end]])
        quotes = _QUOTES.match(pair["value"])
        if quotes and text.count(quotes.group()) % 2:
            return index, "Unterminated string"
        if pair["value"].startswith("[") and not _balanced(text):
            return index, "Unclosed array"
    return None


def _table_of(lines: list[str], index: int) -> str:
    """The table a line belongs to, or that it begins."""
    if lines[index].lstrip().startswith("["):
        begun = _HEADER.match(lines[index])
        return begun["table"] if begun else ""
    for line in reversed(lines[:index]):
        header = _HEADER.match(line)
        if header:
            return header["table"]
    return ""


def _may_pass_over(lines: list[str], index: int) -> bool:
    """Whether dropping the line leaves the others their meaning: no header, nothing that spans lines."""
    line = lines[index]
    header = line.lstrip().startswith("[")
    return bool(line.strip()) and not header and not _QUOTES.search(line) and _balanced(line)


def _balanced(line: str) -> bool:
    return line.count("[") == line.count("]") and line.count("{") == line.count("}")
