"""The command line: a command parses, calls, prints.

Words flow in, one library call each; tables, JSON and an exit code flow out. Imports nothing heavy for `--help`.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autointerp.cli.batch import app as batch_app
from autointerp.cli.cache import app as cache_app
from autointerp.cli.compare import compare, show_comparison_of
from autointerp.cli.estimate import show_estimate
from autointerp.cli.inspect import inspect
from autointerp.cli.options import (
    AnswerTokens,
    AsJson,
    BaseUrl,
    BatchSize,
    BudgetTokens,
    BudgetUsd,
    Cache,
    Config,
    Context,
    Corpus,
    Demo,
    Device,
    Dictionaries,
    DryRun,
    Dtype,
    Explainer,
    ExtraBody,
    Features,
    HookPoint,
    InFlight,
    Llm,
    LossTokens,
    MaxNorm,
    Model,
    MostFailed,
    NTokens,
    Offline,
    Out,
    Probe,
    Protocol,
    ReasoningEffort,
    Refine,
    Run,
    Seed,
    Shard,
    Simulator,
    Stop,
    Threads,
    Timeout,
    Windows,
    given_settings,
)
from autointerp.cli.progress import listening_anew, say_starting, stop_gently
from autointerp.cli.records import export_records, import_records
from autointerp.cli.say import open_streams, say, say_error, say_json
from autointerp.cli.selftest import selftest
from autointerp.cli.status import retry, status
from autointerp.cli.testserver import rehearse
from autointerp.errors import AutointerpError, StoppedError, UsageError
from autointerp.files import DISK_ADVICE, disk_error

if TYPE_CHECKING:
    from autointerp.config import RunConfig
    from autointerp.interpretation import Summaries

app = typer.Typer(
    name="autointerp",
    help="Explain the features of a sparse autoencoder, score the explanations, and trust the scores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    context: typer.Context,
    config: Config = None,
    model: Model = None,
    hook_point: HookPoint = None,
    dictionary: Dictionaries = None,
    corpus: Corpus = None,
    n_tokens: NTokens = None,
    context_tokens: Context = None,
    batch_size: BatchSize = None,
    max_norm: MaxNorm = None,
    loss_tokens: LossTokens = None,
    device: Device = None,
    dtype: Dtype = None,
    threads: Threads = None,
    features: Features = None,
    protocol: Protocol = None,
    explainer: Explainer = None,
    simulator: Simulator = None,
    windows: Windows = None,
    stop: Stop = None,
    refine: Refine = None,
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
    out: Out = None,
    seed: Seed = None,
    demo: Demo = False,
    probe: Probe = False,
    dry_run: DryRun = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Harvest, explain, score and report. Stopped anywhere, the same command goes on."""
    from autointerp import api

    settings = _settings(config, given_settings(context), dictionary, demo=demo)
    if dry_run:
        return show_estimate(api.estimate_run(settings), as_json=as_json)
    with listening_anew(settings.out, probe=probe) as listener:
        summaries = api.run(settings, listener, offline=offline)
    return _show_run(settings, summaries, compared=demo and len(settings.dictionary) > 1, as_json=as_json)


def _show_run(settings: "RunConfig", summaries: "Summaries", *, compared: bool, as_json: bool) -> None:
    """Its tables and where they stand, and how its dictionaries compare."""
    from autointerp.cli.show import show_summaries

    show_summaries(summaries)
    for name in ("summary.json", "report.html"):
        say(settings.out / name)
    if compared:
        show_comparison_of([str(settings.out)], "dictionary", False, None, settings.out)
    if as_json:
        _print_json({"out": str(settings.out), "dictionaries": {i: s.model_dump() for i, s in summaries.items()}})


@app.command()
def harvest(
    context: typer.Context,
    config: Config = None,
    model: Model = None,
    hook_point: HookPoint = None,
    dictionary: Dictionaries = None,
    corpus: Corpus = None,
    n_tokens: NTokens = None,
    context_tokens: Context = None,
    batch_size: BatchSize = None,
    max_norm: MaxNorm = None,
    loss_tokens: LossTokens = None,
    device: Device = None,
    dtype: Dtype = None,
    threads: Threads = None,
    out: Out = None,
    seed: Seed = None,
    shard: Shard = None,
    demo: Demo = False,
    repair: Annotated[bool, typer.Option("--repair", help="Make again what changed on disk, and only that.")] = False,
    as_json: AsJson = False,
) -> None:
    """The GPU side alone: tokens, events, statistics and facts. `explain` and `score` then need no torch."""
    from autointerp import api
    from autointerp.cli.progress import listening
    from autointerp.config import parse_part

    flags = given_settings(context)
    settings = _settings(config, flags, dictionary, demo=demo)
    part = parse_part(shard) if shard is not None else None
    if part is not None and repair:
        raise UsageError("--repair looks at all parts together; give it without --shard once no part is running")
    shards = {}
    with listening() as listener:
        if part is None:
            api.run_harvest(settings, listener, repair=repair)
        else:
            shards = api.run_harvest_part(settings, part, listener).shards
    say(settings.out / "harvest")
    if part is not None:
        say(f"part {part} is done; when all are, run the same without --shard to close the harvest")
    if as_json:
        done = {"shard": str(part), "shards": shards} if part is not None else {}
        _print_json({"out": str(settings.out), "dictionaries": [d.id for d in settings.dictionary], **done})


