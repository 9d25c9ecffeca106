"""The services of the tests themselves: a test that relies on them must be able to trust them."""

from __future__ import annotations

from pathlib import Path

import aiomqtt
import psycopg
import pytest

from tests.services import Amqtt, ChildFailed, Mosquitto, MosquittoOptions, Postgres, listens


def test_a_database_is_empty_and_speaks_utf8(database: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_committed_rows_survive_kill_9_and_the_address_stays(postgres: Postgres, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE t AS SELECT 42 AS n")
    pid = postgres.pid
    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database)
    postgres.start()
    assert postgres.pid != pid
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (42,)


def test_a_password_is_asked_for(database: str) -> None:
    user, _, rest = database.partition("://")[2].partition(":")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://{user}:wrong@{rest.partition('@')[2]}")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Mosquitto, Amqtt])
async def test_a_broker_carries_a_message_and_comes_back_on_its_port(
    kind: type[Mosquitto] | type[Amqtt], tmp_path: Path
) -> None:
    broker = kind(tmp_path)
    broker.start()
    try:
        port = broker.port
        broker.kill()
        assert not listens(port)
        broker.start()
        assert broker.port == port
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("a/b", qos=1)
            await client.publish("a/b", b"x" * 100_000, qos=1)
            message = await anext(aiter(client.messages))
            assert message.payload == b"x" * 100_000
    finally:
        broker.stop()
    assert not listens(port)


@pytest.mark.anyio
async def test_mosquitto_refuses_a_wrong_password(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, options=MosquittoOptions(passwords={"reef": "right"}))
    broker.start()
    try:
        async with aiomqtt.Client("127.0.0.1", broker.port, username="reef", password="right"):
            pass
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", broker.port, username="reef", password="wrong"):
                pass
    finally:
        broker.stop()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, options=MosquittoOptions(lines=("no_such_option 1",)))
    with pytest.raises(ChildFailed, match="no_such_option"):
        broker.start()
