"""`tidewatt nem12`: run as a person does, without a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from edge.cli.main import run

CASES: Final = Path(__file__).parents[1] / "cases"


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = run(["--config", "/nowhere/config.toml", "nem12", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def shown(capsys: pytest.CaptureFixture[str], path: Path) -> Any:
    code, out, _ = told(capsys, "show", path, "--json")
    assert code == 0
    return json.loads(out)


def test_show_has_the_promised_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, CASES / "nem12/10-some-blank/input.csv") == {
        "version": "NEM12",
        "created": "202601151200",
        "channels": [
            {
                "nmi": "2001985732", "suffix": "E1", "unit": "kWh", "interval_min": 30, "days": 1, "values": 46,
                "sum": "105.0", "first": "2026-01-10", "last": "2026-01-10", "quality": {"A": 48},
            }
        ],
        "problems": [
            {"line": 3, "code": "value-blank", "text": "field 13 (IntervalValue11) and 1 more blank; kept as no value"}
        ],
    }  # fmt: skip


def test_show_sums_the_newest_version_of_each_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Of three versions of a day the first has the newest UpdateDateTime: 1.001 + ... + 1.048."""
    (channel,) = shown(capsys, CASES / "nem12/11-same-day-twice/input.csv")["channels"]
    assert (channel["days"], channel["values"], channel["sum"]) == (1, 48, "49.176")


def test_show_of_nem13_has_reads_and_quantity(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, CASES / "nem13/01-plain/input.csv")
    assert found["version"] == "NEM13"
    assert found["channels"] == [
        {
            "nmi": "2001985732", "suffix": "E1", "unit": "kWh", "interval_min": None, "days": None, "reads": 2,
            "quantity": "1876.4", "first": "2025-10-15", "last": "2026-04-12", "quality": {"A": 2},
        }
    ]  # fmt: skip


def test_show_adds_up_a_zip_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    (channel,) = shown(capsys, CASES / "nem12/17-zip-of-several/INPUT.ZIP")["channels"]
    assert (channel["days"], channel["first"], channel["last"]) == (3, "2026-01-10", "2026-01-12")


def test_sums_are_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A float would lose the last digits, and a decimal context of 28 digits too."""
    path = tmp_path / "big.csv"
    values = ["123456789012345.123456789012345", "0.000000000000001", *["0"] * 46]
    path.write_text(
        "100,NEM12,202601151200,A,B\n200,2001985732,E1,1,E1,N1,M,KWH,30,\n"
        f"300,20260110,{','.join(values)},A,,,20260112030405,\n900\n"
    )
    assert shown(capsys, path)["channels"][0]["sum"] == "123456789012345.123456789012346"


def test_show_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "show", CASES / "nem12/08-short-with-400s/input.csv")
    assert code == 0
    for part in (
        "NEM12",
        "2026-01-15 12:00 (UTC+10)",
        "MDP1",
        "from the grid",
        "194.352",
        "3 problems",
        "line 4: 40 values",
    ):
        assert part in out, part


def test_check_says_where_what_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "check", CASES / "nem12/24-bad-dates/input.csv")
    assert code == 1
    assert 'input.csv:4: error: field 2 (IntervalDate) is "20260230"; the day is dropped' in out
    assert "asked for: IntervalDate as CCYYMMDD, a day of the calendar; correct it [date-malformed]" in out
    assert "not in order, 2 channel-days can be read; 3 problems: 2 date-malformed, 1 event-dropped" in out


def test_form_that_costs_nothing_fails_with_strict_only(capsys: pytest.CaptureFixture[str]) -> None:
    padded = CASES / "nem12/06-padded/input.csv"
    assert told(capsys, "check", padded)[0] == 0
    assert told(capsys, "check", "--strict", padded)[0] == 1


def test_problems_of_a_kind_are_printed_up_to_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.csv"
    rows = (CASES / "nem12/00-valid/input.csv").read_text().splitlines()
    path.write_text("\n".join([*rows[:2], *["500,X,,20260112154500,"] * 50, "900", ""]))
    for options, shown in (([], 20), (["--all"], 50)):
        code, out, _ = told(capsys, "check", *options, path)
        assert code == 1
        assert out.count("[service-malformed]") == shown
        assert "50 problems: 50 service-malformed" in out


def test_pairs_outside_the_tables_are_notes_in_strict_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "check", "--strict", CASES / "nem12/22-odd-methods/input.csv")
    assert code == 0
    assert 'input.csv:3: note: field 51: quality is "E64"' in out


@pytest.mark.parametrize("folder", sorted((CASES / "nem12").iterdir()), ids=lambda path: path.name)
def test_check_strict_agrees_with_the_cases(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = json.loads((folder / "expected.json").read_text())
    (path,) = [path for path in folder.iterdir() if path.name != "expected.json"]
    code, out, _ = told(capsys, "check", "--strict", "--json", path)
    (found,) = json.loads(out)["files"]
    refused = "refused" in case["strict"]
    assert found["ok"] is not refused
    assert code == (2 if "refused" in case["lenient"] else int(refused))
    assert all(one["asks"] and one["do"] for one in found["problems"])


@pytest.mark.parametrize("verb", ["show", "check"])
def test_what_cannot_be_read_is_told_with_exit_code_2(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "letter.pdf"
    other.write_bytes(b"%PDF-1.7 \0\0\0")
    for path, says in (
        (tmp_path / "none.csv", "No such file"),
        (tmp_path, "directory"),
        (other, "no meter data file"),
    ):
        code, _, err = told(capsys, verb, path)
        assert code == 2
        assert str(path) in err
        assert says in err


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = CASES / "nem12/00-valid/input.csv"
    code, out, err = told(capsys, "check", tmp_path / "none.csv", good)
    assert code == 2
    assert "none.csv" in err
    assert "in order, 6 channel-days" in out