@app.command()
def explain(
    context: typer.Context,
    run: Run,
    protocol: Protocol = None,
    explainer: Explainer = None,
    simulator: Simulator = None,
    refine: Refine = None,
    features: Features = None,
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
    dry_run: DryRun = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Explain the features of a harvested run that lack an explanation."""
    from autointerp import api

    if dry_run:
        show_estimate(api.estimate_changes(run, given_settings(context), scoring=False), as_json=as_json)
        return
    with listening_anew(run, probe=probe) as listener:
        n = api.run_explain(run, given_settings(context), listener, offline=offline)
    say(f"{n} features have an explanation")
    if as_json:
        _print_json({"out": str(run), "explained": n})


@app.command()
def score(
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
    most_failed: MostFailed = None,
    in_flight: InFlight = None,
    timeout: Timeout = None,
    reasoning_effort: ReasoningEffort = None,
    answer_tokens: AnswerTokens = None,
    extra_body: ExtraBody = None,
    probe: Probe = False,
    dry_run: DryRun = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Score the features of a run that lack a score; pays only for what is missing."""
    from autointerp import api
    from autointerp.cli.show import show_summaries

    if dry_run:
        show_estimate(api.estimate_changes(run, given_settings(context)), as_json=as_json)
        return
    with listening_anew(run, probe=probe) as listener:
        summaries = api.run_score(run, given_settings(context), listener, offline=offline)
    show_summaries(summaries)
    if as_json:
        _print_json({"out": str(run), "dictionaries": {i: s.model_dump() for i, s in summaries.items()}})


app.command("import")(import_records)
app.command("export")(export_records)


@app.command()
def report(run: Run, as_json: AsJson = False) -> None:
    """Write a run's report.html anew."""
    from autointerp import api
    from autointerp.cli.progress import listening

    with listening() as listener:
        path = api.write_report(run, listener)
    say(path)
    if as_json:
        _print_json({"report": str(path)})


@app.command()
def doctor(
    context: typer.Context,
    config: Config = None,
    model: Model = None,
    hook_point: HookPoint = None,
    dictionary: Dictionaries = None,
    corpus: Corpus = None,
    n_tokens: NTokens = None,
    context_tokens: Context = None,
    batch_size: BatchSize = None,
    max_norm: MaxNorm = None,
    loss_tokens: LossTokens = None,
    device: Device = None,
    dtype: Dtype = None,
    threads: Threads = None,
    out: Out = None,
    demo: Demo = False,
    as_json: AsJson = False,
) -> None:
    """Check versions, device, disk, and whether model and dictionaries fit; each trouble comes with its fix."""
    from autointerp import api
    from autointerp.cli.show import show_findings, without_corpus

    flags = given_settings(context)
    given = demo or config is not None or dictionary or any(value is not None for value in flags.values())
    stands_in = not (corpus or demo or config or os.environ.get("AUTOINTERP_CORPUS"))
    if given and stands_in:
        flags["corpus"] = "python-docs"
    findings = api.doctor(_settings(config, flags, dictionary, demo=demo) if given else None)
    if stands_in:
        findings = without_corpus(findings)
    show_findings(findings)
    if as_json:
        _print_json({"findings": [finding._asdict() for finding in findings]})
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(2)


app.command()(inspect)
app.command("testserver")(rehearse)
app.command()(compare)
app.command()(selftest)
app.command()(status)
app.command()(retry)
app.add_typer(cache_app)
app.add_typer(batch_app)


def _settings(
    config: Path | None, flags: Mapping[str, object], dictionary: list[str] | None, *, demo: bool
) -> "RunConfig":
    from autointerp.config import make_config, parse_dictionary
    from autointerp.resources import bundled

    if demo and config is not None:
        raise UsageError("give a configuration file or --demo, not both")
    if demo:
        config = bundled("demo") / "demo.toml"
    values = dict(flags)
    if dictionary:
        values["dictionary"] = [parse_dictionary(spec) for spec in dictionary]
    name = Path(str(values["corpus"])).stem.replace(":", "-") if values.get("corpus") else None
    default = f"runs/{'-'.join(filter(None, ['demo' if demo else None, name])) or 'run'}"
    return make_config(config, values, default)


def _print_json(value: object) -> None:
    say_json(value)


class _InterruptedError(StoppedError):
    """Ctrl-C; Typer would end a `KeyboardInterrupt` with exit code 130."""


def _stop(signum: int, frame: object) -> None:
    if stop_gently():
        say("stopping: waiting for the answers under way; Ctrl-C again stops at once", sys.stderr)
        return
    raise _InterruptedError("stopped; the same command goes on where this one was")


def main() -> None:
    """Run the command line; an error on purpose becomes one sentence and its exit code."""
    open_streams()
    say_starting(sys.argv[1:])
    signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except _InterruptedError as error:
        say_error(error)
        sys.stdout.flush()
        os._exit(error.exit_code)  # the work's thread may be inside torch, which an orderly exit would abort
    except AutointerpError as error:
        say_error(error, "error: ")
        sys.exit(error.exit_code)
    except MemoryError as error:
        say(f"error: there is too little memory ({error or 'no more could be had'}); what was done is kept", sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_ADVICE:
            raise
        say_error(disk_error(error, "the run"), "error: ")
        sys.exit(2)
