"""A machine with neither network nor real-time clock, and a person who knows the time: the daemon as a process, its
command line beside it, under a clock that is bent while they run (tests/bentclock.py)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.test_field_15_clock import HOUR_MS, NOISE_MS, Machine
from tests.bentclock import command
from tests.unit.source import ROOT

ANSWER_S: Final = 120.0


class Site(Machine):
    """The machine, and the person before it."""

    def cli(self, *arguments: str, answer: str = "") -> tuple[int, str, str]:
        """Exit code, output and errors of `tidewatt clock …`."""
        config = str(self.folder / "config.toml")
        done = subprocess.run(
            command(self.bend, "--config", config, "clock", *arguments),
            cwd=ROOT, input=answer, capture_output=True, text=True, timeout=ANSWER_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def told(self) -> dict[str, Any]:
        _, out, err = self.cli("--json")
        assert err == ""
        found: dict[str, Any] = json.loads(out)
        return found

    def problems(self) -> str:
        status = self.status()
        assert status is not None
        return " ".join(status["problems"])

    def logs(self) -> list[tuple[str, int | None]]:
        return [
            (clock, offset) for clock, offset in self.rows("SELECT clock, offset_ms FROM log ORDER BY id")
        ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.child.stop()


def test_a_person_s_word_sets_the_clock_for_this_boot(site: Site) -> None:
    site.shows(ahead_ms=-9 * HOUR_MS, state="unknown", boot="boot-1")
    site.start()
    guessed = site.works()
    code, out, _ = site.cli()
    assert code == 1
    assert "unknown: nothing stands behind it" in out
    assert "schedules go by their policy: often holds as last known" in out
    site.until(lambda: "set the clock, then: tidewatt clock confirm" in site.problems())
    site.shows(state="unknown", boot="boot-1")  # date -s, which nobody notices
    assert site.told()["system_ahead_s"] == pytest.approx(9 * 3600, abs=60)

    code, out, err = site.cli("confirm", answer="n\n")
    assert (code, "nothing was changed" in err) == (1, True)
    code, out, err = site.cli("confirm")  # nobody there
    assert (code, "--yes" in err) == (1, True)
    assert site.told()["state"] == "unknown"
    code, out, err = site.cli("confirm", "--why", "by the radio", answer="y\n")
    assert (code, err) == (0, "")
    assert "Is that the right time? (y/n)" in out
    assert "taken: " in out
    site.tells("clock-confirmed", 1)
    told = site.told()
    assert (told["state"], told["basis"], told["refusal"]) == ("holdover", "person", "")
    assert told["confirmed"]["why"] == "by the radio"
    site.until(lambda: "clock" not in site.problems())
    right = site.works()
    site.until(lambda: [clock for clock, _ in site.logs()] == ["unknown", "holdover"])
    assert abs((site.logs()[0][1] or 0) - 9 * HOUR_MS) < NOISE_MS
    assert site.logs()[1][1] == 0

    site.child.kill()  # the daemon alone
    site.start()
    again = site.told()
    assert (again["state"], again["basis"]) == ("holdover", "person")
    assert again["confirmed"] == told["confirmed"]
    after = site.works()
    assert [clock for clock, _ in site.logs()] == ["unknown", "holdover", "holdover"]
    for first, last, before_ms, after_ms in (guessed, right, after):
        times = site.times(first, last)
        assert before_ms - NOISE_MS <= min(times)
        assert max(times) <= after_ms + NOISE_MS

    site.child.kill()  # the machine: it comes up where it stood an hour before
    site.shows(ahead_ms=-HOUR_MS, state="unknown", boot="boot-2")
    site.start()
    assert site.told()["state"] == "unknown"
    code, _, err = site.cli("confirm", "--yes")
    assert code == 1
    assert "before the last commit" in err
    assert "timedatectl set-time" in err
    assert site.told()["state"] == "unknown"
    site.shows(state="unknown", boot="boot-2")
    code, out, _ = site.cli("confirm", "--yes", "--json")
    assert (code, json.loads(out)["basis"]) == (0, "person")


def test_network_time_of_this_boot_is_trusted_after_a_restart_without_it(site: Site) -> None:
    site.shows(boot="boot-1")
    site.start()
    code, out, _ = site.cli("confirm")
    assert (code, "nothing to confirm" in out) == (0, True)
    site.until(lambda: (site.folder / "boot-clock.json").exists())
    site.child.kill()
    site.shows(state="unknown", boot="boot-1")  # its source of time is gone for good
    site.start()
    told = site.told()
    assert (told["state"], told["basis"], told["confirmed"]) == ("holdover", "earlier", None)
    assert site.cli()[0] == 0
    site.child.kill()
    site.shows(state="unknown", boot="boot-2")
    site.start()
    assert site.told()["state"] == "unknown"


def test_without_a_daemon_and_with_a_wrong_word_it_says_what_to_do(site: Site) -> None:
    site.shows(boot="boot-1")
    for arguments in ((), ("confirm", "--yes")):
        code, out, err = site.cli(*arguments)
        assert (code, out) == (1, "")
        assert "the daemon is not running" in err
    assert site.cli("confrim")[0] == 2
