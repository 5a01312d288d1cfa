"""`autointerp testserver`: an OpenAI-compatible server on loopback to rehearse a run with."""

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autointerp.cli.say import say
from autointerp.errors import UsageError, near_matches

if TYPE_CHECKING:
    from autointerp.llm.answers import AnswerFunction

FAULTS_HELP = (
    "Share of requests that fail: 0.2 for failures that asking again mends, or KIND=0.1,KIND=0.05 with rate-limit, "
    "server-error, cut, malformed, timeout, misaligned (the first asking only), quota, bad-key, unknown-model, "
    "unsupported-parameter, context-too-long, content-filter, refusal (every asking)."
)
BATCH_FAULTS_HELP = "Share of batch lines: KIND=0.1 with missing, duplicate, error, foreign, expired."
ANSWER_HELP = "lookup, a .jsonl file of scripted answers, or MODULE:FUNCTION of a function from request body to answer."
PROFILE_HELP = "Which fields it honours: full, no-logprobs, no-echo, no-schema, split-digits, strict."


def rehearse(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    answer: Annotated[str, typer.Option(metavar="lookup|FILE.jsonl|MODULE:FUNCTION", help=ANSWER_HELP)] = "lookup",
    latency: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds before every answer.")] = 0.0,
    rate_limit: Annotated[float | None, typer.Option(min=0.1, metavar="N", help="Requests per second.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(min=1, metavar="N", help="Tokens per minute.")] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Work on so many at once and let the others wait unsaid.")
    ] = None,
    faults: Annotated[str, typer.Option(metavar="SHARE|KIND=SHARE,…", help=FAULTS_HELP)] = "0",
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    profile: Annotated[str, typer.Option(help=PROFILE_HELP)] = "full",
    batch_delay: Annotated[
        float, typer.Option(min=0, metavar="S", help="Seconds that a batch job stays in each state.")
    ] = 0.0,
    batch_faults: Annotated[str, typer.Option(metavar="KIND=SHARE,…", help=BATCH_FAULTS_HELP)] = "",
    batches_fail: Annotated[bool, typer.Option("--batches-fail", help="Every batch job ends as failed.")] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a line of JSON for every request received.")
    ] = None,
) -> None:
    """Answer as OpenAI's and vLLM's servers do, without a model. Prints its base URL first; Ctrl-C ends it."""
    from autointerp.interpret.oracle import stage_of
    from autointerp.llm.testserver.batches import LINE_FAULTS
    from autointerp.llm.testserver.faults import FAULTS, SPREAD, parse_shares
    from autointerp.llm.testserver.journal import Journal
    from autointerp.llm.testserver.profiles import PROFILES
    from autointerp.llm.testserver.server import TestServer, serve

    if profile not in PROFILES:
        raise UsageError(f"no profile {profile!r}; near: {near_matches(profile, PROFILES)}")
    with Journal(log) if log else nullcontext() as journal:
        server = TestServer(
            _answer_function(answer),
            PROFILES[profile],
            latency_s=latency,
            rate_limit=rate_limit,
            tokens_per_minute=tokens_per_minute,
            parallel=parallel,
            faults=parse_shares(faults, FAULTS, SPREAD),
            seed=seed,
            journal=journal,
            stage_of=stage_of,
            batch_delay_s=batch_delay,
            batch_faults=parse_shares(batch_faults, LINE_FAULTS, ()) if batch_faults else {},
            batches_fail=batches_fail,
        )
        _serve(serve(server, port, lambda base_url: say(base_url)), port)


def _serve(serving: Coroutine[object, object, None], port: int) -> None:
    try:
        asyncio.run(serving)
    except OSError as error:
        raise UsageError(f"cannot listen on port {port}: {error.strerror}; choose another with --port") from None


def _answer_function(name: str) -> "AnswerFunction":
    from autointerp.interpret.oracle import lookup_oracle
    from autointerp.llm.answers import imported_answers, scripted_answers

    if name == "lookup":
        return lookup_oracle()
    if name.endswith(".jsonl"):
        return scripted_answers(Path(name))
    if ":" in name:
        sys.path.insert(0, str(Path.cwd()))
        return imported_answers(name)
    raise UsageError(f"--answer {name!r} is neither lookup, nor a .jsonl file, nor MODULE:FUNCTION")
