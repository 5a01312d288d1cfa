"""Tables on standard output: a run's summaries, a checkup's findings.

Summaries flow in; text flows out.
"""

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from autointerp.cli.say import make_console
from autointerp.interpret.summary import LEAST_FOR_INTERVAL, DictionarySummary, HeadlineMeans
from autointerp.records import Finding, Record
from autointerp.report.findings import tell_spending

WIDTH = 100
"""Columns of a table where standard output is no terminal."""


def show_summaries(summaries: Mapping[str, DictionarySummary]) -> None:
    """One line a dictionary: how good, how sure, against which controls; below it what is missing and why."""
    console = make_console()
    narrow = console.width < WIDTH  # of 80 columns six letters were left for a dictionary's name
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0) if narrow else (0, 1), show_edge=not narrow)
    table.add_column("dictionary", overflow="fold")
    for name in ("scored", "Spearman [95 %]", "null", "look-up", "bigram", "shuffled"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, s in summaries.items():
        table.add_row(
            name,
            f"{s.scored} of {s.n_features}",
            _mean(s.spearman),
            _number(s.null_threshold),
            *(_number(means.counted_mean) for means in (s.lookup, s.bigram, s.shuffled)),
        )
    console.print(table)
    for line in (*_missing(summaries), *tell_spending(summaries), _explained(list(summaries.values()))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _missing(summaries: Mapping[str, DictionarySummary]) -> Iterator[str]:
    """What has no score, which controls were not measured, and which dictionaries would be controls."""
    for name, s in summaries.items():
        lacking = [f"{n} {reason}" for part in (s.undefined, s.failed, s.skipped) for reason, n in part.items()]
        if lacking:
            yield f"{name} without a score: {', '.join(lacking)}"
        if s.spearman.counted_mean is not None and s.spearman.low is None:
            yield f"{name}: no interval over {s.spearman.n} features; {LEAST_FOR_INTERVAL} are the least"
        measured = {"look-up": s.lookup, "bigram": s.bigram, "position": s.position, "shuffled": s.shuffled}
        absent = [control for control, means in measured.items() if not means.n]
        if absent and s.spearman.n:
            yield f"{name} without these controls: {', '.join(absent)} (the report says why, feature by feature)"
        elif s.shuffled.n < s.spearman.n:
            yield f"{name}: shuffled is the mean of {s.shuffled.n} features drawn, the others are of {s.spearman.n}"
    roles = {role: [name for name, s in summaries.items() if s.role == role] for role in ("control", "basis")}
    named = [f"{role}: {', '.join(names)}" for role, names in roles.items() if names]
    if named:
        yield f"Dictionaries for comparison - {'; '.join(named)}"
    if not roles["control"]:
        yield (
            "Missing control: a dictionary of random directions (--dictionary random@ID), or one trained on the "
            'model with redrawn weights (role = "control")'
        )


def _explained(summaries: Sequence[DictionarySummary]) -> str:
    first = summaries[0]
    windows = "the first {} windows of every feature" if first.protocol.endswith("-ci") else "{} windows a feature"
    return (
        f"Protocol {first.protocol}, {windows.format(first.n_windows)}. Means are over features, intervals by "
        "bootstrap over them; an explanation that found no pattern or predicts one level everywhere counts as 0. "
        "null: mean 95 % point of the score with the predictions permuted over the windows."
    )


def _mean(means: HeadlineMeans) -> str:
    if means.low is None or means.high is None:
        return _number(means.counted_mean)
    return f"{_number(means.counted_mean)} [{_number(means.low)}, {_number(means.high)}]"


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
    make_console().print(table, highlight=False, markup=False)


def without_corpus(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of a checkup that was given no corpus: Python's documentation stood in, whose size says nothing."""
    told = Finding(
        "ok", "corpus", "none was named, so Python's own documentation stands in", "name yours with --corpus"
    )
    return [told if one.what == "corpus" else one for one in findings if one.what != "disk forecast"]


def show_findings(findings: Sequence[Finding]) -> None:
    """One line a finding, with the fix where something is wrong."""
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    console = make_console()
    for finding in findings:
        fix = f" → {finding.fix}" if finding.fix else ""
        console.print(f"[{colours[finding.state]}]{finding.state:4}[/] ", end="")
        console.print(f"{finding.what}: {finding.found}{fix}", highlight=False, markup=False)
