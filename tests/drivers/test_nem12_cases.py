"""Every folder of tests/cases/nem12 and nem13, lenient and strict.

A folder has one input and an expected.json: `why`, then for each mode the days (or reads) and problems in the order in
which they are told, or what the file is refused for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from drivers.nem12 import RULES, ChannelDay, End, NemRefused, Problem, RegisterRead, parse
from drivers.nem12.container import members

CASES: Final = Path(__file__).parents[1] / "cases"
FOLDERS: Final = sorted(path for kind in ("nem12", "nem13") for path in (CASES / kind).iterdir())


def read(folder: Path, *, strict: bool) -> dict[str, Any]:
    """What the parser makes of a case, in the words of expected.json."""
    (path,) = [path for path in folder.iterdir() if path.name != "expected.json"]
    told: dict[str, Any] = {"days": [], "reads": [], "problems": []}
    try:
        for _, stream in members(path):
            for item in parse(stream, strict=strict):
                if isinstance(item, ChannelDay):
                    told["days"].append(without_hash(item))
                elif isinstance(item, RegisterRead):
                    told["reads"].append(without_hash(item) | {"body": json.loads(item.body)})
                elif isinstance(item, Problem):
                    told["problems"].append([item.line, item.code])
                    assert item.code in RULES
                    assert item.text.isprintable()
                elif isinstance(item, End):
                    assert item.problems == len(told["problems"]) or path.suffix == ".ZIP"
    except NemRefused as refused:
        return {"refused": [refused.problem.line, refused.problem.code]}
    return {key: found for key, found in told.items() if found or key == "problems"}


def without_hash(item: ChannelDay | RegisterRead) -> dict[str, Any]:
    assert len(item.hash) == 20
    return {name: field for name, field in item._asdict().items() if name != "hash"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_lenient_keeps_what_is_certain(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())["lenient"]
    found = read(folder, strict=False)
    assert found == {key: value for key, value in expected.items() if value or key == "problems"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_strict_refuses_what_is_against_the_standard(folder: Path) -> None:
    case = json.loads((folder / "expected.json").read_text())
    found = read(folder, strict=True)
    if "refused" in case["strict"]:
        assert found == case["strict"]
    else:  # what it accepts it reads as lenient does
        assert found == read(folder, strict=False) | case["strict"]


def test_every_quirk_has_a_folder() -> None:
    """21 is also in test_nem_hostile.py, 16 in cases/nem13."""
    numbers = {path.name[:2] for path in FOLDERS if path.parent.name == "nem12"}
    assert {f"{number:02d}" for number in range(22)} - {"16"} <= numbers


def test_every_code_is_met() -> None:
    """A code that no case brings about is a code nobody has seen work."""
    met = {
        code
        for folder in FOLDERS
        for mode in [json.loads((folder / "expected.json").read_text())["lenient"]]
        for _, code in [*mode.get("problems", []), *([mode["refused"]] if "refused" in mode else [])]
    }
    assert set(RULES) - met <= {"row-too-long", "text-too-long"}  # tests/drivers/test_nem_hostile.py
