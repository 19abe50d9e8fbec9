"""A result beside an older one: what became faster or slower, and whether any of it by more than it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtseg.bench.report import mark
from rtseg.bench.storage.simulated_disk import DiskModel
from rtseg.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Change", "check_comparable", "compare", "regressions", "show_changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both results."""

    name: str
    unit: str
    old: float
    new: float
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """New by old."""
        return self.new / self.old

    @property
    def loss(self) -> float:
        """By how many percent it became worse; below 0 where it became better."""
        return 100 * (1 - self.ratio if self.more_is_better else self.ratio - 1)


def check_comparable(old: dict[str, Any], kind: str, workload: dict[str, Any]) -> None:
    """Before anything is measured: see that the same work was done.

    Raises:
        OptionError: ``old`` is of another kind or of other work.
    """
    if old["kind"] != kind:
        raise OptionError(f"--compare: that result is of {old['kind']}, this will be of {kind}: give another")
    for key in sorted({*old["workload"], *workload}):
        before, now = old["workload"].get(key), workload.get(key)
        if before != now:
            raise OptionError(f"--compare: {key} was {before}, now it is {now}: measure the same work")
    if old["disk_model"] not in (None, DiskModel().facts()):
        raise OptionError("--compare: that result simulated another model of a disk: measure it anew")


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """The figures that both have, in the order of the new.

    Raises:
        OptionError: there are none.
    """
    before = {change.name: change for change in _figures(old)}
    found = [
        Change(now.name, now.unit, before[now.name].new, now.new, now.more_is_better)
        for now in _figures(new)
        if now.name in before and before[now.name].new > 0
    ]
    if not found:
        raise OptionError("--compare: the two results have no figure in common: measure the same storages and backends")
    return found


def _figures(result: dict[str, Any]) -> list[Change]:
    """All that is to be compared, with the same value as old and new."""
    found = []

    def add(name: str, unit: str, value: float, *, more: bool = True) -> None:
        found.append(Change(name, unit, value, value, more))

    for row in result["reading"]:
        for state in ("cold", "warm"):
            if row[state]:
                name = f"{mark(row)}, {row['decoder']}, workers {row['workers']}, {state}"
                add(name, "images/s", row[state]["images_per_s"]["median"])
    for row in result["cache"]:
        for which in ("first", "second"):
            name = f"{mark(row)}, --ssd-cache, {which} pass"
            add(name, "images/s", row[which]["images_per_s"]["median"])
    for row in result["pipeline"]:
        name = f"{mark(row)}, {row['asked_for']}, {row['state']}"
        add(f"{name}: rate", "fps", row["fps"]["median"])
        if row["state"] == "live":  # elsewhere frames only wait in queues
            add(f"{name}: latency p95", "ms", row["latency_ms"]["p95"]["median"], more=False)
    return found


def regressions(changes: list[Change], percent: float) -> list[Change]:
    """Those that became worse by more than ``percent``."""
    return [change for change in changes if change.loss > percent]


def show_changes(old: dict[str, Any], new: dict[str, Any], changes: list[Change], console: Console) -> None:
    """Print the ratios, and what else is not as it was."""
    from rich.table import Table

    table = Table(title="new against old", title_justify="left")
    table.add_column("figure")
    for name in ("old", "new", "ratio"):
        table.add_column(name, justify="right")
    for change in changes:
        table.add_row(
            change.name, f"{change.old:.1f} {change.unit}", f"{change.new:.1f} {change.unit}", f"{change.ratio:.3f}"
        )
    console.print(table)
    for key in ("processor", "cores", "system"):
        before, now = old["machine"][key], new["machine"][key]
        if before != now:
            console.print(f"another machine: {key} was {before}, now it is {now}", soft_wrap=True)
    if not (old["complete"] and new["complete"]):
        console.print("one of the two was stopped before its end", soft_wrap=True)
