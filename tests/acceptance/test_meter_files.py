"""What a person does with meter files: drop them, upload them, ingest them, and look what became of them."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from edge.cli.main import run
from edge.demo import meterfile
from edge.local import LocalUnavailable, call
from tests.meterstore import nem12, write
from tests.services import Child, free_port

PATIENCE_S = 90
CONFIG = """
[site]
name = "meters"
[store]
path = "{folder}/tidewatt.db"
flush_interval_s = 0.3
[uplink]
enabled = false
[web]
port = {port}
[meters]
scan_interval_s = 0.2
upload_bytes_max = 20000000
[[devices]]
name = "waves"
driver = "sim"
model = "waves"
interval_s = 0.5
"""


class Answer(NamedTuple):
    """Of the command line."""

    returncode: int
    stdout: str
    stderr: str


class Site:
    """A folder with a config, and perhaps a daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "config.toml"
        self.config.write_text(CONFIG.format(folder=folder, port=self.port))
        self.inbox = folder / "inbox"
        command = [sys.executable, "-m", "edge.cli.main", "--config", str(self.config), "run"]
        self.child = Child("daemon", command, log=folder / "daemon.log")

    def tidewatt(self, *arguments: str | Path) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--config", str(self.config), *map(str, arguments)])
        return Answer(code, out.getvalue(), err.getvalue())

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.tidewatt(*arguments, "--json").stdout)

    def answers(self) -> bool:
        try:
            return bool(call(self.folder / "tidewatt.sock", "status"))
        except LocalUnavailable:
            return False

    def http(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.folder / "tidewatt-http.sock"))
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE_S)

    def state_of(self, name: str) -> str:
        return next((file["state"] for file in self.json("files")["files"] if file["name"] == name), "")


