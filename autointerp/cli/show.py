"""Tables on standard output: a run's summaries, a checkup's findings.

Summaries flow in; text flows out.
"""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from autointerp.interpret.summary import DictionarySummary
from autointerp.records import Finding, Record


def show_summaries(summaries: Mapping[str, DictionarySummary]) -> None:
    """One line a dictionary: how good, how sure, against which controls; below it what has no score and why."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("dictionary", overflow="fold")
    for name in ("scored", "Spearman [95 %]", "look-up", "shuffled"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, s in summaries.items():
        table.add_row(
            name,
            f"{s.scored} of {s.n_features}",
            f"{_number(s.spearman.counted_mean)} [{_number(s.spearman.low)}, {_number(s.spearman.high)}]",
            _number(s.lookup.counted_mean),
            _number(s.shuffled.counted_mean),
        )
    console = Console()
    console.print(table)
    for name, s in summaries.items():
        lacking = [f"{n} {reason}" for part in (s.undefined, s.failed, s.skipped) for reason, n in part.items()]
        if lacking:
            console.print(f"{name} without a score: {', '.join(lacking)}", highlight=False, markup=False)
    protocol = next(iter(summaries.values())).protocol
    console.print(
        f"Protocol {protocol}. Means are over features; an explanation that found no pattern or predicts one level "
        "everywhere counts as 0.",
        highlight=False,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def show_inspection(seen: Record) -> None:
    """One line a fact, and one a note."""
    table = Table(box=None, show_header=False, pad_edge=False)
    facts = seen.model_dump()
    notes = facts.pop("notes")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), "not said" if value is None else str(value))
    for note in notes:
        table.add_row("note", note)
    Console().print(table, highlight=False, markup=False)


def show_findings(findings: Sequence[Finding]) -> None:
    """One line a finding, with the fix where something is wrong."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    console = Console()
    for finding in findings:
        fix = f" → {finding.fix}" if finding.fix else ""
        console.print(f"[{colours[finding.state]}]{finding.state:4}[/] ", end="")
        console.print(f"{finding.what}: {finding.found}{fix}", highlight=False, markup=False)
