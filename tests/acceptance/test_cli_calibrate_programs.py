"""`tidewatt calibrate` without a terminal: for programs, from pipes, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.calibrating import CONFIG, PATIENCE_S, ROOT, Site, running, wait_for

DRY = ("--window", "2s", "--dry-run")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from running(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For what changes nothing."""
    yield from running(tmp_path_factory.mktemp("shared"))


class TestPrograms:
    def test_measure_one_then_store_all(self, site: Site) -> None:
        site.dip(7.18)
        told = site.run("calibrate", "tank.ph", "--at", "7", "--yes", "--json", *DRY)
        assert told.returncode == 0, told.stderr
        measured = json.loads(told.stdout)
        assert measured["measured"][0]["raw"] == pytest.approx(7.18, abs=0.01)
        assert measured["measured"][0]["settled"]
        assert not measured["stored"]
        assert site.config.read_text() == CONFIG.format(folder=site.folder)
        told = site.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--yes", "--json")
        assert told.returncode == 0, told.stderr
        stored = json.loads(told.stdout)
        assert stored["stored"]
        assert stored["new"]["id"] == stored["in_force"] == site.in_force()
        assert stored["new"]["points"] == [[7.18, 7.0], [9.94, 10.0]]
        assert stored["nernst_percent"] == pytest.approx(92.0)
        wait_for(lambda: site.quality() == "good")
        again = site.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--yes")
        assert again.returncode == 0
        assert "in force already" in again.stdout

    def test_answers_from_a_pipe(self, shared: Site) -> None:
        shared.dip(7.18)
        told = shared.run("calibrate", "tank.ph", "--window", "2s", "--print", stdin="7\n\n\n")
        assert told.returncode == 0, told.stderr
        assert re.search(
            r"line \d+, insert\n    \[devices\.points\.ph\]\n    offset = -0\.1[78]", told.stdout
        )
        assert "\r" not in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_an_answer_with_a_decimal_comma_is_not_taken_for_two(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.temperature", *DRY, stdin="25,3\n\n\n")
        assert (told.returncode, "'25,3': 25.3?" in told.stderr) == (2, True), told.stderr
        wait_for(lambda: shared.quality("temperature") == "good")

    def test_the_input_ends_too_soon(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "7,10", "--lease", "1s")
        assert told.returncode == 1
        assert "nobody answers; nothing was changed" in told.stdout
        assert "--yes asks none" in told.stderr
        wait_for(lambda: shared.quality() == "good")

    def test_it_does_not_settle(self, shared: Site) -> None:
        shared.dip(2.0, 100.0)
        told = shared.run("calibrate", "tank.ph", "--at", "7", "--yes", "--patience", "6s", *DRY)
        assert told.returncode == 1
        assert re.search(r"not settled within 6\.0 s: drifts by -\d.* a minute", told.stderr)
        wait_for(lambda: shared.quality() == "good")

    def test_what_is_doubtful_is_not_stored_without_a_person(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "4=4.1,7=9.8,10=7.1", "--yes")
        assert told.returncode == 1
        assert "exchanged" in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_who_may_not_write_the_file_is_told_what_to_do(self, shared: Site) -> None:
        program = (
            "import os, sys; os.access = lambda *_: False; from edge.cli.main import main; main(sys.argv[1:])"
        )
        told = subprocess.run(
            [sys.executable, "-c", program, "--config", str(shared.config), "calibrate", "tank.ph", "--yes",
             "--at", "7=7.18,10=9.94"],
            cwd=ROOT, env=shared.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert told.returncode == 1
        assert f"not stored: {shared.config} may not be written by this user" in told.stdout
        assert "    points = [[7.18, 7.0], [9.94, 10.0]]" in told.stdout
        assert "sudo tidewatt calibrate tank.ph --at 7=7.18,10=9.94 --yes" in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_what_cannot_be_right_is_stored_by_force_alone(self, site: Site) -> None:
        told = site.run("calibrate", "tank.ph", "--at", "700=8.3", "--yes", "--force", "--json")
        assert told.returncode == 0, told.stderr
        assert "! 700 is no pH" in told.stderr
        answer = json.loads(told.stdout)
        assert answer["new"]["offset"] == pytest.approx(691.7)
        assert [finding["grave"] for finding in answer["findings"]] == [True, True]
        told = site.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--yes")
        assert told.returncode == 0, told.stderr
        assert site.config.with_name("config.toml.bak.1").read_text() == CONFIG.format(folder=site.folder)

    def test_a_person_is_asked_plainly_and_no_is_what_enter_means(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "700=8.3", stdin="\n")
        assert told.returncode == 2
        assert "Take it all the same? (y/n) [n]" in told.stdout
        told = shared.run("calibrate", "tank.ph", "--at", "700=8.3", stdin="y\n\n")
        assert told.returncode == 1
        assert "✗ an offset of +692 pH is no probe's" in told.stdout
        assert "Store it all the same? (y/n) [n]" in told.stdout
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)

    def test_what_to_do_after_pasting_is_right_here(self, shared: Site) -> None:
        told = shared.run("calibrate", "tank.ph", "--at", "7=7.18,10=9.94", "--print")
        (pid,) = re.findall(r"then: kill -HUP (\d+)\n", told.stdout)
        assert str(shared.config) in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        assert "systemctl" not in told.stdout

    def test_a_changed_file_is_one_of_another_content(self, site: Site) -> None:
        site.config.touch()
        changed = "was changed since the daemon read it"
        assert changed not in site.run("calibrate", "tank.ph", "--at", "7=7.18", "--print").stdout
        site.config.write_text(site.config.read_text() + "# mine\n")
        assert changed in site.run("calibrate", "tank.ph", "--at", "7=7.18", "--print").stdout
        site.ask("reload")
        assert changed not in site.run("calibrate", "tank.ph", "--at", "7=7.18", "--print").stdout

    @pytest.mark.parametrize(
        ("arguments", "code", "word"),
        [
            (("tank",), 2, "write DEVICE.POINT"),
            (("tank.ph", "--at", "7,x"), 2, "write 7,10"),
            (("tank.ph", "--at", "7,10", "--yes"), 2, "nobody would move the probe"),
            (("tank.temperature", "--at", "25,3"), 2, "'25,3': 25.3? Decimals have a point here"),
            (("tank.temperature", "--at", "25,3", "--yes"), 2, "'25,3': 25.3? Decimals have a point here"),
            (("tank.ph", "--at", "7=7,12"), 2, "if it is several references: --at 7=7 --at 12"),
            (("tank.ph", "--yes"), 2, "name the references"),
            (("tank.ph", "--at", "7,7.01"), 2, "too near"),
            (("tank.ph", "--at", "700", "--yes"), 2, "700 is no pH (0 to 14 pH is possible)"),
            (("tank.ph", "--at", "7=8.2,-1=3", "--yes"), 2, "--force takes it all the same"),
            (("tank.temperature", "--at", "700=25", "--yes"), 2, "700 is no temperature"),
            (("tank.ph", "--at", "7=4,10=4.1", "--yes"), 1, "--force stores it"),
            (("tank.ph", "--at", "7=4", "--yes"), 1, "--force stores it"),
            (("tank.ph", "--at", "7=7.1,10=7.1", "--yes"), 1, "was the probe moved"),
            (("tnak.ph", "--at", "7"), 1, "did you mean tank"),
            (("tank.temprature", "--at", "7"), 1, "did you mean temperature"),
        ],
    )
    def test_mistakes(self, shared: Site, arguments: tuple[str, ...], code: int, word: str) -> None:
        told = shared.run("calibrate", *arguments)
        assert (told.returncode, word in told.stderr) == (code, True), told.stderr
        assert shared.config.read_text() == CONFIG.format(folder=shared.folder)
        assert not (shared.folder / "config.toml.bak").exists()


def test_without_a_daemon(tmp_path: Path) -> None:
    told = Site(tmp_path).run("calibrate", "tank.ph", "--at", "7")
    assert told.returncode == 1
    assert "the daemon is not running" in told.stderr
    assert "calibrate reads the probe through it" in told.stderr
