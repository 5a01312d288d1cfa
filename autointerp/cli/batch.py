"""`autointerp batch`: requests into files, answers out of files, or both through a hosted batch endpoint.

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
    Explainer,
    ExtraBody,
    Features,
    Llm,
    Protocol,
    ReasoningEffort,
    Refine,
    Run,
    Simulator,
    Stop,
    Timeout,
    Windows,
    given_settings,
)
from autointerp.cli.say import make_console, say, say_json

if TYPE_CHECKING:
    from autointerp.batch_import import Imported

app = typer.Typer(name="batch", help="Ask in batches, at half the price or without a connection.", no_args_is_help=True)


@app.command("export")
def export_requests(
    context: typer.Context,
    run: Run,
    out: Annotated[Path, typer.Option(help="The file to write; OUT-001.jsonl and so on where one is too small.")],
    protocol: Protocol = None,
    explainer: Explainer = None,
    simulator: Simulator = None,
    windows: Windows = None,
    stop: Stop = None,
    refine: Refine = None,
    features: Features = None,
    llm: Llm = None,
    base_url: BaseUrl = None,
    cache: Cache = None,
    reasoning_effort: ReasoningEffort = None,
    answer_tokens: AnswerTokens = None,
    extra_body: ExtraBody = None,
    as_json: AsJson = False,
) -> None:
    """Write the requests that can be asked now in OpenAI's batch file format. Needs no network and no key."""
    from autointerp import api
    from autointerp.cli.progress import listening

    changes = {key: value for key, value in given_settings(context).items() if key != "out"}
    with listening() as listener:
        done = api.export_requests(run, out, changes, listener)
    if not done.requests:
        say(f"nothing is pending; next: autointerp score {run} --offline")
    for path in done.files:
        say(path)
    if done.requests:
        stages = ", ".join(f"{stage} {n}" for stage, n in done.stages.items())
        say(f"{done.requests} requests ({stages}); next: have them answered, then autointerp batch import {run} FILE")
    if as_json:
        say_json({"files": [str(path) for path in done.files], "stages": done.stages})


@app.command("import")
def import_answers(
    run: Run,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Answer files: output and error files alike.")],
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Put every line of answer files into the cache, or say what is wrong with it. Needs no network and no key."""
    from autointerp import api

    done = api.import_answers(run, files, cache)
    _show(done)
    say(f"next: autointerp score {run} --offline, or autointerp batch export {run} for what is left")
    if as_json:
        say_json(done.model_dump())


@app.command("run")
def run_batches(
    context: typer.Context,
    run: Run,
    protocol: Protocol = None,
    explainer: Explainer = None,
    simulator: Simulator = None,
    windows: Windows = None,
    stop: Stop = None,
    refine: Refine = None,
    features: Features = None,
    llm: Llm = None,
    base_url: BaseUrl = None,
    cache: Cache = None,
    budget_usd: BudgetUsd = None,
    budget_tokens: BudgetTokens = None,
    timeout: Timeout = None,
    reasoning_effort: ReasoningEffort = None,
    answer_tokens: AnswerTokens = None,
    extra_body: ExtraBody = None,
    poll: Annotated[
        float, typer.Option(min=0.01, metavar="S", help="Seconds between two looks at the batches.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Explain and score through the endpoint's batches, stage by stage. Stopped anywhere, the same command goes on."""
    from autointerp import api
    from autointerp.cli.progress import listening
    from autointerp.cli.show import show_summaries

    with listening() as listener:
        summaries = api.run_batches(run, given_settings(context), listener, poll_s=poll)
    show_summaries(summaries)
    if as_json:
        found = {i: s.model_dump() for i, s in summaries.items()}
        say_json({"out": str(run), "dictionaries": found})


_MEANINGS = {
    "answered": "put into the cache",
    "refused": "of these, refused by the model or a filter",
    "known": "for requests that had their answer already",
    "foreign": "for requests that this run never exported",
    "unreadable": "that are no answer at all",
    "in_another_form": "with a field that the endpoint refuses; the next export leaves it out",
}


def _show(done: "Imported") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("lines", justify="right")
    table.add_column("")
    for name, meaning in _MEANINGS.items():
        if n := getattr(done, name):
            table.add_row(str(n), meaning)
    for reason, n in done.failed.items():
        table.add_row(str(n), f"without an answer: {reason}")
    console = make_console()
    console.print(table)
    if done.missing:
        say(f"{done.missing} exported requests are in no file so far")
    if done.given_up:
        say(f"{done.given_up} requests are given up and end as failed; `autointerp retry` asks them live")
