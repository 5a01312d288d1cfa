"""`autointerp status` and `autointerp retry`: how far a run is, and once more for what failed.

Words flow in, one library call each; tables, JSON and an exit code flow out.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autointerp.cli.options import (
    AnswerTokens,
    AsJson,
    BaseUrl,
    BudgetTokens,
    BudgetUsd,
    Cache,
    ExtraBody,
    InFlight,
    Llm,
    MostFailed,
    Probe,
    ReasoningEffort,
    Run,
    Timeout,
    given_settings,
)
from autointerp.cli.say import make_console, say_json
from autointerp.errors import UsageError

if TYPE_CHECKING:
    from autointerp.status import DictionaryStatus, RunStatus, StageStatus


def status(run: Run, as_json: AsJson = False) -> None:
    """How far a run is: what is done, skipped, failed and why, and what is left. Works beside a running one."""
    from autointerp import api

    seen = api.read_status(run)
    _show(run, seen)
    if as_json:
        say_json(seen.model_dump())


def retry(
    context: typer.Context,
    run: Run,
    failed: Annotated[bool, typer.Option("--failed", help="What ended Failed, and scores that lost windows.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Also what was refused.")] = False,
    llm: Llm = None,
    base_url: BaseUrl = None,
    cache: Cache = None,
    budget_usd: BudgetUsd = None,
    budget_tokens: BudgetTokens = None,
    most_failed: MostFailed = None,
    in_flight: InFlight = None,
    timeout: Timeout = None,
    reasoning_effort: ReasoningEffort = None,
    answer_tokens: AnswerTokens = None,
    extra_body: ExtraBody = None,
    probe: Probe = False,
    as_json: AsJson = False,
) -> None:
    """Ask again what failed, and only that; every answer that could be used is kept and free."""
    from autointerp import api
    from autointerp.cli.progress import listening_anew
    from autointerp.cli.show import show_summaries

    if not failed:
        raise UsageError("say what to try again: --failed, or --failed --refused for refusals too")
    with listening_anew(run, probe=probe) as listener:
        summaries = api.retry(run, listener, refused=refused, changes=given_settings(context))
    show_summaries(summaries)
    if as_json:
        found = {i: s.model_dump() for i, s in summaries.items()}
        say_json({"out": str(run), "dictionaries": found})


def _show(run: Path, seen: "RunStatus") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("dictionary", overflow="fold")
    table.add_column("stage")
    for name in ("done", "skipped", "failed", "left"):
        table.add_column(name, justify="right")
    table.add_column("why", overflow="fold")
    for name, dictionary in seen.dictionaries.items():
        if not dictionary.stages:
            table.add_row(name, "harvest", _harvested(dictionary), "-", "-", _left(dictionary), "")
        for i, (stage, counts) in enumerate(dictionary.stages.items()):
            numbers = (counts.done, counts.skipped, sum(counts.failed.values()), counts.open)
            table.add_row("" if i else name, stage, *map(str, numbers), _why(counts))
    spent = Table(box=SIMPLE_HEAD, pad_edge=False)
    spent.add_column("spent on")
    for name in ("calls", "from the cache", "tokens in", "of them cached", "tokens out", "USD"):
        spent.add_column(name, justify="right")
    for row in seen.spending:
        usage = row.paid
        sums = (usage.calls, row.reused, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
        dollars = "unknown" if row.usd is None else f"{row.usd:.4f}"
        spent.add_row(row.stage, *(f"{count:,}" for count in sums), dollars)
    console = make_console()
    console.print(table)
    if seen.spending:
        console.print(spent)
    for line in _lines(run, seen):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _harvested(dictionary: "DictionaryStatus") -> str:
    if dictionary.harvested:
        return "yes"
    return "no" if dictionary.tokens_done is None else f"{dictionary.tokens_done:,} tokens"


def _left(dictionary: "DictionaryStatus") -> str:
    if dictionary.tokens_done is None or dictionary.tokens is None:
        return "-"
    return f"{dictionary.tokens - dictionary.tokens_done:,} tokens"


def _why(counts: "StageStatus") -> str:
    return ", ".join(f"{reason} {n}" for reason, n in counts.failed.items())


def _lines(run: Path, seen: "RunStatus") -> list[str]:
    lines = []
    for name, dictionary in seen.dictionaries.items():
        if dictionary.lost_windows:
            lost = ", ".join(f"{reason} {n}" for reason, n in dictionary.lost_windows.items())
            lines.append(f"{name}: features with a score that lost windows: {lost}")
    for one in seen.underway:
        part = f"part {one.part}: " if one.part else ""
        far = f" {one.done:,} of {one.total:,}, {one.total - one.done:,} left" if one.total > 1 else ""
        lines.append(f"{part}now: {one.stage}{far}")
    if seen.running:
        lines.append(f"being written by {seen.running}")
    elif seen.finished:
        lines.append("finished")
    else:
        lines += [f"last end: {seen.stopped}"] if seen.stopped else []
        lines.append(f"not finished: `autointerp score {run}` goes on (`autointerp run` where the harvest is missing)")
    if any(counts.failed for d in seen.dictionaries.values() for counts in d.stages.values()):
        lines.append(f"what failed is asked again by `autointerp retry {run} --failed`")
    return lines
