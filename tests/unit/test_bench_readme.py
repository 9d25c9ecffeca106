"""The table that `make bench README=1` writes: its own rows, and nothing else of the file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import readme
from tests.bench.figures import Figure, Machine
from tests.bench.parts import PARTS

MACHINE = Machine(cpu="A Pi", cores=4, kernel="6.12", python="3.11.2", day="2026-01-02")
LATER = replace(MACHINE, day="2026-02-03")
MEMORY = Figure(
    part="100 points at 1 Hz", what="memory (PSS), page open", value=68.12, unit="MB", target=75, runs=(67, 69.4, 68.12)
)  # fmt: skip
PEER = Figure(part=f"{readme.GATEWAY_PART}, 100 points at 1 Hz", what="memory (PSS)", value=49.4, unit="MB")
SHARE = Figure(part="drain of 1,000,000 readings", what="drain : bare COPY", value=0.4, unit="", target=0.45,
               better="more")  # fmt: skip
TEXT = "# tidewatt\n\nbefore\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(TEXT)
    return path


def test_what_was_measured_stands_between_the_marks_with_target_spread_and_peer(file: Path) -> None:
    readme.publish(file, {"daemon": [MEMORY], "gateway": [PEER], "drain": [SHARE]}, MACHINE)
    text = file.read_text()
    assert text.startswith("# tidewatt\n\nbefore\n<!-- bench -->\n| | tidewatt |")
    assert text.endswith("\n<!-- /bench -->\nafter\n")
    assert "old" not in text
    assert (
        "| memory (PSS), 100 points at 1 Hz, page open | 68.1 MB (67 to 69.4) | ≤ 75 ✓ |"
        " ThingsBoard gateway, no page, no control: 49.4 MB |"
    ) in text
    assert "bare COPY of the same rows | 0.4 | ≥ 0.45 **missed** | |" in re.sub(" +", " ", text)
    assert "Medians of 3 runs" in text
    assert text.count("Measured on A Pi, 4 cores, Linux 6.12, Python 3.11.2, 2026-01-02.") == 1


def test_a_run_of_one_part_replaces_its_own_rows_and_says_when_the_others_were_measured(file: Path) -> None:
    readme.publish(file, {"daemon": [MEMORY], "drain": [SHARE]}, MACHINE)
    readme.publish(file, {"drain": [replace(SHARE, value=0.5)]}, LATER)
    text = file.read_text()
    assert "68.1 MB" in text
    assert "0.5 | ≥ 0.45 ✓" in text
    assert "2026-01-02 (`daemon`)." in text
    assert "2026-02-03 (`drain`)." in text


def test_what_was_published_is_read_back_as_it_was(file: Path) -> None:
    readme.publish(file, {"daemon": [MEMORY], "drain": [SHARE]}, MACHINE)
    found = readme.published(file.with_suffix(".json"))
    assert found == {
        "daemon": readme.Measured(machine=MACHINE, figures=[MEMORY]),
        "drain": readme.Measured(machine=MACHINE, figures=[SHARE]),
    }


def test_without_a_whole_part_nothing_is_written(file: Path) -> None:
    assert "as it was" in readme.publish(file, {}, MACHINE)
    assert file.read_text() == TEXT
    assert not file.with_suffix(".json").exists()


@pytest.mark.parametrize(
    "text", ["no marks", "<!-- bench -->", "<!-- /bench --> <!-- bench -->", TEXT + TEXT]
)
def test_without_a_place_for_it_nothing_is_measured(
    file: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(text)
    monkeypatch.setattr("sys.argv", ["bench", "disk", "--readme", str(file)])
    with pytest.raises(SystemExit, match=r"a line <!-- bench --> .* nothing was measured or written"):
        bench.main()
    assert file.read_text() == text


def test_figures_of_another_workload_are_not_published(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "disk", "--small", "--readme", str(file)])
    with pytest.raises(SystemExit):
        bench.main()
    assert "leave the other options out" in capsys.readouterr().err


def test_rows_are_of_parts_that_there_are_and_say_different_things() -> None:
    keys = [key for row in readme.ROWS for key in (row.key, row.beside) if key]
    assert {key.bench for key in keys} <= set(PARTS)
    assert len({row.says for row in readme.ROWS}) == len(readme.ROWS)
    assert all(bool(row.beside) == bool(row.peer) for row in readme.ROWS)


def test_the_readme_shows_what_was_published() -> None:
    """Somebody who changes a figure by hand, or a row without `make bench`, is told here."""
    found = readme.published(readme.PUBLISHED)
    text = readme.README.read_text()
    if found:
        assert readme.placed(text, readme.table(found)) == text
        assert all(readme.find(found, row.key) for row in readme.ROWS if row.key.bench in found)
    else:
        assert "| tidewatt | target |" not in text
