"""A result as a PNG."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from rtseg.bench.report import row_label
from rtseg.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_matplotlib", "draw", "make_figure"]

_DECODERS = {"cv2": "#1f77b4", "pil": "#ff7f0e", "turbojpeg": "#2ca02c", "torchvision": "#9467bd"}
_STAGES = {"read": "#4c78a8", "prepare": "#f58518", "infer": "#54a24b", "render": "#b279a2", "null": "#9d9da1"}
_OTHER = "#7f7f7f"
_PANEL = (5.6, 4.2)
"""Width and height, in inches."""
_DPI = 110


def check_matplotlib() -> None:
    """Find out before a long run whether there can be a chart.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra.of("the chart of --output", error.name, "bench") from error


def draw(result: dict[str, Any]) -> bytes:
    """The chart, as the bytes of a PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    buffer = BytesIO()
    make_figure(result).savefig(buffer, format="png")
    return buffer.getvalue()


def make_figure(result: dict[str, Any]) -> Figure:
    """The chart. Simulated figures are hatched, and said to be simulated.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    panels = _panels(result)
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure: Figure = Figure(figsize=(columns * _PANEL[0], lines * _PANEL[1] + 0.5), dpi=_DPI, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, (what, rows) in zip(axes, panels, strict=False):
        {"reading": _draw_reading, "fps": _draw_fps, "stages": _draw_stages, "latency": _draw_latency}[what](axis, rows)
    _share_scale(axis for axis, (what, _) in zip(axes, panels, strict=False) if what == "reading")
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(_title(result), fontsize=9)
    return figure


def _panels(result: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    panels = []
    labels = dict.fromkeys(row["storage"] for row in result["reading"])
    for state in ("cold", "warm"):
        for label in labels:
            rows = [row for row in result["reading"] if row["storage"] == label and row[state]]
            if rows:
                panels.append(("reading", [row | {"state": state} for row in rows]))
    if result["pipeline"]:
        panels += [("fps", result["pipeline"]), ("stages", result["pipeline"])]
        live = [row for row in result["pipeline"] if row["state"] == "live"]
        if live:
            panels.append(("latency", live))
    return panels or [("fps", [])]


def _title(result: dict[str, Any]) -> str:
    machine, images = result["machine"], result["images"]
    first = f"{machine['processor']}, {machine['cores']} cores; rtseg {result['versions']['rtseg']} {result['commit']}"
    if images is None:
        return first
    size = "x".join(map(str, images["first"].get("size", ())))
    return f"{first}\n{images['images']} images {size} {' '.join(images['formats'])}"


def _draw_reading(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Images a second over the number of workers, a group of bars for each."""
    state = rows[0]["state"]
    decoders = list(dict.fromkeys(row["decoder"] for row in rows))
    workers = list(dict.fromkeys(str(row["workers"]) for row in rows))
    width = 0.8 / len(decoders)
    for place, decoder in enumerate(decoders):
        own = [row for row in rows if row["decoder"] == decoder]
        x = [workers.index(str(row["workers"])) + (place - (len(decoders) - 1) / 2) * width for row in own]
        _bars(axis, x, width, [row[state]["images_per_s"] for row in own], own, _DECODERS.get(decoder, _OTHER), decoder)
    axis.set_xticks(range(len(workers)), workers)
    axis.set_xlabel("workers; auto: the profile that follows from the storage")
    axis.set_ylabel("images / s")
    missed = "" if all(row[state]["as_said"] for row in rows) else f", NOT {state}"
    axis.set_title(f"reading, {row_label(rows[0])}, {state}{missed}", fontsize=10)
    _make_room(axis)
    axis.legend(fontsize=8, ncols=2, loc="upper left")


def _draw_fps(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Frames a second of the whole pipeline, with the limit of the processor."""
    names = _names(rows)
    for place, row in enumerate(rows):
        _bars(axis, [place], 0.6, [row["fps"]], [row], _STAGES.get(row["bottleneck"], _OTHER), None)
        note = f"{row['fps']['median']:.1f}\n{row['bottleneck']}"
        axis.annotate(
            note,
            (place, row["fps"]["median"] / 2),  # above the bar stands the limit, often close to it
            ha="center",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )
        if row["limit_fps"]:
            axis.hlines(row["limit_fps"], place - 0.4, place + 0.4, colors="black", linestyles="dashed")
            axis.annotate(
                f"limit {row['limit_fps']:.1f}",
                (place, max(row["limit_fps"], row["fps"]["q3"])),
                ha="center",
                va="bottom",
                fontsize=7,
                xytext=(0, 2),
                textcoords="offset points",
            )
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_ylabel("frames / s")
    axis.set_title("the whole pipeline; figure and bottleneck in the bar", fontsize=10)
    _make_room(axis)


def _draw_stages(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Work on a frame in each stage: median, and up to the 95th percentile."""
    stages = [stage for stage in rows[0]["stages"] if stage != "null"]
    width = 0.8 / len(stages)
    for place, stage in enumerate(stages):
        x = [number + (place - (len(stages) - 1) / 2) * width for number in range(len(rows))]
        middle = [row["stages"][stage]["p50_ms"] for row in rows]
        upper = [max(0.0, row["stages"][stage]["p95_ms"] - row["stages"][stage]["p50_ms"]) for row in rows]
        bars = axis.bar(
            x,
            middle,
            width,
            yerr=[[0.0] * len(rows), upper],
            capsize=2,
            color=_STAGES.get(stage, _OTHER),
            edgecolor="white",
            label=stage,
        )
        _hatch(bars, rows)
    axis.set_xticks(range(len(rows)), _names(rows), fontsize=8)
    axis.set_ylabel("ms, p50 up to p95")
    axis.set_title("work on a frame", fontsize=10)
    _make_room(axis)
    axis.legend(fontsize=8, ncols=2, loc="upper left")


def _draw_latency(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """From the source's hand to the last sink's, at the clip's own frame rate."""
    width = 0.25
    for place, (key, colour) in enumerate((("p50", "#9ecae1"), ("p95", "#4292c6"), ("p99", "#08519c"))):
        x = [number + (place - 1) * width for number in range(len(rows))]
        _bars(axis, x, width, [row["latency_ms"][key] for row in rows], rows, colour, key)
    names = [
        f"{name}\n{row['dropped']} of {row['dropped'] + row['frames']} dropped"
        for name, row in zip(_names(rows), rows, strict=True)
    ]
    axis.set_xticks(range(len(rows)), names, fontsize=8)
    axis.set_ylabel("ms")
    axis.set_title("latency, live", fontsize=10)
    _make_room(axis)
    axis.legend(fontsize=8, ncols=3, loc="upper left")


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['storage'] or row['backend']}{' (simulated)' if row['simulated'] else ''}\n{row['state']}"
        for row in rows
    ]


def _bars(
    axis: Axes,
    x: list[float],
    width: float,
    spreads: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    colour: str,
    label: str | None,
) -> None:
    """Medians with quartiles."""
    middle = [found["median"] for found in spreads]
    ranges = [
        [found["median"] - found["q1"] for found in spreads],
        [found["q3"] - found["median"] for found in spreads],
    ]
    bars = axis.bar(x, middle, width, yerr=ranges, capsize=2, color=colour, edgecolor="white", label=label)
    _hatch(bars, rows)


def _hatch(bars: Any, rows: list[dict[str, Any]]) -> None:
    for bar, row in zip(bars, rows, strict=True):
        if row["simulated"]:
            bar.set_hatch("///")


def _share_scale(axes: Iterable[Axes]) -> None:
    """Storages, cold and warm, are to be compared by eye."""
    found = list(axes)
    for axis in found:
        axis.set_ylim(0, max(other.get_ylim()[1] for other in found))


def _make_room(axis: Axes) -> None:
    """For legend and figures above the bars."""
    axis.set_ylim(0, 1.28 * axis.get_ylim()[1])
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
