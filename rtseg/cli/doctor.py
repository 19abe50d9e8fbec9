"""``rtseg doctor``: what this machine has for rtseg."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from rtseg.cli.messages import MessageOptions, open_console

__all__ = ["doctor"]

EXAMPLES = ("rtseg doctor", "rtseg doctor --report machine.json")


def doctor(
    messages: MessageOptions,
    report: Path | None = typer.Option(
        None,
        metavar="FILE.json",
        help="Write everything to this JSON file. A dash (-) prints the JSON instead of the table.",
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a report that exists."),
) -> None:
    """Look at processor, GPU, runtimes, cameras, display, disks and codecs, and say what to install for more."""
    from rich.table import Table

    from rtseg.app import doctor as doctor_
    from rtseg.app.existing_report import locked_results
    from rtseg.system.atomic_files import write_text

    file = None if str(report) == "-" else report
    with locked_results(file, overwrite=overwrite):
        findings = doctor_.examine()
        text = json.dumps(doctor_.as_json(findings), indent=2, ensure_ascii=False)
        if file is not None:
            write_text(file, text + "\n")
    if str(report) == "-":
        print(text)
        return
    console = open_console()
    table = Table(box=None, show_header=False, pad_edge=False)
    topic = ""
    for finding in findings:
        table.add_row(
            finding.topic if finding.topic != topic else "",
            finding.name,
            finding.text,
            style=None if finding.good else "yellow",
        )
        topic = finding.topic
    console.print(table, soft_wrap=False)
    remedies = list(dict.fromkeys(finding.remedy for finding in findings if finding.remedy))
    if remedies:
        console.print("\nfor more:")
    for remedy in remedies:
        console.print(f"  {remedy}")
