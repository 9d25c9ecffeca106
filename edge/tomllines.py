"""Where each key of a TOML text stands, for messages that name the line.  `tomllib` gives values only.

Reads text that `tomllib` has accepted, so it need not notice mistakes; grammar: toml.io, version 1.0.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from typing import Final

KeyPath = tuple[str | int, ...]
"""Keys and, in lists, indices from 0: ("devices", 2, "interval_s")."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t]*")
_VOID: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR: Final = re.compile(r"[^,\]}\r\n#]*")
_STRINGS: Final = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\]|\\.)*"'),
    re.compile(r"'[^']*'"),
)


def find_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of each key, table header and list element of a valid TOML text."""
    return Finder(text).find()


class Finder:
    """A cursor over the text; each method reads one construct and leaves the cursor behind it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._implied: dict[KeyPath, int] = {}
        """Tables that only longer headings name: [a.b] makes a."""
        self._last_index: dict[KeyPath, int] = {}

    def find(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_VOID)
        while self._at < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._key_value(table)
            self._skip(_VOID)
        return self._implied | self._lines

    def _header(self, brackets: int) -> KeyPath:
        line = self._line()
        self._at += brackets
        *above, last = self._keys()
        path: KeyPath = ()
        for key in above:
            path = self._element((*path, key))
            self._implied.setdefault(path, line)
        path = (*path, last)
        if brackets == 2:
            self._last_index[path] = self._last_index.get(path, -1) + 1
            self._note(path, line)
            path = (*path, self._last_index[path])
        self._note(path, line)
        self._skip(_BLANK)
        self._at += brackets
        return path

    def _element(self, path: KeyPath) -> KeyPath:
        """The newest element where `path` is an array of tables, else `path` itself."""
        return (*path, self._last_index[path]) if path in self._last_index else path

    def _key_value(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, line)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _keys(self) -> list[str]:
        """A dotted key; the cursor ends at what follows the blanks behind it."""
        keys: list[str] = []
        while True:
            self._skip(_BLANK)
            if self._text[self._at] in "\"'":
                quoted = self._string()
                keys.append(str(tomllib.loads(f"key = {quoted}")["key"]))
            else:
                keys.append(self._take(_BARE_KEY))
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_VOID)
        index = 0
        while self._text[self._at] != "]":
            self._note((*path, index), self._line())
            self._value((*path, index))
            self._skip_comma()
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        self._skip(_VOID)
        while self._text[self._at] != "}":
            self._key_value(path)
            self._skip_comma()
        self._at += 1

    def _skip_comma(self) -> None:
        self._skip(_VOID)
        if self._text[self._at] == ",":
            self._at += 1
        self._skip(_VOID)

    def _string(self) -> str:
        for pattern in _STRINGS:
            if pattern.match(self._text, self._at):
                return self._take(pattern)
        raise ValueError(f"no end of the text that begins in line {self._line()}")

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None or match.end() == self._at:
            raise ValueError(f"cannot read line {self._line()}")
        self._at = match.end()
        return match.group()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _line(self) -> int:
        return bisect.bisect_left(self._line_ends, self._at) + 1

    def _note(self, path: KeyPath, line: int) -> None:
        self._lines.setdefault(path, line)
