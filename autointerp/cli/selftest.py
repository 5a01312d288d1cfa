"""`autointerp selftest`: protocols and judges on planted features whose right answer is known."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from autointerp.cli.options import AnswerTokens, ExtraBody, InFlight, ReasoningEffort, Timeout, given_settings
from autointerp.cli.say import say_json
from autointerp.errors import UsageError

if TYPE_CHECKING:
    from autointerp.listener import Listener

_Told = tuple[Callable[[], None], dict[str, object], bool]
"""What shows the tables, what `--json` ends with, and whether the bench passed."""
QUICK_HELP = "Fewer draws: within a minute on two cores."
LLM_HELP = "Certify this language model as a judge instead; it is asked about 700 times."
SIMULATOR_HELP = "How it is asked: top-logprobs, structured or prompt-logprobs; as the endpoint allows, where absent."


def selftest(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help=QUICK_HELP)] = False,
    llm: Annotated[str | None, typer.Option(metavar="MODEL", help=LLM_HELP)] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Its endpoint; OPENAI_BASE_URL, else OpenAI's.")
    ] = None,
    simulator: Annotated[str | None, typer.Option(help=SIMULATOR_HELP)] = None,
    in_flight: InFlight = None,
    timeout: Timeout = None,
    reasoning_effort: ReasoningEffort = None,
    answer_tokens: AnswerTokens = None,
    extra_body: ExtraBody = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")] = False,
) -> None:
    """Which protocols tell a true explanation from a near-miss, on planted features; with --llm, a card of a judge."""
    # The statistics are many small products: a second thread of the linear algebra costs more than it gives.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from autointerp.cli.progress import listening

    asked = {key: value for key, value in given_settings(context).items() if key.startswith("endpoint.")}
    if llm is None and any(value is not None for value in (base_url, simulator, *asked.values())):
        raise UsageError("--base-url, --simulator and the like say how a judge is asked; name it with --llm MODEL")
    if llm is not None and quick:
        raise UsageError("--quick shortens the offline bench; --llm asks a model and has one length")
    with listening() as listener:
        show, told, passed = (
            _offline(quick, seed, listener) if llm is None else _card(llm, base_url, simulator, asked, seed, listener)
        )
    show()  # not before the bars are gone: they would be drawn over it
    if as_json:
        say_json(told)
    if not passed:
        raise typer.Exit(1)


def _offline(quick: bool, seed: int, listener: "Listener") -> _Told:
    """Both benches without a model."""
    from autointerp.aio import cache_folder
    from autointerp.cli.show_selftest import show_generator_bench, show_text_bench
    from autointerp.selftest import bench
    from autointerp.selftest.textbench import PLANS, run_text_bench

    report = bench.run_generator_bench(bench.QUICK if quick else bench.FULL, seed, listener.progress)
    plans = ("graded-60",) if quick else tuple(PLANS)
    text = run_text_bench(cache_folder(), plans, 1 if quick else 3, seed, listener.progress)

    def show() -> None:
        show_generator_bench(report)
        show_text_bench(text)

    told = {**bench.as_json_object(report), "planted_text": text.model_dump(mode="json")}
    return show, told, all(check.ok for check in report.checks)


def _card(
    llm: str,
    base_url: str | None,
    simulator: str | None,
    asked: Mapping[str, object],
    seed: int,
    listener: "Listener",
) -> _Told:
    """The text bench with a language model as the judge."""
    from autointerp.aio import cache_folder
    from autointerp.asking import say_asked_at
    from autointerp.cli.show_selftest import show_card
    from autointerp.endpoint_config import endpoint_settings
    from autointerp.selftest.card import JudgeCard, make_card, open_judge
    from autointerp.selftest.textbench import Bench

    manner = endpoint_settings(asked, os.environ)
    for line in say_asked_at(llm, base_url):
        listener.note(line)

    async def ask() -> JudgeCard:
        async with open_judge(llm, base_url, simulator, manner, listener.note) as judge:
            return await make_card(Bench(cache_folder(), seed), judge, listener.progress)

    card = asyncio.run(ask())
    return lambda: show_card(card), {"judge": card.model_dump(mode="json")}, True
