"""Compare a result with an older one: what became faster or slower, and by more than allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtseg.bench.report import row_label
from rtseg.bench.storage.simulated_disk import DiskModel
from rtseg.errors import OptionError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Change", "check_comparable", "compare", "regressions", "show_changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One measurement in both results."""

    name: str
    unit: str
    old: float
    new: float
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """New / old."""
        return self.new / self.old

    @property
    def loss(self) -> float:
        """By how many percent it became worse; negative if it became better."""
        return 100 * (1 - self.ratio if self.more_is_better else self.ratio - 1)


def check_comparable(old: dict[str, Any], kind: str, workload: dict[str, Any]) -> None:
    """Check, before anything is measured, that an older result has the same kind and workload.

    Raises:
        OptionError: it has not.
    """
    if old["kind"] != kind:
        raise OptionError(f"--compare: the older result measures {old['kind']}, this one {kind}: give another")
    for key in sorted({*old["workload"], *workload}):
        before, now = old["workload"].get(key), workload.get(key)
        if before != now:
            raise OptionError(f"--compare: {key} was {before} and is {now} now: measure the same work")
    if old["disk_model"] not in (None, DiskModel().facts()):
        raise OptionError("--compare: the older result simulated another disk model: measure it again")


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return the measurements that both results have, in the order of the new one.

    Raises:
        OptionError: there are none.
    """
    before = {change.name: change for change in _measurements(old)}
    changes = [
        Change(now.name, now.unit, before[now.name].new, now.new, now.more_is_better)
        for now in _measurements(new)
        if now.name in before and before[now.name].new > 0
    ]
    if not changes:
        raise OptionError("--compare: the two results have nothing in common: measure the same storages and backends")
    return changes


def _measurements(result: dict[str, Any]) -> list[Change]:
    """Return everything that can be compared, with the value as both old and new."""
    changes = []

    def add(name: str, unit: str, value: float, *, more: bool = True) -> None:
        changes.append(Change(name, unit, value, value, more))

    for row in result["reading"]:
        for state in ("cold", "warm"):
            if row[state]:
                name = f"{row_label(row)}, {row['decoder']}, workers {row['workers']}, {state}"
                add(name, "images/s", row[state]["images_per_s"]["median"])
    for row in result["cache"]:
        for number in ("first", "second"):
            name = f"{row_label(row)}, --ssd-cache, {number} pass"
            add(name, "images/s", row[number]["images_per_s"]["median"])
    for row in result["pipeline"]:
        name = f"{row_label(row)}, {row['asked_for']}, {row['state']}"
        add(f"{name}: rate", "fps", row["fps"]["median"])
        if row["state"] == "live":  # otherwise the latency is just waiting time in full queues
            add(f"{name}: latency p95", "ms", row["latency_ms"]["p95"]["median"], more=False)
    return changes


def regressions(changes: list[Change], percent: float) -> list[Change]:
    """Return the measurements that became worse by more than ``percent``."""
    return [change for change in changes if change.loss > percent]


def show_changes(old: dict[str, Any], new: dict[str, Any], changes: list[Change], console: Console) -> None:
    """Print the ratios, and differences between the machines."""
    from rich.table import Table

    table = Table(title="new against old", title_justify="left")
    table.add_column("measurement")
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
            console.print(f"different machine: {key} was {before} and is {now} now", soft_wrap=True)
    if not (old["complete"] and new["complete"]):
        console.print("one of the two runs was stopped early", soft_wrap=True)
