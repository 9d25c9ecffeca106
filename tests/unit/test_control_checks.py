"""What a config about control may not say: each case is a file that tells where and what is refused.

A line of a case that ends with `#! words` is refused with these words; no other line is.  `#board: NAME` says which
machine it is checked for, else one that is no Raspberry Pi.  The same for what is only warned of: `#~ words`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

from drivers import boards
from drivers.boards import Board
from edge.config import Config
from edge.mistakes import ConfigInvalid, Mistake
from edge.settings import load, warnings

CASES: Final = Path(__file__).parents[1] / "cases" / "config-refused"
WARNED: Final = CASES.with_name("config-warned")
EXPECTED: Final = re.compile(r"#! (.+)$")
ADVISED: Final = re.compile(r"#~ (.+)$")
BOARD: Final = re.compile(r"^#board: (\w+)$", re.MULTILINE)
MODEL: Final = "Raspberry Pi 4 Model B Rev 1.4"


def pi(root: Path, config: str, *, persist: str = "N") -> Board:
    """A Raspberry Pi 4 with this config.txt, read as the daemon reads its own."""
    files = {
        "proc/device-tree/model": MODEL,
        "boot/firmware/config.txt": config,
        "sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs": persist,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return boards.read(root)


def board(name: str, root: Path) -> Board:
    match name:
        case "taken":
            return pi(root, "dtparam=i2c_arm=on\n")
        case "persist":
            return pi(root, "", persist="Y")
        case "plain":
            return pi(root, "")
        case _:
            return Board()


def refused(path: Path) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, Config)
    return caught.value.mistakes


@pytest.mark.parametrize("path", sorted(CASES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_config_is_refused_where_it_is_wrong_and_nowhere_else(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = expected(path, EXPECTED, tmp_path, monkeypatch)
    assert wanted
    compare(refused(path), wanted)


@pytest.mark.parametrize("path", sorted(WARNED.glob("*.toml")), ids=lambda path: path.stem)
def test_a_config_is_warned_of_where_it_could_do_harm_and_nowhere_else(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = expected(path, ADVISED, tmp_path, monkeypatch)
    compare(warnings(path, Config), wanted)


def expected(
    path: Path, pattern: re.Pattern[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[int, str]:
    """What a case says of its lines; the machine is the one that it names."""
    text = path.read_text("utf-8")
    named = BOARD.search(text)
    here = board(named[1] if named else "", root)
    monkeypatch.setattr(boards, "here", lambda: here)
    lines = enumerate(text.split("\n"), start=1)
    return {number: found[1] for number, line in lines if (found := pattern.search(line))}


def compare(mistakes: Iterable[Mistake], wanted: Mapping[int, str]) -> None:
    told: dict[int, str] = {}
    for mistake in mistakes:
        told[mistake.line] = told.get(mistake.line, "") + str(mistake)
    assert sorted(told) == sorted(wanted), told
    for number, words in wanted.items():
        assert words in told[number]


def test_every_kind_has_a_case() -> None:
    assert len(list(CASES.glob("*.toml"))) >= 14
    assert len(list(WARNED.glob("*.toml"))) >= 3


@pytest.mark.parametrize(
    "path", sorted(WARNED.with_name("unsafe").glob("*.toml")), ids=lambda path: path.stem
)
def test_what_a_selftest_finds_unsafe_is_warned_of_before(path: Path) -> None:
    assert bool(warnings(path, Config)) is (path.stem != "sound")


def test_the_example_is_not_warned_of() -> None:
    assert warnings(CASES.parents[2] / "config.example.toml", Config) == []


def test_a_relay_that_would_be_on_until_the_daemon_comes_is_refused_on_a_pi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
[site]
name = "reef-1"
[[devices]]
name = "tank"
driver = "sim"
[[outputs]]
name = "heater"
driver = "relay"
kind = "heater"
safe = 0
pin = 17
active_low = true
[[thermostats]]
name = "tank"
input = "tank.temperature"
target = 25
heat = ["heater"]
"""
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    low, high = pi(tmp_path / "low", ""), pi(tmp_path / "high", "gpio=17=pu\n")
    monkeypatch.setattr(boards, "here", lambda: low)
    (mistake,) = refused(path)
    assert mistake.key == "outputs.heater.pin"
    assert mistake.line == 12
    assert "add gpio=17=pu to config.txt" in mistake.text
    monkeypatch.setattr(boards, "here", lambda: high)
    load(path, Config)


@pytest.mark.parametrize(
    "outputs",
    [
        '"heater"',
        "[1, 2]",
        "[{ name = 3 }]",
        '[{ name = "heater", driver = ["relay"], envelope = "none" }]',
        "[[]]",
    ],
)
def test_nonsense_is_told_by_the_models_and_never_breaks_the_checks(outputs: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f"outputs = {outputs}\nthermostats = [1]\nschedules = {outputs}\ncontrol = 7\n[site]\nname = 'a'\n",
        "utf-8",
    )
    assert refused(path)


def test_a_slip_in_a_table_does_not_make_references_to_it_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        """
[site]
name = "reef-1"
[[devices]]
name = "tank"
driver = "sim"
interval_s = "often"
[[outputs]]
name = "heater"
driver = "sim"
kind = "heater"
safe = 2
[[thermostats]]
name = "tank"
input = "tank.temperature"
target = 25
heat = ["heater"]
""",
        "utf-8",
    )
    assert [mistake.line for mistake in refused(path)] == [7, 12]