def wait_for(what: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if answer := what():
            return answer
        time.sleep(0.1)
    raise AssertionError("it never came")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon that runs."""
    found = Site(tmp_path_factory.mktemp("site"))
    found.child.start()
    try:
        found.child.wait_ready(found.answers)
        wait_for(found.inbox.is_dir)
        yield found
    finally:
        found.child.stop()


@pytest.fixture
def alone(tmp_path: Path) -> Site:
    """A site whose daemon does not run."""
    return Site(tmp_path)


# --------------------------------------------------------------------------------------------- dropped


def test_files_dropped_into_the_inbox_are_stored_and_listed(site: Site) -> None:
    houses = meterfile.meters(2)
    write(site.inbox, "year.csv", meterfile.nem12(houses, date(2025, 1, 1), 365, created="202601010000"))
    write(site.inbox, "reads.csv", meterfile.nem13(houses, date(2025, 1, 1), 4, created="202601010000"))
    with zipfile.ZipFile(site.inbox / "both.zip", "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("../../etc/passwd", nem12([("20260101", "1")], nmi="6102000003"))
        box.writestr("/tmp/two.csv", nem12([("20260102", "2")], nmi="6102000003"))
    wait_for(lambda: not any(path.is_file() for path in site.inbox.iterdir()))
    files = {file["name"]: file for file in site.json("files")["files"]}
    assert {files[name]["state"] for name in ("year.csv", "reads.csv", "both.zip")} == {"completed"}
    assert (files["year.csv"]["days"], files["year.csv"]["values"]) == (1460, 70080)
    assert (files["reads.csv"]["version"], files["reads.csv"]["reads"]) == ("NEM13", 16)
    assert files["both.zip"]["days"] == 2
    table = site.tidewatt("files").stdout
    assert "year.csv" in table
    assert "completed" in table
    few = site.tidewatt("files", "--limit", "2", "--json")
    told = json.loads(few.stdout)
    assert (len(told["files"]), told["cut"]) == (2, True)
    assert few.stderr == "only the newest 2 of more are shown; --limit N for more\n"
    few = site.tidewatt("intervals", "6102000003", "E1", "--limit", "5", "--format", "csv")
    assert few.stderr == "5 of 96; --offset 5 goes on, or raise --limit\n"
    one = site.tidewatt("files", "year.csv").stdout
    assert "70080" in one
    assert files["year.csv"]["hash"] in one


HOSTILE: dict[str, Callable[[Path], Path]] = {}


def hostile(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    HOSTILE[make.__name__] = make
    return make


@hostile
def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("zeros.csv", nem12([]) + b"0" * 200_000_000)
    return path


@hostile
def nested(path: Path) -> Path:
    inner = path.with_suffix(".inner")
    with zipfile.ZipFile(inner, "w") as box:
        box.writestr("a.csv", nem12([("20260101", "1")]))
    with zipfile.ZipFile(path, "w") as box:
        box.write(inner, "inner.zip")
    inner.unlink()
    return path


@hostile
def no_meter_file(path: Path) -> Path:
    path.write_bytes(os.urandom(100_000))
    return path


@hostile
def empty(path: Path) -> Path:
    path.touch()
    return path


@hostile
def cut_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as box:
        box.writestr("a.csv", nem12([("20260101", "1")] * 20))
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_fails_with_a_text_beside_it_and_the_daemon_lives(
    site: Site, name: str, tmp_path: Path
) -> None:
    made = HOSTILE[name](tmp_path / name)
    made.rename(site.inbox / name)
    wait_for((site.inbox / "failed" / name).exists)
    told = (site.inbox / "failed" / f"{name}.txt").read_text()
    assert f"{name} was not taken" in told
    shown = site.json("files", name)["file"]
    assert (shown["state"], shown["days"]) == ("failed", 0)
    assert shown["error"] in told
    assert site.answers()


def test_a_line_of_ten_megabytes_is_a_problem_by_line_and_the_rest_is_kept(site: Site) -> None:
    long = nem12([("20260501", "1"), ("20260503", "2")], nmi="6102000005").split(b"\r\n")
    long.insert(3, b"300,20260502," + b"1" * 10_000_000)
    write(site.inbox, "long.csv", b"\r\n".join(long))
    wait_for(lambda: site.state_of("long.csv") == "completed")
    shown = site.json("files", "long.csv")
    assert shown["file"]["days"] == 2
    assert 4 in [problem["line"] for problem in shown["problems"]]


# -------------------------------------------------------------------------------------------- uploaded


def test_an_upload_over_the_socket_is_taken_and_over_the_network_refused(site: Site) -> None:
    content = nem12([("20260601", "6")], nmi="6102000006")
    socket = site.folder / "tidewatt-http.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o660
    with site.http() as client:
        answer = client.post("/api/v1/files", params={"name": "up.csv"}, content=content)
        assert (answer.status_code, answer.json()["file"]["state"]) == (202, "pending")
        wait_for(lambda: site.state_of("up.csv") == "completed")
        again = client.post("/api/v1/files", params={"name": "other.csv"}, content=content)
        assert (again.status_code, again.json()["known"]) == (200, True)
        large = client.post("/api/v1/files", params={"name": "large"}, content=b"0" * 20_000_001)
        assert large.status_code == 413
        assert "upload_bytes_max" in large.json()["error"]
    refused = httpx.post(
        f"http://127.0.0.1:{site.port}/api/v1/files", params={"name": "up.csv"}, content=content
    )
    assert refused.status_code == 403
    assert str(socket) in refused.json()["error"]
    received = site.json("events", "--kind", "file-received")["events"]
    assert received[0]["body"]["who"]


def test_ingest_through_the_daemon(site: Site, tmp_path: Path) -> None:
    path = write(tmp_path, "mine.csv", nem12([("20260701", "7")], nmi="6102000007"))
    done = site.tidewatt("ingest", path)
    assert (done.returncode, done.stdout) == (0, "mine.csv: stored 1 channel-day, 48 values\n")
    (file,) = site.json("ingest", path)["files"]
    assert (file["known"], file["file"]["source"]) == (True, "cli")
    bad = write(tmp_path, "bad.csv", path.read_bytes().replace(b"900\r\n", b"300,x\r\n900\r\n"))
    refused = site.tidewatt("ingest", "--strict", bad)
    assert refused.returncode == 1
    assert "not taken: line 4" in refused.stdout
    assert site.tidewatt("ingest", "--lenient", bad).returncode == 0
    assert site.state_of("bad.csv") == "completed"


# ------------------------------------------------------------------------------------- without a daemon


def test_ingest_without_a_daemon_holds_the_lock_and_does_the_same(alone: Site, tmp_path: Path) -> None:
    path = write(tmp_path, "mine.csv", nem12([("20260701", "7")], nmi="6102000007"))
    done = alone.tidewatt("ingest", path)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "mine.csv: stored 1 channel-day, 48 values\n",
        "",
    )
    again = alone.tidewatt("ingest", path)
    assert "known already" in again.stdout
    assert path.exists(), "a file of the person's stays where it is"
    (file,) = alone.json("files")["files"]
    assert (file["state"], file["source"]) == ("completed", "cli")
    assert len(list((alone.folder / "archive").glob("*.gz"))) == 1
    assert alone.json("files", path)["file"]["hash"] == file["hash"]
    assert alone.json("files", file["hash"][:8])["problems"] == []


def test_what_was_taken_before_a_file_that_cannot_be_is_told(alone: Site, tmp_path: Path) -> None:
    first = write(tmp_path, "first.csv", nem12([("20260701", "7")], nmi="6102000007"))
    second = write(tmp_path, "second.csv", nem12([("20260702", "7")], nmi="6102000007"))
    os.mkfifo(pipe := tmp_path / "pipe.csv")
    done = alone.tidewatt("ingest", first, pipe, second)
    assert (done.returncode, done.stdout) == (1, "first.csv: stored 1 channel-day, 48 values\n")
    assert "pipe.csv: is no plain file" in done.stderr
    told = alone.tidewatt("ingest", "--json", first, pipe)
    (file,) = json.loads(told.stdout)["files"]
    assert (told.returncode, file["known"], file["file"]["name"]) == (1, True, "first.csv")


def test_a_dry_run_stores_nothing_and_needs_no_daemon(alone: Site, tmp_path: Path) -> None:
    path = write(tmp_path, "mine.csv", nem12([("20260701", "7")], nmi="6102000007"))
    done = alone.tidewatt("ingest", "--dry-run", path)
    assert (done.returncode, done.stdout) == (0, "mine.csv: would bring 1 channel-day, 48 values\n")
    (shown,) = alone.json("ingest", "--dry-run", "--strict", path)["files"]
    assert (shown["file"]["state"], shown["file"]["values"], shown["problems"]) == ("completed", 48, [])
    assert not (alone.folder / "tidewatt.db").exists()


def test_while_another_process_has_the_database_ingest_says_so(alone: Site, tmp_path: Path) -> None:
    import fcntl

    path = write(tmp_path, "mine.csv", nem12([("20260701", "7")]))
    alone.tidewatt("ingest", path)
    with (alone.folder / "tidewatt.db.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = alone.tidewatt("ingest", path)
    assert (done.returncode, "another process writes this database" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ingest"], 2, "Missing argument"),
        (["ingest", "nowhere.csv"], 2, "does not exist"),
        (["ingest", "--strict", "--lenient", "config.toml"], 2, "exclude each other"),
        (["files"], 1, "there is no database"),
    ],
)
def test_wrong_use_is_told(alone: Site, arguments: list[str], code: int, words: str) -> None:
    done = alone.tidewatt(*(alone.config if word == "config.toml" else word for word in arguments))
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_files_that_are_not_there_are_told(alone: Site, tmp_path: Path) -> None:
    path = write(tmp_path, "mine.csv", nem12([("20260701", "7")]))
    alone.tidewatt("ingest", path)
    done = alone.tidewatt("files", "nobody.csv")
    assert (done.returncode, "tidewatt files lists them" in done.stderr) == (1, True)
    assert "no meter files" in alone.tidewatt("files", "--state", "failed").stdout


def test_the_daemon_takes_up_what_it_was_killed_over(alone: Site) -> None:
    """Its reader ends with it, and nothing is lost or doubled at the next start."""
    houses = meterfile.meters(6)
    alone.inbox.mkdir()
    write(alone.inbox, "year.csv", meterfile.nem12(houses, date(2025, 1, 1), 365, created="202601010000"))
    alone.child.start()
    try:
        alone.child.wait_ready(alone.answers)
        wait_for((alone.folder / "archive").is_dir)
        alone.child.kill()
        alone.child.start()
        alone.child.wait_ready(alone.answers)
        wait_for(lambda: not list(alone.inbox.glob("*.csv")))
    finally:
        alone.child.stop()
    (file,) = alone.json("files")["files"]
    assert (file["state"], file["days"]) == ("completed", 6 * 2 * 365)
