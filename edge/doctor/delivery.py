"""Checks of the way upstream: the broker, the sink behind it, and how long the backlog takes."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, Final

import anyio

from edge.clock import SystemClock, iso_utc
from edge.config import Config
from edge.doctor.checks import Verdict, failed, ok, warning
from edge.doctor.patient import Patient
from edge.doctor.records import Unreadable, still
from edge.times import show_duration
from sync.link import LinkConfig, LinkDown, connect
from sync.messages import Topics

BROKER_S: Final = 20.0
ECHO_S: Final = 5.0
ECHO_SERIES: Final = "doctor.echo"
DRAIN_MAX_S: Final = 86_400.0
OFF: Final = "delivery is switched off ([uplink] enabled = false); everything is kept here"


def broker(patient: Patient) -> Iterator[Verdict]:
    """Name, port, TLS, login and access list.

    Where the daemon is connected its word is taken: with the login as client id (`tidewatt broker config`), a second
    connection would end that of the daemon.
    """
    assert patient.config is not None
    uplink = patient.config.uplink
    if not uplink.enabled:
        yield ok(OFF)
        return
    if patient.state is not None and patient.state["delivery"]["state"] == "connected":
        yield ok(f"the daemon is connected to {uplink.host}:{uplink.port}{_manner(patient.config)}")
        return
    try:
        refused = asyncio.run(_speak(patient.config))
    except LinkDown as down:
        yield failed(str(down))
        return
    if refused:
        yield failed(refused)
    else:
        yield ok(
            f"{uplink.host}:{uplink.port} answers{_manner(patient.config)}, and takes and gives this site's topics"
        )


def _manner(config: Config) -> str:
    uplink = config.uplink
    return (" with TLS" if uplink.tls else " without TLS") + (
        f" as {uplink.username}" if uplink.username else ""
    )


async def _speak(config: Config) -> str:
    """Connect, and have a value come back that nobody keeps; why it did not, or "".  Raises LinkDown."""
    uplink, topics = config.uplink, Topics(config.uplink.prefix, config.site.name)
    link = LinkConfig.of(uplink, client_id=f"{topics.edge}-doctor-{secrets.token_hex(3)}")
    topic, payload = topics.state(ECHO_SERIES), _echo()
    try:
        with anyio.fail_after(BROKER_S):
            async with connect(link) as session:
                await session.subscribe(topics.held, topic)
                await session.publish(topic, payload, qos=1)
                with anyio.move_on_after(ECHO_S):
                    async for message in session.messages():
                        if message.payload == payload:
                            return ""
    except* LinkDown as group:
        raise LinkDown(_first(group)) from None
    except* TimeoutError:
        raise LinkDown(
            f"broker {link.where} did not answer within {BROKER_S:g} s; look at the network"
        ) from None
    return (
        f"broker {link.where} takes the login, but does not give back what is published to {topic}: give this login"
        f" the right to read and write {topics.state('+')} (the broker's ACL; tidewatt broker config writes one)"
    )


def _first(group: BaseException) -> str:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return str(group)


def _echo() -> bytes:
    """A live value that says of itself that it is none, unlike any other."""
    message = {
        "value": None, "unit": "", "ts": iso_utc(SystemClock().now_ms()), "quality": "bad",
        "reason": f"tidewatt doctor {secrets.token_hex(6)}",
    }  # fmt: skip
    return json.dumps(message, separators=(",", ":")).encode()


def sink(patient: Patient) -> Iterator[Verdict]:
    """Whether the delivery is bound to a Postgres, and when that answered last."""
    assert patient.config is not None
    if not patient.config.uplink.enabled:
        yield ok(OFF)
        return
    if patient.state is None:
        yield _bound_at_rest(patient.config)
        return
    delivery = patient.state["delivery"]
    heard = delivery["last_answer"]
    if not delivery["bound"]:
        yield warning(
            delivery["advice"] or "bound to no ledger: nothing counts as delivered; tidewatt sync bind LEDGER"
        )
    elif heard is None:
        yield warning(
            "has not answered since the daemon started; is tidewatt sink running, with the same prefix?"
        )
    else:
        silent_s = SystemClock().now_ms() / 1000 - datetime.fromisoformat(heard).timestamp()
        asked_s = patient.config.uplink.ask_interval_s + patient.config.uplink.silence_alarm_s
        if silent_s > asked_s:
            yield failed(f"silent for {show_duration(silent_s)}; is tidewatt sink running, and its Postgres?")
        else:
            yield ok(
                f"bound to ledger {delivery['ledger']}, answered {show_duration(max(0.0, silent_s))} ago"
            )


def _bound_at_rest(config: Config) -> Verdict:
    """What the config or the database says while no daemon runs."""
    if config.uplink.ledger:
        return ok(f"the config binds the ledger {config.uplink.ledger}")
    if not config.store.database.exists():
        return warning(
            "bound to no ledger yet; when both run: tidewatt sync bind LEDGER, which tidewatt sink prints"
        )
    try:
        with closing(sqlite3.connect(still(config.store.database), uri=True)) as connection:
            row = connection.execute("SELECT ledger FROM binding ORDER BY id DESC LIMIT 1").fetchone()
    except (sqlite3.Error, Unreadable) as error:
        return warning(f"not known while the daemon does not run ({error}); start it")
    if row is None:
        return warning(
            "bound to no ledger: nothing counts as delivered; start the daemon, then tidewatt sync bind LEDGER"
        )
    return ok(f"bound to ledger {row[0]}")


def drain(patient: Patient) -> Iterator[Verdict]:
    """How much waits, and how long it takes."""
    assert patient.config is not None
    if not patient.config.uplink.enabled:
        yield ok(OFF)
        return
    if patient.state is None:
        yield warning("nothing is delivered while the daemon does not run; start it")
        return
    delivery: Any = patient.state["delivery"]
    rows = sum(stream["backlog"] for stream in delivery["streams"].values())
    eta_s = delivery["eta_s"]
    if not rows:
        yield ok("nothing waits")
    elif eta_s is None:
        in_flight = delivery["in_flight"]
        words = f"{rows:,} rows wait"
        yield (
            ok(f"{words}, on their way")
            if in_flight
            else warning(f"{words} and nothing moves; what stops it is said under broker and sink")
        )
    elif eta_s > DRAIN_MAX_S:
        yield warning(
            f"{rows:,} rows wait, {show_duration(eta_s)} to drain; raise backlog_share under"
            " [uplink], or take a faster link"
        )
    else:
        yield ok(f"{rows:,} rows wait, {show_duration(eta_s)} to drain")
