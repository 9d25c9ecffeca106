"""Where the last good config is found when the present one no longer says where anything lies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge.config import Config
from edge.control import lastgood
from edge.mistakes import ConfigInvalid

GOOD = """\
[site]
name = "reef-1"

[store] # elsewhere
path = "{folder}/data/tidewatt.db"

[web]
port = 8081
"""
NO_TOML = ("[web]\nport = 8081\n", '[web]\nports = [\n"""')
SPOILT_STORE = ("[store] # elsewhere\npath =", '[store\npath = """')
OTHER_STORE = ("data/tidewatt.db", "nowhere/tidewatt.db\"\n[web]\nport = 'x'\n[log]\nlevel = \"info")


def started(folder: Path) -> Path:
    """A site that has been started once with a good config."""
    path = folder / "config.toml"
    path.write_text(GOOD.format(folder=folder))
    (folder / "data").mkdir()
    config, refused = lastgood.load_or_last_good(path, Config)
    assert refused is None
    lastgood.keep(path, config.store.control_database)
    return path


def spoil(path: Path, slip: tuple[str, str]) -> None:
    text = path.read_text().replace(*slip)
    assert text != path.read_text()
    path.write_text(text)


def is_found(path: Path) -> None:
    config, refused = lastgood.load_or_last_good(path, Config)
    assert isinstance(refused, ConfigInvalid)
    assert config.web.port == 8081
    assert config.store.path == f"{path.parent}/data/tidewatt.db"


