"""Where keys stand in a TOML text."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.options import leaves
from edge.tomllines import KeyPath, find_lines

TEXT = '''# a comment with [brackets] and key = value
top = 1
dotted.inner = "x"   # not = a key
"quoted key"."a.b" = 'it''s'

[table]
list = [
  1,   # one
  2,
]
text = """
[no.table]
nokey = 3
"""
literal = \'\'\'
also = no key
\'\'\'
inline = { a = 1, b.c = [1, { d = 2 }] }
empty = ""
date = 1979-05-27 07:32:00Z
[ table . "sub table" ]
x = true

[[devices]]
name = "one"
  [devices.points.temperature]
  offset = 0.2
[[devices]]
name = "two \\" ] # quoted"
[[devices.outlets]]
pin = 1
[[devices.outlets]]
pin = 2
'''


def line_of(needle: str) -> int:
    """The line of the first text that begins with `needle`."""
    return next(n for n, line in enumerate(TEXT.split("\n"), 1) if line.strip().startswith(needle))


def test_every_kind_of_key_is_found_in_its_line() -> None:
    text = TEXT.replace("'it''s'", "'its'")
    lines = find_lines(text)
    expected: dict[KeyPath, int] = {
        ("top",): 2,
        ("dotted", "inner"): 3,
        ("quoted key", "a.b"): 4,
        ("table",): line_of("[table]"),
        ("table", "list"): line_of("list ="),
        ("table", "list", 1): line_of("2,"),
        ("table", "text"): line_of("text ="),
        ("table", "literal"): line_of("literal ="),
        ("table", "inline", "a"): line_of("inline ="),
        ("table", "inline", "b", "c", 1, "d"): line_of("inline ="),
        ("table", "empty"): line_of("empty ="),
        ("table", "date"): line_of("date ="),
        ("table", "sub table", "x"): line_of("x = true"),
        ("devices",): line_of("[[devices]]"),
        ("devices", 0, "name"): line_of('name = "one"'),
        ("devices", 0, "points", "temperature", "offset"): line_of("offset"),
        ("devices", 1, "name"): line_of('name = "two'),
        ("devices", 1, "outlets", 1, "pin"): line_of("pin = 2"),
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("table", "nokey") not in lines


KEYS = st.text(min_size=1, max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {inline(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(inline(held) for held in value) + "]"
    return quoted(value) if isinstance(value, str) else str(value).lower()


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_every_value_of_any_document_has_a_line(document: dict[str, dict[str, Any]]) -> None:
    text = "".join(
        f"\n[{quoted(table)}]\n"
        + "".join(f"{quoted(key)} = {inline(value)}\n" for key, value in held.items())
        for table, held in document.items()
    )
    parsed = tomllib.loads(text)
    lines = find_lines(text)
    for path, _ in leaves(parsed):
        assert path in lines, path
    for table, held in document.items():
        for key in held:
            assert text.split("\n")[lines[(table, key)] - 1].startswith(quoted(key))


def test_a_table_that_only_longer_headings_name_is_in_the_line_of_the_first() -> None:
    assert find_lines("\n[a.b]\n[a.c]\n")["a",] == 2
    assert find_lines("\n[a.b]\n[a]\n")["a",] == 3
    assert find_lines("\n[[a.b]]\n[[a.b]]\n")["a",] == 2
