"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests.services import Mosquitto, Postgres

# Machines are slow and noisy: how long an example takes proves nothing.
settings.register_profile("tidewatt", deadline=None)
settings.load_profile("tidewatt")

# Begun in the background of a script, Ctrl-C would be ignored by all that is started here, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = ("test_tank_year", "test_selftest", "test_cli_calibrate_slips", "test_cli_calibrate", "test_readme")
"""Files of which each keeps a worker busy for minutes; last, it would do so while the others have nothing left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a test, or a command that it runs, sets up for the log ends with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Everything here runs on asyncio: aiosqlite and aiomqtt do."""
    return "asyncio"


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """A short path that any account reaches; pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="tidewatt-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_session(services_folder: Path) -> Iterator[Postgres]:
    """One server for the session; use `postgres`, which is running again after a test that killed it."""
    server = Postgres(services_folder / "postgres")
    server.start()
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_session: Postgres) -> Postgres:
    """The running Postgres: `fresh_database()`, `sql(…)`, `restart()`, `stop()`, `kill()`, `start()`."""
    if not postgres_session.running:
        postgres_session.start()
    return postgres_session


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The connection string of an empty database, removed after the test."""
    dsn = postgres.fresh_database()
    yield dsn
    if postgres.running:
        postgres.drop_database(dsn.rpartition("/")[2])


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running mosquitto that takes anybody; another kind is `Mosquitto(tmp_path / "b", options=…)`."""
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.stop()
