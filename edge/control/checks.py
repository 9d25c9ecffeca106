"""What `tidewatt config check` says about control: each mistake with its place in the file and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drivers.boards import Board
from edge.control.check_hardware import hardware
from edge.control.check_rules import rules
from edge.control.parts import Parts, ReadDevice, parts_of
from edge.tomllines import KeyPath


def check_values(
    values: Mapping[str, Any], board: Board, read_device: ReadDevice
) -> Iterator[tuple[KeyPath, str]]:
    """The checks of a config's raw values; tables that cannot be read are passed over."""
    yield from checks(parts_of(values, read_device), board)


def checks(parts: Parts, board: Board) -> Iterator[tuple[KeyPath, str]]:
    """All that is wrong, each place once.  `board` is the machine that the site will run on."""
    found: dict[KeyPath, list[str]] = {}
    for check in (rules(parts), hardware(parts, board)):
        for path, text in check:
            texts = found.setdefault(path, [])
            if text not in texts:
                texts.append(text)
    for path, texts in found.items():
        yield path, "; also: ".join(texts)
