"""A config file is replaced whole, with its rights, its mark and its line ends, or not at all."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge.cli.configwrite import BACKUPS_MAX, ConfigFile, written
from edge.cli.support import Refused
from edge.local import LocalUnavailable

CONFIG = '[site]\nname = "reef"\n[[devices]]\nname = "tank"\ndriver = "sim"\n'
NEW = CONFIG + "[devices.points.ph]\noffset = 0.5\n"


NOBODY = 65_534


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow beyond a few bytes, as on a full disk; what is there can be renamed."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in the folder may be named anew, not by root either."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    path.chmod(0o640)
    return path


def test_it_is_taken_over(path: Path) -> None:
    reloads: list[str] = []

    def reload() -> str:
        reloads.append(path.read_text())
        return ""

    written(ConfigFile(path), NEW, reload)
    assert reloads == [NEW]
    assert path.read_text() == NEW
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.with_name("config.toml.bak").read_text() == CONFIG
    assert path.with_name("config.toml.bak").stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in path.parent.iterdir()) == ["config.toml", "config.toml.bak"]


def backups(path: Path) -> list[str]:
    """What is kept, the newest first."""
    kept = [path.with_name("config.toml.bak")]
    kept += [path.with_name(f"config.toml.bak.{number}") for number in range(1, 2 * BACKUPS_MAX)]
    return [one.read_text() for one in kept if one.exists()]


def test_the_first_good_file_is_never_lost(path: Path) -> None:
    texts = [f"{NEW}# {number}\n" for number in range(BACKUPS_MAX + 5)]
    for text in texts:
        written(ConfigFile(path), text, lambda: "")
    newest = texts[-BACKUPS_MAX:-1][::-1]
    assert backups(path) == [*newest, CONFIG]
    assert len(list(path.parent.iterdir())) == 1 + BACKUPS_MAX


def test_few_backups_are_all_there(path: Path) -> None:
    for number in range(3):
        written(ConfigFile(path), f"{NEW}# {number}\n", lambda: "")
    assert backups(path) == [f"{NEW}# 1\n", f"{NEW}# 0\n", CONFIG]


def test_what_was_not_taken_over_leaves_one_backup(path: Path) -> None:
    answers = iter(["no such thing", "", "no such thing", "", ""])
    for _ in range(2):
        with pytest.raises(Refused):
            written(ConfigFile(path), NEW, lambda: next(answers))
    written(ConfigFile(path), NEW, lambda: next(answers))
    assert backups(path) == [CONFIG]


def test_what_the_daemon_refuses_is_taken_back(path: Path) -> None:
    seen: list[str] = []

    def reload() -> str:
        seen.append(path.read_text())
        return "no such thing" if len(seen) == 1 else ""

    with pytest.raises(Refused, match=r"no such thing.*is as it was"):
        written(ConfigFile(path), NEW, reload)
    assert seen == [NEW, CONFIG]  # it is told again that all is as before
    assert path.read_text() == CONFIG


def test_a_config_that_would_be_invalid_is_not_written(path: Path) -> None:
    def reload() -> str:
        raise AssertionError("nothing to take over")

    with pytest.raises(Refused) as refused:
        written(ConfigFile(path), NEW + "confrim = 3\n", reload)
    assert f"{path}:8: " in str(refused.value)
    assert "confrim" in str(refused.value)
    assert path.read_text() == CONFIG
    assert [one.name for one in path.parent.iterdir()] == ["config.toml"]


def test_somebody_else_was_faster(path: Path) -> None:
    file = ConfigFile(path)
    path.write_text(CONFIG + "# mine\n")
    with pytest.raises(Refused, match="changed by somebody else"):
        written(file, NEW, lambda: "")
    assert path.read_text() == CONFIG + "# mine\n"


def test_a_link_stays_a_link(path: Path) -> None:
    link = path.parent / "link.toml"
    link.symlink_to(path)
    written(ConfigFile(link), NEW, lambda: "")
    assert link.is_symlink()
    assert path.read_text() == NEW


def test_a_byte_order_mark_and_crlf_stay(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + CONFIG.replace("\n", "\r\n").encode())
    file = ConfigFile(path)
    written(file, file.text + "[devices.points.ph]\r\noffset = 0.5\r\n", lambda: "")
    assert path.read_bytes() == b"\xef\xbb\xbf" + NEW.replace("\n", "\r\n").encode()


def test_who_may_not_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not ConfigFile(path).may_write()


def test_a_full_disk_leaves_it_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match=r"No space left.*is as it was"):
        written(ConfigFile(path), NEW, lambda: "")
    assert path.read_text() == CONFIG
    assert sorted(one.name for one in path.parent.iterdir()) == ["config.toml", "config.toml.bak"]


def test_one_that_is_gone_meanwhile_is_told(path: Path) -> None:
    file = ConfigFile(path)
    path.unlink()
    with pytest.raises(Refused, match=r"config\.toml could not be written \(No such file"):
        file.write(NEW)
    assert list(path.parent.iterdir()) == []


class TestTheDiskFailsMeanwhile:
    """Between the new config and the daemon's refusal: what was there comes back, or a person is told all of it."""

    def test_a_full_disk_takes_nothing(self, path: Path) -> None:
        with no_room(), pytest.raises(Refused, match=r"no room in .* to check the new config.* is as it was"):
            written(ConfigFile(path), NEW, lambda: "")
        file = ConfigFile(path)
        with (
            no_room(),
            pytest.raises(Refused, match=r"could not be written \(File too large\); it is as it was"),
        ):
            file.write(NEW)
        assert path.read_text() == CONFIG
        assert [one.name for one in path.parent.iterdir()] == ["config.toml"]

    def test_a_full_disk_still_has_the_copy_beside_it(self, path: Path) -> None:
        with ExitStack() as disk:

            def reload() -> str:
                if path.read_text() == NEW:
                    disk.enter_context(no_room())
                    return "no such thing"
                return ""

            with pytest.raises(Refused, match=r"no such thing.*is as it was"):
                written(ConfigFile(path), NEW, reload)
        assert path.read_text() == CONFIG
        assert path.stat().st_mode & 0o777 == 0o640
        assert [one.name for one in path.parent.iterdir()] == ["config.toml"]

    def test_a_folder_that_is_read_only_takes_nothing(self, path: Path) -> None:
        file = ConfigFile(path)
        with read_only(path.parent), pytest.raises(Refused, match=r"\(Permission denied\); it is as it was"):
            file.write(NEW)
        assert path.read_text() == CONFIG
        assert [one.name for one in path.parent.iterdir()] == ["config.toml"]

    def test_what_cannot_be_put_back_is_told_with_the_way_back(self, path: Path) -> None:
        reloads: list[str] = []
        with ExitStack() as disk:

            def reload() -> str:
                reloads.append(path.read_text())
                disk.enter_context(read_only(path.parent))
                return "no such thing"

            with pytest.raises(Refused) as refused:
                written(ConfigFile(path), NEW, reload)
        said = str(refused.value)
        assert "no such thing" in said
        assert f"{path} holds the new one and could not be put back (Permission denied)" in said
        assert said.endswith(f"sudo cp -p {path}.bak {path}")
        assert reloads == [NEW]  # the daemon is not asked to read again what it refused
        assert path.read_text() == NEW
        assert path.with_name("config.toml.bak").read_text() == CONFIG

    def test_a_daemon_that_dies_after_its_refusal_changes_nothing(self, path: Path) -> None:
        answers = iter(["no such thing"])

        def reload() -> str:
            try:
                return next(answers)
            except StopIteration:
                raise LocalUnavailable("it is not running") from None

        with pytest.raises(Refused, match=r"no such thing.*is as it was"):
            written(ConfigFile(path), NEW, reload)
        assert path.read_text() == CONFIG

    def test_a_daemon_that_does_not_answer_leaves_it_written(self, path: Path) -> None:
        def reload() -> str:
            raise LocalUnavailable("it is not running")

        with pytest.raises(LocalUnavailable):
            written(ConfigFile(path), NEW, reload)
        assert path.read_text() == NEW
