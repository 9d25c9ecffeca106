"""What is wrong with a file's TOML, in the words of the person who wrote it, and where."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from edge.mistakes import Mistake

SYNTAX_MISTAKES_MAX: Final = 50

_POSITION: Final = re.compile(r" \(at (?:line (?P<line>\d+), column \d+|end of document)\)$")
_KEY_VALUE: Final = re.compile(r"""^\s*(?P<key>[\w.\-"' ]+?)\s*[=:]\s*(?P<value>.*?)\s*$""")
_HEADER: Final = re.compile(r"^\s*\[+\s*(?P<table>[^\]#]*?)\s*\]+")
_TYPOGRAPHIC: Final = re.compile("[“”„‟«»‘’‚‛]")
_QUOTES: Final = re.compile("\"\"\"|'''")


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
        mistakes.append(mistake)
        if not _may_pass_over(lines, index) or len(mistakes) >= SYNTAX_MISTAKES_MAX:
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
    pair = _KEY_VALUE.match(lines[index])
    key = ".".join(part for part in (_table_of(lines, index), pair["key"] if pair else "") if part)
    line = index + 1
    return Mistake(line, f"{where}:{line}", key, _syntax_text(reason, pair["value"] if pair else "")), index


def _syntax_text(reason: str, value: str) -> str:
    if reason == "Invalid value" and value.lower().rstrip(" ,") in (
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
    ):
        return "not a TOML value; write true or false, in small letters and without quotes"
    if reason == "Invalid value" and (not value or value.startswith("#")):
        return "has no value; give it one, or put # before the line to use the default"
    if reason == "Invalid value" and _TYPOGRAPHIC.match(value):
        return f'these are typographic quotes ({value[0]}); use "'
    texts = {
        "Invalid value": 'not a TOML value; text needs quotes: key = "text"',
        "Expected newline or end of document after a statement": (
            'something is left over after the value; text needs quotes, and decimals a point: "text", 2.5'
        ),
        "Expected '=' after a key in a key/value pair": "no equals sign after the key; write key = value",
        "Invalid statement": "neither [table] nor key = value; put # before it if it is a comment",
        "Cannot overwrite a value": "is set twice; keep one of them",
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
