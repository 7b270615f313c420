"""What Prometheus reads: requests, batches and refusals of one server, or of all replicas together.

With PROMETHEUS_MULTIPROC_DIR set before this module is imported, every replica writes its counters to files in that
folder, and whichever replica is asked adds up all of them. Counters of a replica that died stay in the sums.
"""

import asyncio
import os
import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_PATHS = frozenset({"/retrieve", "/access", "/health", "/healthz", "/metrics", "/openapi.json", "/docs"})


class ServerMetrics:
    """The metrics of one process. Every name begins with `waymark_`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "waymark_requests", "Requests answered, by path and status.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "waymark_request_seconds",
            "From request to answer in seconds, by path.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_progress = Gauge(
            "waymark_requests_in_progress",
            "Requests that are being answered.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queries = Counter("waymark_queries", "Queries asked and not refused.", registry=registry)
        self.batch_size = Histogram(
            "waymark_batch_size", "Queries in one batch to the retriever.", buckets=_SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "waymark_batch_seconds", "Search of one batch in seconds.", buckets=_SECONDS, registry=registry
        )
        self.batch_failures = Counter(
            "waymark_batch_failures",
            "Batches without an answer; what is searched again counts again.",
            ["outcome"],
            registry=registry,
        )
        self.overloads = Counter(
            "waymark_overloads", "Requests refused because too much waits or hangs.", registry=registry
        )
        self.hanging = Gauge(
            "waymark_searches_hanging",
            "Searches and openings of documents that were given up on and still run.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.failures = Counter("waymark_failures", "Searches that failed or took too long.", registry=registry)
        self.disconnects = Counter("waymark_disconnects", "Clients that left before their answer.", registry=registry)
        self.passages = Gauge(
            "waymark_passages", "Passages in the corpus.", multiprocess_mode="mostrecent", registry=registry
        )
        self.index = Gauge(
            "waymark_index_info",
            "Always 1; the labels say what is served.",
            ["index_hash", "backend"],
            multiprocess_mode="max",
            registry=registry,
        )
        self._endpoints: dict[tuple[str, int], Counter] = {}
        self._latencies: dict[str, Histogram] = {}

    def describe(self, num_passages: int, identity: Mapping[str, object]) -> None:
        """Say what is served."""
        self.passages.set(num_passages)
        labels = (str(identity.get("index_hash") or ""), str(identity.get("backend") or identity.get("kind") or ""))
        self.index.labels(*labels).set(1)

    def batch(self, num_queries: int, seconds: float, outcome: str) -> None:
        """Count one batch."""
        self.batch_size.observe(num_queries)
        self.batch_seconds.observe(seconds)
        if outcome != "answered":
            self.batch_failures.labels(outcome).inc()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request. Paths that the server does not have are counted together."""
        path = path if path in _PATHS else "other"
        counter = self._endpoints.get((path, status))
        if counter is None:
            counter = self._endpoints[path, status] = self.requests.labels(path, str(status))
            self._latencies.setdefault(path, self.request_seconds.labels(path))
        counter.inc()
        self._latencies[path].observe(seconds)

    async def page(self) -> bytes:
        """The text that Prometheus scrapes; files of other replicas are read in a thread."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)

        def collect() -> bytes:
            everybody = CollectorRegistry()
            MultiProcessCollector(everybody)
            return generate_latest(everybody)

        return await asyncio.to_thread(collect)


class MeasuredApp:
    """ASGI middleware that counts what the application inside answers."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, status, started = self._metrics, 499, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics.in_progress.inc()
        try:
            await self._app(scope, receive, noting)
        finally:
            metrics.in_progress.dec()
            metrics.answered(scope["path"], status, time.perf_counter() - started)
