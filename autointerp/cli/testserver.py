"""`autointerp testserver`: an OpenAI-compatible server on loopback to rehearse a run with."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autointerp.errors import UsageError, near_matches

if TYPE_CHECKING:
    from autointerp.llm.answers import AnswerFunction

ANSWER_HELP = "lookup, a .jsonl file of scripted answers, or MODULE:FUNCTION of a function from request body to answer."
PROFILE_HELP = "Which fields it honours: full, no-logprobs, no-schema, split-digits, strict."


def rehearse(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    answer: Annotated[str, typer.Option(metavar="lookup|FILE.jsonl|MODULE:FUNCTION", help=ANSWER_HELP)] = "lookup",
    latency: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds before every answer.")] = 0.0,
    rate_limit: Annotated[float | None, typer.Option(min=0.1, metavar="N", help="Requests per second.")] = None,
    faults: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of askings that fail; asking again helps.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    profile: Annotated[str, typer.Option(help=PROFILE_HELP)] = "full",
) -> None:
    """Answer chat completions as a model would, without one. Prints its base URL first; Ctrl-C ends it."""
    from autointerp.llm.testserver import PROFILES, TestServer, serve

    if profile not in PROFILES:
        raise UsageError(f"no profile {profile!r}; near: {near_matches(profile, PROFILES)}")
    server = TestServer(
        _answer_function(answer),
        PROFILES[profile],
        latency_s=latency,
        rate_limit=rate_limit,
        faults=faults,
        seed=seed,
    )
    try:
        asyncio.run(serve(server, port, lambda base_url: print(base_url, flush=True)))
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
