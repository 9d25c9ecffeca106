"""`tidewatt selftest`: the example ends safe, and each config that was made unsafe is caught for its own reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

UNSAFE: Final = Path("tests/cases/unsafe")
MADE_OF_TWO: Final = Path("tests/cases/selftest/derived.toml")
FALLS_BACK: Final = Path("tests/cases/selftest/fallback.toml")
TIMEOUT_S: Final = 500

#: file -> (fault, where, what the judge says of it, what to do); in all else it ends as safe as its sound neighbour
REASONS: Final = {
    "old-input": ("stale", "all inputs", "after its input was lost", "set max_age_s of heater"),
    "no-cutoff": ("stuck on", "heater", "heats on while the water is", 'kind = "cutoff"'),
    "one-probe": ("drifts down", "tank.temperature", "heats on while the water is", "put a second probe"),
    "no-breath": ("off by hand for a day", "return", "animals need it", "add off_max_s = 1800"),
    "on-battery": ("mains lost", "site", "on the battery", 'set shed_on = "mains.state" for heater'),
}


def tidewatt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@cache
def outcome_of(config: Path) -> tuple[int, list[dict[str, Any]]]:
    assert tidewatt("config", "check", str(config)).returncode == 0, (
        "what config check refuses proves nothing"
    )
    done = tidewatt("selftest", "--config", str(config), "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["cases"]


def unsafe(cases: list[dict[str, Any]]) -> set[tuple[str, str]]:
    assert all(bool(case["why"]) is bool(case["remedy"]) is not case["safe"] for case in cases)
    return {(case["fault"], case["input"]) for case in cases if not case["safe"]}


def test_the_example_config_ends_safe_whatever_breaks() -> None:
    code, cases = outcome_of(Path("config.example.toml"))
    assert (code, [(case["fault"], case["input"], case["why"]) for case in cases if not case["safe"]]) == (
        0,
        [],
    )
    assert len(cases) > 40
    for case in cases:
        assert set(case) == {"fault", "input", "outputs", "safe", "why", "remedy"}
        for shows in case["outputs"].values():
            assert 0.0 <= shows["level"] <= 1.0
            assert shows["cause"]


def test_the_sound_neighbour_of_the_unsafe_ends_safe() -> None:
    code, cases = outcome_of(UNSAFE / "sound.toml")
    assert (code, unsafe(cases)) == (0, set())


@pytest.mark.parametrize("name", REASONS)
def test_an_unsafe_config_is_caught_for_its_own_reason(name: str) -> None:
    fault, where, why, remedy = REASONS[name]
    code, cases = outcome_of(UNSAFE / f"{name}.toml")
    assert code == 1
    case = next(case for case in cases if (case["fault"], case["input"]) == (fault, where))
    assert why in case["why"]
    assert remedy in case["remedy"]
    for other in REASONS:
        if other != name and REASONS[other][:2] in {(each["fault"], each["input"]) for each in cases}:
            assert REASONS[other][:2] not in unsafe(cases), f"{name} also fails as {other} does"


def test_every_unsafe_config_has_its_reason_here() -> None:
    assert {path.stem for path in UNSAFE.glob("*.toml")} == {*REASONS, "sound"}


def shows_of(cases: list[dict[str, Any]], fault: str, place: str) -> dict[str, Any]:
    """What the heater does."""
    shows: dict[str, Any] = next(
        case["outputs"]["heater"] for case in cases if (case["fault"], case["input"]) == (fault, place)
    )
    return shows


def test_a_site_that_regulates_by_a_derived_point_ends_safe() -> None:
    code, cases = outcome_of(MADE_OF_TWO)
    assert (code, unsafe(cases)) == (0, set())
    broken = {case["input"] for case in cases}
    assert {"tank.temperature", "sump.temperature"} <= broken and "water.t" not in broken, (
        "probes break, not sums"
    )
    assert "thermostat tank" in shows_of(cases, "lost", "tank.temperature")["cause"]


def test_without_a_limit_on_the_other_probe_it_does_not_end_safe(tmp_path: Path) -> None:
    config = tmp_path / "tidewatt.toml"
    config.write_text(
        MADE_OF_TWO.read_text().replace(
            '[[outputs.envelope.limits]]\nseries = "sump', '[[outputs.envelope.limits]]\nseries = "tank'
        )
    )
    code, cases = outcome_of(config)
    assert code == 1 and ("drifts down", "tank.temperature") in unsafe(cases)


def test_a_point_with_a_fallback_ends_safe_and_goes_on() -> None:
    code, cases = outcome_of(FALLS_BACK)
    assert (code, unsafe(cases)) == (0, set())
    for fault in ("lost", "reads 85", "stuck"):
        assert "thermostat tank" in shows_of(cases, fault, "tank.temperature")["cause"]
    assert "input is lost" in shows_of(cases, "lost", "all inputs")["cause"]


def test_people_are_told_what_ends_unsafe_and_a_count_of_each_fault() -> None:
    done = tidewatt("selftest", "--config", str(UNSAFE / "no-breath.toml"))
    assert done.returncode == 1
    assert "return: off by hand for a day: UNSAFE: return: off for more than" in done.stdout
    assert (
        "    to do: add off_max_s = 1800 and off_window_s = 7200 under [outputs.envelope] of return"
        in done.stdout
    )
    assert "    heater-cutoff on: " in done.stdout
    assert done.stdout.rstrip().endswith("1 end UNSAFE")
    table, _, cases = done.stdout.partition("\n\n")
    assert "safe\n" not in cases, "what ends safe is only counted"
    assert re.search(r"^off by hand for a day +\d+ +1 UNSAFE$", table, re.M), table
    assert re.search(r"^reads 85 +2 +safe$", table, re.M), table


def test_with_all_every_line_and_why_an_output_that_is_on_is_safe() -> None:
    done = tidewatt("selftest", "--all", "--config", str(FALLS_BACK))
    assert done.returncode == 0
    _, _, lost = done.stdout.partition("tank.temperature: lost: safe\n")
    heater = next(line for line in lost.splitlines() if line.startswith("    heater on: "))
    assert "tank.temperature cannot be used" in heater
    cases = len(outcome_of(FALLS_BACK)[1])
    assert (done.stdout.count(": safe\n"), f"{cases} faults: every" in done.stdout) == (cases, True)
    both = tidewatt("selftest", "--all", "--unsafe", "--config", str(FALLS_BACK))
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)


def test_a_site_without_outputs_is_told_so(tmp_path: Path) -> None:
    config = tmp_path / "empty.toml"
    config.write_text('[site]\nname = "x"\n')
    done = tidewatt("selftest", "--config", str(config))
    assert done.returncode == 1
    assert "no outputs" in done.stderr
