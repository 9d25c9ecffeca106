"""`tidewatt calibrate` as a person runs it: a terminal, a real daemon, a probe whose solutions stand in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.poll.calibration import of_pairs
from tests.acceptance.calibrating import CONFIG, Site, running, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from running(tmp_path)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Site]:
    """Its temperature is of a probe of its own; the device takes its time to open, so that nobody opens it unseen."""
    yield from running(tmp_path, more="apart = true\nopens_s = 2.5\ntimeout_s = 30.0\n")


def test_two_buffers_step_by_step(site: Site) -> None:
    """The whole walk; the terminal's line renews itself, the tank is spared, the file keeps its comments."""
    person = site.person("tank.ph", "--window", "2s", "--why", "yearly")
    person.sees(r"tank\.ph   8\.3\d pH")
    person.sees("calibration in force: none")
    person.sees(r"references for pH.*\[7, 10\]")
    person.types("\n")
    person.sees(r"stored as bad \(calibrating\): tank\.ph, tank\.temperature")
    person.sees(r"heater goes by that: meanwhile it is safe \(off\)")
    person.sees(r"where tank\.ph alone leaves its place, --alone keeps the others in use")
    person.sees("1/2.*buffer of 7 pH.*press Enter")
    wait_for(lambda: site.quality() == "bad calibrating" and site.quality("temperature") == "bad calibrating")
    site.dip(7.18)
    person.types("\n")
    person.sees(r"    7 pH   raw .*7\.1\d\d.*[▁█].*\r\x1b\[K")
    person.sees(r"✓ settled.*raw 7\.1[78]\d")
    person.sees("2/2.*buffer of 10 pH.*press Enter")
    site.dip(9.94)
    person.types("\n")
    person.sees(r"✓ settled.*raw 9\.9[34]")
    person.sees(r"slope \(true per raw\) +1 +1\.08")
    person.sees("the electrode has 92% of its ideal slope")
    person.sees(r"Store it in .*\(y/n\) \[y\]")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    person.types("y\n")
    person.sees(r"✓ stored in .*config\.toml, and in force: ([0-9a-f]{12})")
    wait_for(lambda: site.quality() == "bad calibrating")  # the probe is still in the buffer
    person.sees("Put the probe back")
    site.dip(8.31)
    person.types("\n")
    person.sees(r"tank\.ph counts again: 8\.2\d pH")
    assert person.ends() == 0
    wait_for(lambda: site.quality() == "good")
    edited = site.config.read_text()
    (line,) = (
        set(edited.splitlines())
        - set(CONFIG.format(folder=site.folder).splitlines())
        - {"[devices.points.ph]"}
    )
    pairs = json.loads(line.removeprefix("points = "))
    assert [true for _, true in pairs] == [7.0, 10.0]
    assert site.in_force() == of_pairs(pairs).id
    assert "interval_s = 0.2\n\n[devices.points.ph]\npoints = " in edited
    assert (site.folder / "config.toml.bak").read_text() == CONFIG.format(folder=site.folder)
    (changed,) = site.events("calibration-changed")
    assert changed["body"]["new"] == of_pairs(pairs).id
    assert changed["body"]["old"] == ""
    assert changed["body"]["who"]
    (begun,) = site.events("calibration-begun")
    assert begun["body"]["why"] == "yearly"
    assert site.events("calibration-ended")[0]["body"]["outcome"] == "stored"
    assert site.believed_of_buffers() == set()


