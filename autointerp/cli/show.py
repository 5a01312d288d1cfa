"""Tables on standard output: a run's summaries, a checkup's findings.

Summaries flow in; text flows out.
"""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from autointerp.interpret.summary import DictionarySummary
from autointerp.records import Finding


def show_summaries(summaries: Mapping[str, DictionarySummary]) -> None:
    """One line a dictionary: how good, how sure, against which controls, and what has no score."""
    protocol = next(iter(summaries.values())).protocol
    table = Table(title=f"Spearman, protocol {protocol}; means count failed explanations as 0", title_justify="left")
    table.add_column("dictionary")
    for name in ("role", "features", "scored", "mean [95 %]", "look-up", "shuffled", "no score"):
        table.add_column(name, justify="left" if name in ("role", "no score") else "right")
    for name, s in summaries.items():
        table.add_row(
            name,
            s.role,
            str(s.n_features),
            str(s.scored),
            f"{_number(s.spearman.counted_mean)} [{_number(s.spearman.low)}, {_number(s.spearman.high)}]",
            _number(s.lookup.counted_mean),
            _number(s.shuffled.counted_mean),
            ", ".join(f"{n} {r}" for part in (s.undefined, s.failed, s.skipped) for r, n in part.items()) or "-",
        )
    Console(width=None).print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def show_findings(findings: Sequence[Finding]) -> None:
    """One line a finding, with the fix where something is wrong."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    console = Console()
    for finding in findings:
        fix = f" → {finding.fix}" if finding.fix else ""
        console.print(f"[{colours[finding.state]}]{finding.state:4}[/] ", end="")
        console.print(f"{finding.what}: {finding.found}{fix}", highlight=False, markup=False)
