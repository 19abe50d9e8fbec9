"""``summary.html``: one page about all results, which needs no other file and no network."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.batch.manifest import VideoEntry, segment_folder
from rtseg.batch.store import Store
from rtseg.events.event import Event
from rtseg.model_file.spec import ModelSpec
from rtseg.system.atomic_files import write_text

__all__ = ["VideoSummary", "summarize", "write_summary"]

_ROWS = 1000
"""Most videos in the table."""
_SLOWEST = 20


@dataclass(slots=True)
class VideoSummary:
    """The results of one video."""

    path: str
    segments: int
    done: int = 0
    frames: int = 0
    damaged: int = 0
    seconds: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    """Mean over all frames."""
    problems: list[str] = field(default_factory=list)

    @property
    def ms_per_frame(self) -> float:
        """Time of a process for one frame."""
        return 1e3 * self.seconds / self.frames if self.frames else 0.0


def summarize(store: Store, videos: Sequence[VideoEntry]) -> list[VideoSummary]:
    """Add up the results of the segments of each video."""
    return [_summarize_video(store, video) for video in videos]


def _summarize_video(store: Store, video: VideoEntry) -> VideoSummary:
    summary = VideoSummary(video.path, len(video.segments), problems=list(filter(None, (video.error, video.note))))
    totals: dict[str, float] = {}
    for segment in video.segments:
        name = segment_folder(video, segment)
        facts = store.facts(name)
        if facts is None:
            failure = store.failure(name)
            if failure:
                summary.problems.append(f"segment {segment.number}: {failure.get('error', '')}")
            continue
        summary.done += 1
        summary.frames += int(facts["frames"])
        summary.damaged += int(facts["damaged"])
        summary.seconds += float(facts["seconds"])
        for name_of_class, share in facts["mean_shares"].items():
            totals[name_of_class] = totals.get(name_of_class, 0.0) + share * facts["frames"]
    summary.shares = {name: total / summary.frames for name, total in totals.items()} if summary.frames else {}
    if summary.damaged:
        summary.problems.append(f"{summary.damaged} damaged frames")
    return summary


def write_summary(path: Path, videos: Sequence[VideoSummary], spec: ModelSpec, events: Sequence[Event] = ()) -> None:
    """Write the page; ``events`` are those of all videos.

    Raises:
        SinkError: it cannot be written.
    """
    colours = {name: f"#{bytes(rgb).hex()}" for name, rgb in zip(spec.classes, spec.palette, strict=True)}
    frames, seconds = sum(video.frames for video in videos), sum(video.seconds for video in videos)
    failed = [video for video in videos if video.problems or video.done < video.segments]
    slowest = sorted((video for video in videos if video.frames), key=lambda video: -video.ms_per_frame)[:_SLOWEST]
    cost = f", {1e3 * seconds / frames:.1f} ms per frame and process" if frames else ""
    parts = [
        f"<p>{len(videos)} videos, {frames} frames, model {html.escape(spec.name)}{cost}.</p>",
        _legend(colours),
        "<h2>All videos</h2>",
        _bar(_mean_shares(videos), colours),
        _event_table(events),
        "<h2>Failed or incomplete</h2>",
        _table(failed, colours) if failed else "<p>None.</p>",
        "<h2>Slowest</h2>",
        _table(slowest, colours),
        "<h2>Class shares of each video</h2>",
        _table(videos[:_ROWS], colours),
        f"<p>and {len(videos) - _ROWS} more</p>" if len(videos) > _ROWS else "",
    ]
    write_text(path, _PAGE.replace("BODY", "\n".join(parts)))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>rtseg batch</title><style>
body { font: 15px system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: .3em .8em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
.swatch { display: inline-block; width: 1em; height: 1em; margin: 0 .3em 0 1em; vertical-align: -.15em }
</style></head><body><h1>rtseg batch</h1>
BODY
</body></html>
"""


def _mean_shares(videos: Sequence[VideoSummary]) -> dict[str, float]:
    frames = sum(video.frames for video in videos) or 1
    names = dict.fromkeys(name for video in videos for name in video.shares)
    return {name: sum(video.shares.get(name, 0.0) * video.frames for video in videos) / frames for name in names}


def _legend(colours: dict[str, str]) -> str:
    swatch = '<span class="swatch" style="background:{}"></span>{}'
    return "<p>" + "".join(swatch.format(colour, html.escape(name)) for name, colour in colours.items()) + "</p>"


def _bar(shares: dict[str, float], colours: dict[str, str], width: int = 400) -> str:
    """A bar of the shares as SVG; its parts name themselves under the pointer."""
    left, parts = 0.0, []
    for name, share in shares.items():
        title = html.escape(f"{name}: {100 * share:.1f} %")
        size = f'x="{left:.2f}" width="{share * width:.2f}" height="16" fill="{colours.get(name, "#888")}"'
        parts.append(f"<rect {size}><title>{title}</title></rect>")
        left += share * width
    return f'<svg width="{width}" height="16" role="img">{"".join(parts)}</svg>'


def _event_table(events: Sequence[Event]) -> str:
    """How often each rule began, how long in all, and in which videos most."""
    by_rule: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "end":
            by_rule.setdefault(event.rule, []).append(event)
    if not by_rule:
        return ""
    rows = []
    for rule, ended in by_rule.items():
        seconds, videos = sum(event.duration_s or 0.0 for event in ended), Counter(event.source for event in ended)
        most = ", ".join(f"{Path(path).name} ({count})" for path, count in videos.most_common(3))
        cells = [rule, ended[0].text, str(len(ended)), f"{seconds:.1f}", str(len(videos)), most]
        rows.append("".join(f"<td>{html.escape(cell.encode(errors='replace').decode())}</td>" for cell in cells))
    heads = ("event", "rule", "times", "seconds", "videos", "most often in")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<h2>Events</h2><table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _table(videos: Sequence[VideoSummary], colours: dict[str, str]) -> str:
    head = (
        "<tr><th>video</th><th>segments</th><th>frames</th><th>ms per frame</th><th>shares</th><th>problems</th></tr>"
    )
    return f"<table>{head}{''.join(_row(video, colours) for video in videos)}</table>"


def _row(video: VideoSummary, colours: dict[str, str]) -> str:
    cells: list[Any] = [
        html.escape(video.path.encode(errors="replace").decode()),
        f"{video.done} of {video.segments}",
        video.frames,
        f"{video.ms_per_frame:.1f}" if video.frames else "",
        _bar(video.shares, colours) if video.shares else "",
        html.escape("; ".join(video.problems).encode(errors="replace").decode()),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
