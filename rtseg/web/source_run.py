"""One source of the page: its run, on a thread of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Thread
from typing import Any

from rtseg.app.options import StreamOptions
from rtseg.app.stream import StreamRun
from rtseg.errors import RtsegError
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.report import Status
from rtseg.sinks.broadcast import BroadcastSink
from rtseg.system.redact import find_secrets, redact

__all__ = ["SourceRun"]

_FOR_EVER_S = 1e9
"""How long a source that is away is waited for."""
_JOIN_S = 15.0


class SourceRun:
    """Runs one source until it ends or ``stop`` is called.

    Args:
        number: its place among the sources of the page.
        id: its name in addresses.
        options: what to run. Files are played at their own speed.
        max_side: see ``BroadcastSink``.

    Raises:
        RtsegError: the source, the model or an output cannot be used.
    """

    def __init__(self, number: int, id: str, options: StreamOptions, *, max_side: int) -> None:  # noqa: A002
        self.number, self.id = number, id
        part = options.part
        if part.max_downtime_s is None:
            part = replace(part, max_downtime_s=_FOR_EVER_S)
        drop = "always" if options.drop == "auto" else options.drop
        self.options = replace(options, part=part, drop=drop, show=bool(options.show))
        self.sink = BroadcastSink(f"page of {id}", max_side=max_side)
        self._secrets = find_secrets(str(options.source))
        self._run = StreamRun(self.options, more_sinks=[self.sink])
        self._status: Status | None = None
        self._ended = ""
        self._thread = Thread(target=self._run_to_the_end, name=f"rtseg-source-{id}", daemon=True)

    @property
    def name(self) -> str:
        """For people; without passwords."""
        return self._run.source.name

    @property
    def spec(self) -> ModelSpec:
        """Of the model that labels the frames."""
        return self._run.spec

    @property
    def outputs(self) -> list[str]:
        """What else the results go to."""
        return self._run.outputs

    def start(self) -> None:
        """Read the first frame soon."""
        self._thread.start()

    def stop(self) -> None:
        """End the run. Any thread may call it."""
        self._run.stop()

    def join(self) -> None:
        """Wait for the end after ``stop``; close a run that was never started."""
        if self._thread.ident is None:
            self._run.close()
        else:
            self._thread.join(_JOIN_S)

    def _run_to_the_end(self) -> None:
        try:
            report = self._run.run(self._keep)
        except RtsegError as error:
            self._ended = f"failed: {redact(error, *self._secrets)}"
        else:
            self._ended = f"ended: {report.ended}"

    def _keep(self, status: Status) -> None:
        self._status = status

    @property
    def state(self) -> str:
        """What the source is doing: ``streaming``, ``reconnecting`` ...; with its reason."""
        if self._ended:
            return self._ended
        state = redact(self._run.source.state, *self._secrets)
        return state or ("playing" if self.sink.written else "starting")

    @property
    def frame_age_s(self) -> float | None:
        """Seconds since the capture of the newest frame; None before the first one."""
        newest = self.sink.newest
        return None if newest is None else time.monotonic() - newest[0].captured_s

    def facts(self) -> dict[str, Any]:
        """What does not change while it runs, as JSON values."""
        spec = self.spec
        classes = [
            {"id": number, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
            for number, (name, color) in enumerate(zip(spec.classes, spec.palette, strict=True))
        ]
        return {"id": self.id, "number": self.number, "name": self.name, "model": spec.name, "classes": classes}

    def status(self) -> dict[str, Any]:
        """What changes, as JSON values."""
        status = self._status
        figures: dict[str, Any] = {"id": self.id, "state": self.state, "frame_age_s": _rounded(self.frame_age_s)}
        if status is None:
            return figures
        return figures | {
            "fps": round(status.fps, 2),
            "latency_ms": round(status.latency_ms, 1),
            "label_age_ms": _rounded(status.label_age_ms),
            "frames": status.frames_written,
            "dropped": status.frames_dropped,
            "damaged": status.frames_damaged,
            "pts_s": round(status.pts_s, 3),
            "shares": [round(float(share), 4) for share in status.shares],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
