"""safe.json is all that `outputs safe` needs; the last good config is all that a broken boot needs."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from drivers import catalog
from drivers.base import HoldBy
from drivers.plant import OutputFault, forget, plant
from edge.clock import FakeClock, SystemClock
from edge.config import Config
from edge.control import lastgood, safefile
from edge.control.safefile import Entry, SafeFileError
from edge.mistakes import ConfigInvalid

SITE = "test-safefile"


@pytest.fixture(autouse=True)
def fresh_plant() -> None:
    forget(SITE)


def sim(name: str, safe: float = 0.0, **options: Any) -> Entry:
    return Entry(name=name, driver="sim", options={"plant": SITE} | options, safe=safe)


def make_safe(*entries: Entry, within_s: float = 60.0) -> dict[str, str]:
    found = safefile.make_safe(entries, SystemClock(), within_s=within_s)
    assert [made.output for made in found] == [entry.name for entry in entries]
    return {made.output: made.error for made in found}


def test_every_output_is_brought_to_its_safe_level() -> None:
    plant(SITE).drive("heater", 1.0)
    assert make_safe(sim("heater"), sim("return", 1.0), sim("light", 0.2, dimmable=True)) == {
        "heater": "", "return": "", "light": "",
    }  # fmt: skip
    assert [plant(SITE).level(part) for part in ("heater", "return", "light")] == [0.0, 1.0, 0.2]


def test_one_that_fails_keeps_no_other_from_being_safe() -> None:
    plant(SITE).drive("heater", 1.0)
    plant(SITE).fail("pump", OutputFault.REFUSE)
    errors = make_safe(
        Entry(name="odd", driver="nosuch", options={}, safe=0.0),
        Entry(name="typo", driver="sim", options={"plant": SITE, "prat": "x"}, safe=0.0),
        sim("pump"), sim("heater"),
    )  # fmt: skip
    assert "there is no output driver 'nosuch'" in errors["odd"]
    assert "prat" in errors["typo"]
    assert "refuses" in errors["pump"]
    assert errors["heater"] == ""
    assert plant(SITE).level("heater") == 0.0


def test_a_bus_that_hangs_is_not_waited_for() -> None:
    plant(SITE).drive("heater", 1.0)
    plant(SITE).fail("stuck", OutputFault.HANG)
    errors = make_safe(sim("stuck", bus="other"), sim("heater"), within_s=2.0)
    plant(SITE).fail("stuck", OutputFault.NONE)
    assert "switch it off by hand" in errors["stuck"]
    assert errors["heater"] == ""


def test_it_is_written_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "safe.json"
    safefile.write(path, [sim("heater", hold=3)], socket="/run/x.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    entries, socket = safefile.read(path)
    assert (entries, socket) == ([sim("heater", hold=3)], "/run/x.sock")
    safefile.write(path, [])
    assert safefile.read(path)[0] == []
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is damaged"), ("{", "is damaged"), ('{"version": 9, "outputs": []}', "version 9"),
        ('{"version": 1, "outputs": [{"name": "x"}]}', "is damaged"), ("[]", "is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "safe.json").write_text(content)
    with pytest.raises(SafeFileError, match=said):
        safefile.read(tmp_path / "safe.json")
    with pytest.raises(SafeFileError, match=r"there is no .*name it by --file"):
        safefile.read(tmp_path / "other.json")


def test_a_devices_password_is_kept_for_it(tmp_path: Path) -> None:
    class Options(BaseModel):
        host: str
        password: SecretStr
        held_by: HoldBy

    driver = catalog.OutputDriver(
        name="plug", summary="", options=Options, make=lambda *_: pytest.fail("made"),
        hold_by=lambda _options: HoldBy.DEVICE,
    )  # fmt: skip
    config = SimpleNamespace(
        name="plug", driver="plug", safe=0.0, hold_s=60.0, host="10.0.0.9", password=SecretStr("deep"),
        held_by=HoldBy.DEVICE, kind="heater",
    )  # fmt: skip
    entry = safefile.entry_of(config, driver)
    safefile.write(tmp_path / "safe.json", [entry])
    written = json.loads((tmp_path / "safe.json").read_text())["outputs"][0]
    assert written == {
        "name": "plug", "driver": "plug", "safe": 0.0, "hold_s": 60.0,
        "options": {"host": "10.0.0.9", "password": "deep", "held_by": "device"},
    }  # fmt: skip
    Options.model_validate(safefile.read(tmp_path / "safe.json")[0][0].options)


def test_only_the_daemons_clock_is_read() -> None:
    forget(SITE)
    assert safefile.make_safe([sim("heater")], FakeClock())[0].error == ""


# ------------------------------------------------------------------------------------------- last good


def write_config(folder: Path, text: str = "") -> Path:
    path = folder / "config.toml"
    path.write_text(f'[site]\nname = "reef"\n[store]\npath = "{folder}/data/tidewatt.db"\n{text}')
    return path


def keep_good(path: Path) -> None:
    database = lastgood.control_database_of(path)
    database.parent.mkdir(exist_ok=True)
    lastgood.keep(path, database)


def test_a_valid_config_is_taken_as_it_is(tmp_path: Path) -> None:
    config, refused = lastgood.load_or_last_good(write_config(tmp_path), Config)
    assert (config.site.name, refused) == ("reef", None)


@pytest.mark.parametrize("bad", ["[web]\nport = 0\n", "nonsense = \n", "[[[\n", '[web]\nport = "x\n'])
def test_an_invalid_config_at_boot_starts_the_last_good_one(tmp_path: Path, bad: str) -> None:
    path = write_config(tmp_path, "[web]\nport = 8123\n")
    keep_good(path)
    path = write_config(tmp_path, bad)
    config, refused = lastgood.load_or_last_good(path, Config)
    assert config.web.port == 8123
    assert refused is not None
    assert "config.toml" in str(refused)


def test_the_place_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path)
    keep_good(path)
    path.write_text("[[[")
    monkeypatch.setenv("TIDEWATT_STORE__PATH", str(tmp_path / "data" / "tidewatt.db"))
    config, refused = lastgood.load_or_last_good(path, Config)
    assert config.site.name == "reef"
    assert refused is not None


def test_without_a_good_one_the_mistakes_are_told(tmp_path: Path) -> None:
    path = write_config(tmp_path, "[web]\nport = 0\n")
    with pytest.raises(ConfigInvalid, match="port"):
        lastgood.load_or_last_good(path, Config)
    keep_good(path)  # kept by a version that took it
    with pytest.raises(ConfigInvalid, match=r"config\.toml"):
        lastgood.load_or_last_good(path, Config)


def test_a_config_that_is_gone_is_invalid_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path)
    keep_good(path)
    monkeypatch.setenv("TIDEWATT_STORE__PATH", str(tmp_path / "data" / "tidewatt.db"))
    path.unlink()
    config, refused = lastgood.load_or_last_good(path, Config)
    assert config.site.name == "reef"
    assert "no such file" in str(refused)


def test_it_is_written_only_when_it_differs(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    keep_good(path)
    kept = lastgood.last_good_path(lastgood.control_database_of(path))
    before = kept.stat().st_ino
    keep_good(path)
    assert kept.stat().st_ino == before


def test_two_who_write_a_file_at_once_leave_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fsync = tmp_path / "it.json", os.fsync

    def while_it_is_written(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        other = threading.Thread(target=safefile.write_whole, args=(path, "another"))
        other.start()
        other.join()
        assert path.read_text() == "another"
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", while_it_is_written)
    safefile.write_whole(path, "one that is longer")
    assert path.read_text() == "one that is longer"
    assert list(tmp_path.iterdir()) == [path]