def test_ctrl_c_changes_nothing_and_waits_for_the_probe(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7,10", "--window", "30s")
    person.sees("1/2.*press Enter")
    site.dip(7.18)
    person.types("\n")
    person.sees(r"raw .*7\.18")
    person.types("\x03")
    person.sees("stopped; nothing was changed")
    person.sees("Put the probe back")
    assert site.quality() == "bad calibrating"
    site.dip(8.31)
    person.types("\n")
    person.sees("counts again")
    assert person.ends() == 130
    wait_for(lambda: site.quality() == "good")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    assert site.events("calibration-changed") == []


def test_a_terminal_that_dies_changes_nothing_and_its_lease_runs_out(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7,10", "--window", "30s", "--lease", "12s")
    person.sees("1/2.*press Enter")
    site.dip(7.18)
    person.types("\n")
    person.sees(r"raw .*7\.18")
    assert site.quality() == "bad calibrating"
    person.is_killed()
    wait_for(lambda: site.quality() == "good")
    assert site.config.read_text() == CONFIG.format(folder=site.folder)
    assert site.in_force() == ""
    (lapsed,) = site.events("calibration-lapsed")
    assert lapsed["subject"] == "tank.ph"


def test_enter_takes_what_does_not_settle(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7", "--alone", "--window", "20s", env={"NO_COLOR": "1"})
    person.sees(r"\(calibrating\): tank\.ph\r\n")
    person.sees("buffer of 7 pH.*press Enter")
    assert site.quality("temperature") == "good"
    site.dip(7.2, 600.0)
    person.types("\n")
    person.sees(r"raw 8\.\d\d\d ")
    person.types("\n")
    person.sees(r"taken: raw 8\.")
    person.sees("a correction by -1")
    person.sees("y/n")
    person.types("n\n")
    person.sees("nothing was changed")
    person.sees("Put the probe back")
    site.dip(8.31)
    person.types("\n")
    person.sees(r"back   raw 8\.3\d\d.*watching")
    person.types("\n")
    assert person.ends() == 1
    assert "\x1b[3" not in person.screen  # no colours
    assert site.config.read_text() == CONFIG.format(folder=site.folder)


def test_a_daemon_that_starts_anew_in_the_middle(site: Site) -> None:
    person = site.person("tank.ph", "--at", "7", "--window", "3s")
    person.sees("press Enter")
    site.dip(7.18)
    wait_for(lambda: site.point()["value"] < 7.5)
    site.daemon.kill()
    site.start()
    person.types("\n")
    person.sees(r"✓ settled.*raw 7\.1[78]")
    assert site.quality() == "bad calibrating"
    person.sees("y/n")
    person.types("y\n")
    person.sees("and in force")
    person.sees("Put the probe back")
    person.types("\n")
    site.dip(8.31)
    assert person.ends() == 0
    wait_for(lambda: site.quality() == "good")


def test_a_daemon_that_is_killed_with_the_command_does_not_believe_the_buffer(site: Site) -> None:
    """Nobody looks any more, and the probe stands in a buffer: from the first poll on that does not count."""
    person = site.person("tank.ph", "--at", "7", "--window", "30s")
    person.sees("press Enter")
    site.dip(7.18)
    wait_for(lambda: site.point()["value"] < 7.5)
    person.is_killed()
    site.daemon.kill()
    site.start()
    assert site.quality() == "bad calibrating"
    assert site.quality("temperature") == "bad calibrating"
    assert site.believed_of_buffers() == set()
    again = site.person("tank.ph", "--at", "7", "--window", "2s")
    again.sees("the calibration that .* had begun is over by this")
    again.sees("press Enter")
    again.types("\n")
    again.sees("y/n")
    again.types("n\n")
    again.sees("Put the probe back")
    site.dip(8.31)
    again.types("\n")
    assert again.ends() == 1
    wait_for(lambda: site.quality() == "good")
    assert not (site.folder / "calibrating.json").exists()
    assert site.believed_of_buffers() == set()


def test_a_thermostat_by_another_probe_of_the_device_is_not_disturbed(apart: Site) -> None:
    """From the first question to the new calibration in force: the heater stays on, and nobody is alarmed."""
    wait_for(lambda: apart.heater()["believed"] == 1.0)
    before = apart.heater()["changes"]
    person = apart.person("tank.ph", "--at", "7,10", "--window", "2s")
    person.sees(r"\(calibrating\): tank\.ph\r\n")
    for raw in (7.18, 9.94):
        person.sees("press Enter")
        apart.dip(raw)
        person.types("\n")
        person.sees("settled")
    person.sees("y/n")
    person.types("y\n")
    person.sees("and in force")
    person.sees("Put the probe back")
    apart.dip(8.31)
    person.types("\n")
    person.sees("counts again")
    assert person.ends() == 0
    assert "goes by that" not in person.screen
    assert apart.quality("temperature") == "good"
    assert apart.heater()["changes"] == before
    assert apart.events("input-lost") == []
