"""A migrated Postgres database for each test, copied from one that was migrated once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import structlog

from migrations.runner import migrate_upstream
from sync.ingest import Ingest
from tests.services import Postgres
from tests.upstream import NOW_MS

OpenIngest = Callable[..., AbstractAsyncContextManager[Ingest]]


@pytest.fixture(scope="session")
def upstream_template(postgres_session: Postgres) -> str:
    """Name of a migrated database that nobody is connected to."""
    dsn = postgres_session.fresh_database()
    migrate_upstream(dsn)
    return dsn.rpartition("/")[2]


@pytest.fixture
def upstream(postgres: Postgres, upstream_template: str) -> Iterator[str]:
    """The connection string of a migrated database, removed after the test."""
    dsn = postgres.fresh_database(template=upstream_template)
    yield dsn
    if postgres.running:
        postgres.drop_database(dsn.rpartition("/")[2])


@pytest.fixture
def open_ingest(upstream: str) -> OpenIngest:
    """`async with open_ingest() as ingest`: a connection to the test's database, at NOW_MS."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[Ingest]:
        given: dict[str, Any] = {"now_ms": lambda: NOW_MS, "log": structlog.get_logger("sink"), **options}
        async with Ingest.open(given.pop("dsn", upstream), **given) as ingest:
            yield ingest

    return opened


@pytest.fixture
async def ingest(open_ingest: OpenIngest) -> AsyncIterator[Ingest]:
    async with open_ingest() as opened:
        yield opened
