"""What stands in a generated revision, as a person would have written it; the template calls for it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from textwrap import dedent
from typing import Final

from alembic.operations.ops import CreateTableOp, DropTableOp, MigrateOperation

INDENT: Final = "    "
LINE_MAX: Final = 100
_REMARK: Final = re.compile(r"\s*# ### ")


def docstring(message: str, operations: Iterable[MigrateOperation]) -> str:
    """The author's words as a sentence, then what the step does, where a comparison found that out."""
    told = [_sentence(" ".join(message.split()).replace('"', "'").replace("\\", "/"))]
    does: dict[str, str] = {}
    for one in operations:
        does.setdefault(getattr(one, "table_name", "more"), _verb(one))  # an index comes after its new table
    if does:
        told += ["", _sentence(", ".join(f"{verb} {table}" for table, verb in does.items())), ""]
    return "\n".join(told)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _verb(operation: MigrateOperation) -> str:
    if isinstance(operation, CreateTableOp):
        return "makes"
    return "removes" if isinstance(operation, DropTableOp) else "changes"


def steps(rendered: str | None) -> str:
    """The code that Alembic rendered of a step: no remarks, double quotes, a long call with an argument a line."""
    code = dedent("\n".join(line for line in (rendered or "pass").splitlines() if not _REMARK.match(line)))
    lines = "\n".join(line for node in ast.parse(code).body for line in _lines(node, INDENT))
    tokens = [_quoted(token) for token in tokenize.generate_tokens(io.StringIO(lines).readline)]
    return str(tokenize.untokenize(tokens)).strip()


def _lines(node: ast.stmt, margin: str) -> Iterator[str]:
    if isinstance(node, ast.With):
        yield f"{margin}with {', '.join(map(ast.unparse, node.items))}:"
        for inner in node.body:
            yield from _lines(inner, margin + INDENT)
        return
    line = margin + ast.unparse(node)
    if len(line) <= LINE_MAX or not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield line
        return
    yield f"{margin}{ast.unparse(node.value.func)}("
    yield from (f"{margin}{INDENT}{ast.unparse(one)}," for one in (*node.value.args, *node.value.keywords))
    yield f"{margin})"


def _quoted(token: tokenize.TokenInfo) -> tokenize.TokenInfo:
    text = token.string
    plain = token.type == tokenize.STRING and text[0] == "'" and not {'"', "\\"} & set(text)
    return token._replace(string=f'"{text[1:-1]}"') if plain else token
