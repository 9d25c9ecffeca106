"""Prometheus metrics and /healthz of a sink, over HTTP from a thread of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from sync.ingest import Counters
from sync.postgres import UpstreamError

COMMIT_BUCKETS_S: Final = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
COUNTED: Final = {
    "batches": "Batches committed",
    "rows": "Rows stored",
    "refused": "Rows refused for their data",
    "known": "Batches that brought nothing new",
    "asks": "Questions answered",
    "bad": "Payloads that could not be read",
}
CONNECTION_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a sink is.

    let_go    messages dropped because too many waited; the edges send them again
    waiting   messages that wait to be committed
    held      streams of edges that were told to wait
    postgres  connections that are open; `wanted` is how many there should be
    """

    counters: Counters
    let_go: int
    waiting: int
    held: int
    broker: bool
    postgres: int
    wanted: int

    @property
    def good(self) -> bool:
        return self.broker and self.postgres == self.wanted


class HealthCollector(Collector):
    """What the sink counts anyway, read when it is asked for."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        health = self._health()
        for name, text in COUNTED.items():
            yield CounterMetricFamily(f"tidewatt_sink_{name}", text, value=getattr(health.counters, name))
        yield CounterMetricFamily(
            "tidewatt_sink_let_go", "Messages dropped, for too many waited", health.let_go
        )
        yield GaugeMetricFamily("tidewatt_sink_waiting", "Messages that wait to be committed", health.waiting)
        yield GaugeMetricFamily("tidewatt_sink_held_streams", "Streams that were told to wait", health.held)
        yield GaugeMetricFamily(
            "tidewatt_sink_broker_connected", "1 while the broker is there", health.broker
        )
        yield GaugeMetricFamily("tidewatt_sink_postgres_connected", "Open connections", health.postgres)


class SinkMetrics:
    """One sink's registry; `commits` is observed as time passes."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health
        self._registry = CollectorRegistry()
        self.commits = prometheus_client.Histogram(
            "tidewatt_sink_commit_seconds",
            "How long a message took in Postgres, its commit included",
            buckets=COMMIT_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(HealthCollector(health))
        self._metrics = prometheus_client.make_wsgi_app(self._registry)

    def answer(self, environ: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application: /metrics, and /healthz with 200 while broker and Postgres are there, else 503."""
        match environ.get("PATH_INFO"):
            case "/metrics":
                return self._metrics(environ, start)  # type: ignore[no-any-return]
            case "/healthz":
                health = self._health()
                told = {
                    "ok": health.good,
                    "broker": health.broker,
                    "postgres": health.postgres == health.wanted,
                }
                return _json(start, "200 OK" if health.good else "503 Service Unavailable", told)
            case _:
                return _json(start, "404 Not Found", {"error": "there are /metrics and /healthz"})

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """Answer in a thread until left; port 0 is off.  Raises UpstreamError where the port cannot be had."""
        if not port:
            yield
            return
        try:
            server = make_server(host, port, self.answer, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise UpstreamError(
                f"metrics cannot be served at {host}:{port}: {error.strerror}; set another [sink] metrics_port, or 0"
            ) from error
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


def _json(start: Callable[..., Any], status: str, told: Mapping[str, Any]) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(told).encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    """A slow reader holds up nobody else, nor the end of the process."""

    daemon_threads = True

    def server_bind(self) -> None:
        """As HTTPServer does, but without asking a name server what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    timeout = CONNECTION_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no news."""