@pytest.fixture(autouse=True)
def no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a service, on a machine without a site of its own."""
    monkeypatch.delenv(lastgood.STATE_VARIABLE, raising=False)
    monkeypatch.setattr(lastgood, "DEFAULT_DATABASE", tmp_path / "no-site" / "tidewatt.db")


def test_a_file_that_is_no_toml_still_says_where_its_store_is(tmp_path: Path) -> None:
    path = started(tmp_path)
    spoil(path, NO_TOML)
    is_found(path)


def test_without_a_service_a_spoilt_store_is_told_and_nothing_is_guessed(tmp_path: Path) -> None:
    path = started(tmp_path)
    spoil(path, SPOILT_STORE)
    with pytest.raises(ConfigInvalid):
        lastgood.load_or_last_good(path, Config)
    assert not lastgood.place_path().exists()


@pytest.mark.parametrize("slip", [NO_TOML, SPOILT_STORE, OTHER_STORE])
def test_the_services_state_directory_remembers_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slip: tuple[str, str]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv(lastgood.STATE_VARIABLE, f"{state}:/another")
    path = started(tmp_path)
    spoil(path, slip)
    is_found(path)
    assert lastgood.control_database_of(path) == tmp_path / "data" / "control.db"
    assert lastgood.control_database_of(tmp_path / "other.toml") == tmp_path / "no-site" / "control.db"


def test_what_is_remembered_may_be_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lastgood.STATE_VARIABLE, str(tmp_path))
    path = started(tmp_path)
    spoil(path, NO_TOML)
    for text in ("[1]", "{", json.dumps({str(path): "/gone/control.db"})):
        lastgood.place_path().write_text(text)
        is_found(path)


WRONG_PORT = ("port = 8081", 'port = "x"')


def test_who_talks_to_the_daemon_goes_by_what_that_uses(tmp_path: Path) -> None:
    path = started(tmp_path)
    assert lastgood.in_force(path, Config)[1] is None
    for slip in (WRONG_PORT, ('name = "reef-1"', 'name = "reef 1"'), ('name = "reef 1"', "name = 1")):
        spoil(path, slip)
        config, refused = lastgood.in_force(path, Config)
        assert (config.web.port, config.site.name) == (8081, "reef-1")
        assert refused is not None
        assert f"{path}:8: web.port" in str(refused)


def test_it_is_never_taken_for_another_site(tmp_path: Path) -> None:
    """A card that comes from one site into the Pi of another: nobody knows what is wired there."""
    path = started(tmp_path)
    spoil(path, ('name = "reef-1"', 'name = "reef-2"'))
    spoil(path, WRONG_PORT)
    for load in (lastgood.load_or_last_good, lastgood.in_force):
        with pytest.raises(ConfigInvalid) as refused:
            load(path, Config)
        mistake, advice = str(refused.value).splitlines()
        assert mistake.startswith(f"{path}:8: web.port")
        kept = tmp_path / "data" / lastgood.FILE_NAME
        assert advice == f"the last good config, {kept}, is not taken instead: it is that of the site reef-1"


def test_it_is_never_taken_for_another_file(tmp_path: Path) -> None:
    path = started(tmp_path)
    other = tmp_path / "bad.toml"
    other.write_text(path.read_text().replace(*WRONG_PORT))
    for load in (lastgood.load_or_last_good, lastgood.in_force):
        with pytest.raises(ConfigInvalid, match=rf"\n.* is not taken instead: it is that of {path}$"):
            load(other, Config)


def test_a_file_is_the_same_by_another_name_and_when_a_link_to_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = started(tmp_path)
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    lastgood.keep(link, tmp_path / "data" / "control.db")
    bad = tmp_path / "second.toml"
    bad.write_text(path.read_text().replace(*WRONG_PORT))
    link.unlink()
    link.symlink_to(bad)
    monkeypatch.chdir(tmp_path)
    for name in (link, Path("link.toml"), tmp_path / "data" / ".." / "link.toml"):
        assert lastgood.load_or_last_good(name, Config)[1] is not None


def test_one_kept_by_an_older_version_is_taken_and_is_marked_by_the_next_valid_start(tmp_path: Path) -> None:
    path = started(tmp_path)
    kept = tmp_path / "data" / lastgood.FILE_NAME
    marked = kept.read_text()
    assert marked == f'{path.read_text()}# kept by tidewatt, from "{path}"\n'
    kept.write_text(path.read_text())
    lastgood.keep(path, tmp_path / "data" / "control.db")
    assert kept.read_text() == marked
    kept.write_text(path.read_text())
    spoil(path, WRONG_PORT)
    is_found(path)
    path.unlink()
    path.symlink_to(path)  # no end of links
    with pytest.raises(ConfigInvalid):
        lastgood.load_or_last_good(path, Config)


def test_run_on_purpose_it_stays_the_last_good_one_of_its_file(tmp_path: Path) -> None:
    path = started(tmp_path)
    kept = tmp_path / "data" / lastgood.FILE_NAME
    before = kept.read_text()
    config, refused = lastgood.load_or_last_good(kept, Config)
    assert (config.web.port, refused) == (8081, None)
    lastgood.keep(kept, config.store.control_database)
    assert kept.read_text() == before
    spoil(path, WRONG_PORT)
    is_found(path)


def test_a_mistyped_config_never_means_the_site_at_the_default_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path)
    monkeypatch.setattr(lastgood, "DEFAULT_DATABASE", tmp_path / "data" / "tidewatt.db")
    with pytest.raises(ConfigInvalid, match="no such file"):
        lastgood.in_force(tmp_path / "confg.toml", Config)
    other = tmp_path / "other.toml"
    other.write_text('[site]\nname = "desk"\n[stor]\npath = "desk.db"\n')
    with pytest.raises(ConfigInvalid, match="did you mean store"):
        lastgood.in_force(other, Config)
    other.write_text('[web]\nport = "x"\n')
    with pytest.raises(ConfigInvalid, match=f"it is that of {tmp_path}/config.toml"):
        lastgood.in_force(other, Config)


@pytest.mark.parametrize(("config_mode", "kept_mode"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o640)])
def test_who_may_read_the_config_may_read_the_last_good_one(
    tmp_path: Path, config_mode: int, kept_mode: int
) -> None:
    path = started(tmp_path)
    kept = tmp_path / "data" / lastgood.FILE_NAME
    kept.unlink()
    os.chown(path, -1, os.getegid())
    path.chmod(config_mode)
    lastgood.keep(path, tmp_path / "data" / "control.db")
    assert kept.stat().st_mode & 0o777 == kept_mode
