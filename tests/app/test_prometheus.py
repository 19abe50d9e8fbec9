from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest
from helpers.doubles import wide_spec

from rtseg.app.prometheus import StreamMetrics, parse_address, serve_metrics
from rtseg.errors import OptionError
from rtseg.pipeline.durations import Durations
from rtseg.pipeline.report import Status

pytest.importorskip("prometheus_client")


def fake_run() -> SimpleNamespace:
    """What the figures are taken from; the command line has a test with a real run."""
    durations = Durations()
    for seconds in (0.002, 0.02, 0.2):
        durations.add(seconds)
    shares = np.zeros(200)
    shares[7] = 0.25
    status = Status(12.5, 40.0, 100, 90, 8, 2, {}, shares, 4.0, 4.0)
    return SimpleNamespace(
        status=lambda: status, spec=wide_spec(), sinks=[], source=None, result=None, durations={"infer": durations}
    )


def fetch(url: str) -> str:
    with urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def test_the_figures_of_each_run_are_served_until_the_block_ends() -> None:
    metrics = StreamMetrics()
    metrics.add("gate", fake_run())  # type: ignore[arg-type]
    with serve_metrics("127.0.0.1:0", metrics) as address:
        text = fetch(str(address))
        metrics.add("yard", fake_run())  # type: ignore[arg-type]
        assert 'rtseg_fps{source="yard"} 12.5' in fetch(str(address))
    lines = text.splitlines()
    for expected in (
        'rtseg_fps{source="gate"} 12.5',
        'rtseg_frames_total{source="gate",what="dropped"} 8.0',
        'rtseg_image_age_seconds{source="gate"} 0.04',
        'rtseg_source_state{source="gate",state="running"} 1.0',
        'rtseg_class_share{class="class 7",source="gate"} 0.25',
        'rtseg_stage_seconds_bucket{le="0.0025",source="gate",stage="infer"} 1.0',
        'rtseg_stage_seconds_bucket{le="0.025",source="gate",stage="infer"} 2.0',
        'rtseg_stage_seconds_bucket{le="+Inf",source="gate",stage="infer"} 3.0',
        'rtseg_stage_seconds_count{source="gate",stage="infer"} 3.0',
    ):
        assert expected in lines
    with pytest.raises(OSError, match="refused"):
        fetch(str(address))
    assert not any(thread.name == "rtseg-metrics" for thread in threading.enumerate())


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = f"127.0.0.1:{server.getsockname()[1]}"
        message = f"--metrics {text} cannot be used .Address already in use.: give another address or port"
        with pytest.raises(OptionError, match=message), serve_metrics(text, StreamMetrics()):
            pass


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:9100", "http://127.0.0.1:9100/metrics"),
        (":9100", "http://127.0.0.1:9100/metrics"),
        ("9100", "http://127.0.0.1:9100/metrics"),
        ("[::1]:9100", "http://[::1]:9100/metrics"),
        ("gate.example:80", "http://gate.example:80/metrics"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert str(parse_address(text)) == url


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1:", "127.0.0.1:70000", "http://127.0.0.1:9100", "a b:1"])
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="must be HOST:PORT"):
        parse_address(text)


def test_listening_for_other_machines_is_noted() -> None:
    assert "without a password" in parse_address("0.0.0.0:9100").notices[0]
    assert "without a password" not in parse_address("9100").notices[0]


def test_the_figures_of_a_real_run(tmp_path: Path) -> None:
    from rtseg.app.options import StreamOptions
    from rtseg.app.stream import StreamRun
    from rtseg.events.options import EventOptions
    from rtseg.sources.options import SourceOptions

    events = EventOptions(rules=("x: Road >= 0%",), destinations=(str(tmp_path / "ev.jsonl"),))
    run = StreamRun(StreamOptions(source="demo:1@96x64", part=SourceOptions(max_frames=3), events=events))
    run.run()
    metrics = StreamMetrics()
    metrics.add("demo", run)
    with serve_metrics("127.0.0.1:0", metrics) as address:
        lines = fetch(str(address)).splitlines()
    assert 'rtseg_events_total{event="x",source="demo"} 1.0' in lines
    assert 'rtseg_source_state{source="demo",state="ended"} 1.0' in lines
    assert 'rtseg_frames_total{source="demo",what="written"} 3.0' in lines
