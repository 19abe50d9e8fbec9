"""Draw a result as a PNG chart."""

from __future__ import annotations

from collections.abc import Sequence
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
_PANEL_INCHES = (5.6, 4.2)
"""Width and height of one panel."""
_DPI = 110


def check_matplotlib() -> None:
    """Check before a long run that a chart can be drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature("the chart of --output", error.name, "bench") from error


def draw(result: dict[str, Any]) -> bytes:
    """Draw the chart and return it as PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    buffer = BytesIO()
    make_figure(result).savefig(buffer, format="png")
    return buffer.getvalue()


def make_figure(result: dict[str, Any]) -> Figure:
    """Draw the chart. Simulated measurements are hatched and labelled as simulated.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    panels = _panels(result)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure: Figure = Figure(
        figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1] + 0.5), dpi=_DPI, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    draw_panel = {"reading": _draw_reading, "fps": _draw_fps, "stages": _draw_stages, "latency": _draw_latency}
    for axis, (kind, panel_rows) in zip(axes, panels, strict=False):
        draw_panel[kind](axis, panel_rows)
    _share_scale([axis for axis, (kind, _) in zip(axes, panels, strict=False) if kind == "reading"])
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
    """Images per second by number of workers: one group of bars for each number."""
    state = rows[0]["state"]
    decoders = list(dict.fromkeys(row["decoder"] for row in rows))
    workers = list(dict.fromkeys(str(row["workers"]) for row in rows))
    width = 0.8 / len(decoders)
    for index, decoder in enumerate(decoders):
        own = [row for row in rows if row["decoder"] == decoder]
        x = [workers.index(str(row["workers"])) + (index - (len(decoders) - 1) / 2) * width for row in own]
        _bars(axis, x, width, [row[state]["images_per_s"] for row in own], own, _DECODERS.get(decoder, _OTHER), decoder)
    axis.set_xticks(range(len(workers)), workers)
    axis.set_xlabel("workers; auto: the profile for the kind of storage")
    axis.set_ylabel("images / s")
    warning = "" if all(row[state]["as_said"] for row in rows) else f", NOT {state}"
    axis.set_title(f"reading, {row_label(rows[0])}, {state}{warning}", fontsize=10)
    _add_headroom(axis)
    axis.legend(fontsize=8, ncols=2, loc="upper left")


def _draw_fps(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Frames per second of the whole pipeline, with the limit that the processor sets."""
    names = _names(rows)
    for x, row in enumerate(rows):
        _bars(axis, [x], 0.6, [row["fps"]], [row], _STAGES.get(row["bottleneck"], _OTHER), None)
        note = f"{row['fps']['median']:.1f}\n{row['bottleneck']}"
        axis.annotate(
            note,
            (x, row["fps"]["median"] / 2),  # the limit is above the bar, often close to it
            ha="center",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )
        if row["limit_fps"]:
            axis.hlines(row["limit_fps"], x - 0.4, x + 0.4, colors="black", linestyles="dashed")
            axis.annotate(
                f"limit {row['limit_fps']:.1f}",
                (x, max(row["limit_fps"], row["fps"]["q3"])),
                ha="center",
                va="bottom",
                fontsize=7,
                xytext=(0, 2),
                textcoords="offset points",
            )
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_ylabel("frames / s")
    axis.set_title("the whole pipeline; fps and bottleneck in the bar", fontsize=10)
    _add_headroom(axis)


def _draw_stages(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Work per frame in each stage: median, and error bars up to the 95th percentile."""
    stages = [stage for stage in rows[0]["stages"] if stage != "null"]
    width = 0.8 / len(stages)
    for index, stage in enumerate(stages):
        x = [group + (index - (len(stages) - 1) / 2) * width for group in range(len(rows))]
        medians = [row["stages"][stage]["p50_ms"] for row in rows]
        upper = [max(0.0, row["stages"][stage]["p95_ms"] - row["stages"][stage]["p50_ms"]) for row in rows]
        bars = axis.bar(
            x,
            medians,
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
    axis.set_title("work per frame", fontsize=10)
    _add_headroom(axis)
    axis.legend(fontsize=8, ncols=2, loc="upper left")


def _draw_latency(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """From the source's hand to the last sink's, at the clip's own frame rate."""
    width = 0.25
    for index, (key, colour) in enumerate((("p50", "#9ecae1"), ("p95", "#4292c6"), ("p99", "#08519c"))):
        x = [group + (index - 1) * width for group in range(len(rows))]
        _bars(axis, x, width, [row["latency_ms"][key] for row in rows], rows, colour, key)
    names = [
        f"{name}\n{row['dropped']} of {row['dropped'] + row['frames']} dropped"
        for name, row in zip(_names(rows), rows, strict=True)
    ]
    axis.set_xticks(range(len(rows)), names, fontsize=8)
    axis.set_ylabel("ms")
    axis.set_title("latency, live", fontsize=10)
    _add_headroom(axis)
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
    """Draw medians with quartiles as error bars."""
    medians = [spread["median"] for spread in spreads]
    errors = [
        [spread["median"] - spread["q1"] for spread in spreads],
        [spread["q3"] - spread["median"] for spread in spreads],
    ]
    bars = axis.bar(x, medians, width, yerr=errors, capsize=2, color=colour, edgecolor="white", label=label)
    _hatch(bars, rows)


def _hatch(bars: Any, rows: list[dict[str, Any]]) -> None:
    for bar, row in zip(bars, rows, strict=True):
        if row["simulated"]:
            bar.set_hatch("///")


def _share_scale(axes: Sequence[Axes]) -> None:
    """Use one scale, so that storages, cold and warm, can be compared by eye."""
    for axis in axes:
        axis.set_ylim(0, max(other.get_ylim()[1] for other in axes))


def _add_headroom(axis: Axes) -> None:
    """Leave room above the bars for the legend and annotations."""
    axis.set_ylim(0, 1.28 * axis.get_ylim()[1])
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
