"""Figures of running streams for Prometheus."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from rtseg.app.stream import StreamRun
from rtseg.errors import MissingExtra, OptionError
from rtseg.sinks.events import EventsSink
from rtseg.sources.supervisor import SupervisedSource

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["MetricsAddress", "StreamMetrics", "parse_address", "serve_metrics"]

_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STATES: Final = ("connecting", "streaming", "stalled", "reconnecting", "ended", "running")
_REQUEST_S: Final = 5.0
"""A client that sends nothing is disconnected after this time."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class MetricsAddress:
    """Where to listen."""

    host: str
    port: int

    @property
    def notices(self) -> list[str]:
        """What to tell the user."""
        if self.host in _LOOPBACK or self.host.startswith("127."):
            return [f"figures for Prometheus: {self}"]
        return [
            f"figures for Prometheus: {self}: any machine that reaches this address can read them, without a password"
        ]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"


def parse_address(text: str) -> MetricsAddress:
    """``HOST:PORT``, ``[IPV6]:PORT``, ``:PORT`` or ``PORT``; without a host 127.0.0.1.

    Raises:
        OptionError: it is none of these.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    is_name = host.isascii() and not set(host) & set("/@?# ")
    if not (port.isascii() and port.isdigit() and int(port[:6]) < 1 << 16 and is_name):
        raise OptionError(f"--metrics must be HOST:PORT, e.g. 127.0.0.1:9100; got {text!r}")
    return MetricsAddress(host, int(port))


class StreamMetrics:
    """A collector of ``prometheus_client`` for any number of runs. Any thread may call any method.

    Nothing is computed until somebody asks. ``registry.register(StreamMetrics())`` adds it to a registry.
    """

    def __init__(self) -> None:
        self._runs: dict[str, StreamRun] = {}
        self._lock = Lock()

    def add(self, name: str, run: StreamRun) -> None:
        """Include a run; one of the same name is replaced."""
        with self._lock:
            self._runs[name] = run

    def remove(self, name: str) -> None:
        """Leave a run out from now on."""
        with self._lock:
            self._runs.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """The figures of all runs."""
        from prometheus_client.core import CounterMetricFamily as Counter
        from prometheus_client.core import GaugeMetricFamily as Gauge
        from prometheus_client.core import HistogramMetricFamily as Histogram

        of_source = ("source",)
        fps = Gauge("rtseg_fps", "Frames per second over the last 60 frames.", labels=of_source)
        frames = Counter("rtseg_frames", "Frames, by what happened to them.", labels=("source", "what"))
        age = Gauge("rtseg_image_age_seconds", "Age of the last frame when it left the last output.", labels=of_source)
        state = Gauge("rtseg_source_state", "1 for the present state of the source.", labels=("source", "state"))
        reconnects = Counter("rtseg_reconnects", "Connections after the first one.", labels=of_source)
        shares = Gauge("rtseg_class_share", "Share of labelled pixels in the last frame.", labels=("source", "class"))
        events = Counter("rtseg_events", "Events that began.", labels=("source", "event"))
        stages = Histogram("rtseg_stage_seconds", "Work on one frame, without waiting.", labels=("source", "stage"))
        with self._lock:
            runs = dict(self._runs)
        for name, run in runs.items():
            status = run.status()
            fps.add_metric((name,), status.fps)
            age.add_metric((name,), status.latency_ms / 1e3)
            for what in ("read", "written", "dropped", "damaged"):
                frames.add_metric((name, what), getattr(status, f"frames_{what}"))
            for each in _STATES:
                state.add_metric((name, each), float(each == _state_of(run)))
            if isinstance(run.source, SupervisedSource):
                reconnects.add_metric((name,), run.source.reconnects)
            for class_name, share in zip(run.spec.classes, status.shares.tolist(), strict=True):
                shares.add_metric((name, class_name), share)
            for sink in run.sinks:
                for event, count in dict(sink.fired).items() if isinstance(sink, EventsSink) else ():
                    events.add_metric((name, event), count)
            for stage, durations in run.durations.items():
                buckets = [(f"{bound_s:g}", durations.count_up_to(bound_s)) for bound_s in _BOUNDS_S]
                stages.add_metric((name, stage), [*buckets, ("+Inf", durations.count)], durations.total_s)
        yield from (fps, frames, age, state, reconnects, shares, events, stages)


def _state_of(run: StreamRun) -> str:
    if run.result is not None:
        return "ended"
    states = run.source.states if isinstance(run.source, SupervisedSource) and run.source.live else []
    return states[-1].state if states else "running"


@contextmanager
def serve_metrics(text: str | None, metrics: StreamMetrics) -> Iterator[MetricsAddress | None]:
    """Answer ``GET /metrics`` within the block, at the address of ``parse_address``; yields the address in use.

    Raises:
        MissingExtra: prometheus-client is not installed.
        OptionError: the port is in use, or the address is not one of this machine.
    """
    if text is None:
        yield None
        return
    address = parse_address(text)
    server = _create_server(address, _registry(metrics))
    thread = Thread(target=server.serve_forever, args=(0.1,), name="rtseg-metrics", daemon=True)
    thread.start()
    try:
        yield MetricsAddress(address.host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry(metrics: StreamMetrics) -> CollectorRegistry:
    try:
        from prometheus_client import CollectorRegistry
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature("--metrics", "prometheus-client", "metrics") from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_S

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


class _Server(WSGIServer):
    """One request at a time: each takes milliseconds, or at most five seconds if the client sends nothing."""

    request_queue_size = 16


def _create_server(address: MetricsAddress, registry: CollectorRegistry) -> WSGIServer:
    from prometheus_client import make_wsgi_app

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET

    try:
        server = Server((address.host, address.port), _Handler)
    except OSError as error:
        raise OptionError(
            f"--metrics {address.host}:{address.port} cannot be used ({error.strerror}): give another address or port"
        ) from error
    server.set_app(make_wsgi_app(registry))
    return server
