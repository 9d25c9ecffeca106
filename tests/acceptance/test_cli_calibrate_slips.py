"""`tidewatt calibrate` where a person or the probe slips: Ctrl-C, exchanged buffers, a config that somebody edits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.calibrating import CONFIG, Person, Site, running, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from running(tmp_path)


STEPS = (
    ("references for pH", None),
    ("1/2.*press Enter", 7.18),
    ("2/2.*press Enter", 9.94),
    (r"\(y/n\)", None),
)


@pytest.mark.parametrize("stop", range(len(STEPS)))
def test_ctrl_c_at_every_step(site: Site, stop: int) -> None:
    person = site.person("tank.ph", "--window", "2s")
    for pattern, raw in STEPS[:stop]:
        person.sees(pattern)
        if raw is not None:
            site.dip(raw)
        person.types("\n")
        if raw is not None:
            person.sees("settled")
    person.sees(STEPS[stop][0])
    person.types("\x03")
    person.sees("stopped; nothing was changed")
    if stop > 0:
        person.sees("Put the probe back")
        site.dip(8.31)
        person.types("\n")
        person.sees("counts again")
    assert person.ends() == 130
    wait_for(lambda: site.quality() == "good")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    assert site.in_force() == ""


def test_ctrl_c_when_it_is_stored_waits_for_the_probe_all_the_same(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7=7.18,10", "--window", "2s")
    person.sees("press Enter")
    site.dip(9.94)
    person.types("\n")
    person.sees("y/n")
    person.types("y\n")
    person.sees("and in force")
    person.sees("Put the probe back")
    person.types("\x03")
    person.sees("stopped; the new calibration is in force")
    person.sees("Put the probe back")
    assert site.quality() == "bad calibrating"
    person.types("\x03")
    person.sees(r"counts again by itself in 5.*: put the probe back before")
    assert person.ends() == 130
    assert site.quality() == "bad calibrating"
    assert site.in_force() != ""


def test_a_probe_that_is_pulled_out(site: Site) -> None:
    """It is said, and what was read before does not count for what it is in afterwards."""
    person = site.person("tank.ph", "--at", "7", "--window", "3s")
    person.sees("press Enter")
    site.dip(7.6)
    person.types("\n")
    person.sees(r"raw .*7\.[56]")
    (site.folder / "solution").write_text("")
    person.sees("the probe is unplugged; plug it in")
    site.dip(7.18)
    person.sees(r"settled.*raw 7\.1[78]")
    person.sees("y/n")
    person.types("n\n")
    person.sees("Put the probe back")
    person.types("\n")
    person.sees("counts again")
    assert person.ends() == 1


def test_exchanged_buffers_are_not_stored_by_enter(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7,10", "--window", "2s")
    for raw in (9.94, 7.18):
        person.sees("press Enter")
        site.dip(raw)
        person.types("\n")
        person.sees("settled")
    person.sees("✗ the raw values fall while the references rise: two were exchanged")
    person.sees(r"Store it all the same\? \(y/n\) \[n\]")
    person.types("\n")
    person.sees("nothing was changed")
    person.sees("Put the probe back")
    site.dip(8.31)
    person.types("\n")
    assert person.ends() == 1
    assert site.in_force() == ""


class TestEditedMeanwhile:
    """Measuring takes long, and somebody may have the config open."""

    def measured(self, site: Site) -> Person:
        person = site.person("tank.ph", "--at", "7", "--window", "2s")
        person.sees("press Enter")
        site.dip(7.18)
        person.types("\n")
        person.sees("watching")
        return person

    def test_what_was_written_meanwhile_stays(self, site: Site) -> None:
        person = self.measured(site)
        site.config.write_text(site.config.read_text().replace("band = 0.4", "band = 0.5  # mine"))
        person.sees("was changed since the daemon read it; storing brings those changes into force too")
        person.sees("y/n")
        person.types("y\n")
        person.sees("and in force")
        person.sees("Put the probe back")
        site.dip(8.31)
        person.types("\n")
        assert person.ends() == 0
        assert "band = 0.5  # mine" in site.config.read_text()
        assert "offset = -0.1" in site.config.read_text()

    @pytest.mark.parametrize(
        ("line", "word"),
        [("confrim = 3", "confrim"), ("[[devices", r"no TOML any more")],
        ids=["key", "toml"],
    )
    def test_a_half_written_one_costs_no_measurement(self, site: Site, line: str, word: str) -> None:
        person = self.measured(site)
        edited = f"{site.config.read_text()}{line}\n"
        site.config.write_text(edited)
        person.sees(r"y/n|no TOML any more")
        person.types("y\n")
        person.sees(r"without measuring again: sudo tidewatt calibrate tank\.ph --at 7=7\.1\d* --yes")
        site.dip(8.31)
        person.types("\n")
        person.sees("counts again")
        person.types("\n")
        assert person.ends() == 1
        assert re.search(word, person.screen)
        assert site.config.read_text() == edited
        assert site.in_force() == ""
