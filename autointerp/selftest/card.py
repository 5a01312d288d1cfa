"""The judge card: what a simulator is worth as a judge, on planted features whose answer is known.

A simulator flows in; bias, repeatability, agreement with the rule by stratum, ranking and cost flow out. The second
asking goes the same way as the first, so it must not be answered from a cache.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from autointerp.endpoint_config import EndpointConfig
from autointerp.errors import UsageError, near_matches
from autointerp.format import MAX_LEVEL
from autointerp.interpret.simulate import Simulator
from autointerp.interpret.simulate_llm import LlmSimulatorName, make_llm_simulator
from autointerp.llm.manner import in_manner
from autointerp.llm.probe import probe, probe_prompts
from autointerp.llm.registry import connect_model
from autointerp.records import HARD_STRATA, Example, Record, Simulation, Usage
from autointerp.selftest.planted import PlantedText
from autointerp.selftest.text import Grid
from autointerp.selftest.textbench import (
    PLANS,
    Bench,
    FeatureRow,
    JudgeRow,
    Progress,
    ScoredFeature,
    explain,
    score_planted,
    summarise_judge,
)

PLAN = "graded-60"
SIMULATORS: tuple[LlmSimulatorName, ...] = ("structured", "top-logprobs", "prompt-logprobs")


class StratumRow(Record):
    """How the judge answers true explanations on windows of one stratum."""

    n: int
    """Windows answered."""
    bias: float
    """Mean predicted level less mean true level."""
    rule_bias: float
    """The same of the rule's own level, which is all that a window tells: how strongly a feature fires there it may
    not."""
    sees: float
    """Share answered above 0."""
    agrees: float
    """Share answered above 0 exactly where the rule, applied to the window, has the token fire."""


class JudgeCard(Record):
    """One judge on the text bench, all explanations under `graded-60`."""

    simulator: str
    strata: dict[str, StratumRow]
    """`uniform`, `hard`, `decile 1` (weakest) to `decile 10`; a stratum without answers is left out."""
    equal: float | None
    """Share of windows answered alike twice."""
    correlation: float | None
    """Pearson's r of the levels of both askings; None where one of them is constant."""
    ranking: JudgeRow
    features: tuple[FeatureRow, ...]
    failures: dict[str, int]
    """Windows without an answer by reason, all askings."""
    n_asked: int
    """Windows asked for, all askings."""
    explanations: int
    usage: Usage
    """Of all askings."""


class _Pair(NamedTuple):
    """One window's answer beside the truth."""

    stratum: str
    level: int
    true_level: int
    rule_level: int


@asynccontextmanager
async def open_judge(
    model: str,
    base_url: str | None,
    simulator: str | None,
    manner: EndpointConfig = EndpointConfig(in_flight=16),  # noqa: B008
    say: Callable[[str], None] = lambda text: None,
) -> AsyncIterator[Simulator]:
    """A language model as a simulator, without a reply cache: every asking is a new one.

    Raises:
        UsageError: no such simulator, no key, no usable URL, or an endpoint that cannot do what was asked.
    """
    names = [name for name in SIMULATORS if simulator in (None, name)]
    if simulator is not None and not names:
        raise UsageError(
            f"no simulator {simulator!r} asks a language model; near: {near_matches(simulator, SIMULATORS)}"
        )
    connected = connect_model(model, base_url=base_url, in_flight=manner.in_flight, timeout_s=manner.timeout_s, say=say)
    asked = in_manner(connected.model, manner)
    try:
        seen = await probe(connected.provider, asked)
        usable = seen.top_logprobs > 0 and seen.logprobs_differ
        chosen: LlmSimulatorName = names[0] if simulator else "top-logprobs" if usable else "structured"
        if chosen == "prompt-logprobs":
            seen = seen.model_copy(update={"prompt_logprobs": await probe_prompts(connected.provider)})
        yield make_llm_simulator(chosen, asked, seen)
    finally:
        await connected.aclose()


async def make_card(bench: Bench, simulator: Simulator, progress: Progress) -> JudgeCard:
    """Ask for every explanation of every planted feature, and once more for the true ones.

    Raises:
        StoppedError: no request can succeed any more.
    """
    scored = await score_planted(bench, PLAN, simulator, progress)
    again = []
    for i, (feature, asked) in enumerate(zip(bench.planted, scored, strict=True)):
        progress("second asking", i, len(scored))
        explanation = explain(bench.record(PLANS[PLAN], i), feature.true)
        again.append(await simulator.simulate(explanation, [e.window for e in asked.examples]))
    progress("second asking", len(scored), len(scored))
    pairs = [pair for feature, asked in zip(bench.planted, scored, strict=True) for pair in _pairs(feature, asked)]
    everything = [s for asked in scored for part in (asked.simulations, asked.guided) for s in part.values()] + again
    equal, correlation = _repeatability([asked.simulations["true"] for asked in scored], again)
    return JudgeCard(
        simulator=simulator.name,
        strata=_strata(pairs),
        equal=equal,
        correlation=correlation,
        ranking=summarise_judge(scored),
        features=tuple(asked.row for asked in scored),
        failures=dict(Counter(reason for s in everything for _, reason in s.failures)),
        n_asked=sum(len(s.levels) for s in everything),
        explanations=sum(len(asked.simulations) for asked in scored),
        usage=sum((s.usage for s in everything), Usage()),
    )


def _pairs(feature: PlantedText, asked: ScoredFeature) -> list[_Pair]:
    """The answered windows of the true explanation."""
    rule_levels = _rule_levels(feature, asked.examples).tolist()
    return [
        _Pair(_stratum(example), levels[0], example.scored_levels[0], meant)
        for example, levels, meant in zip(asked.examples, asked.simulations["true"].levels, rule_levels, strict=True)
        if levels is not None
    ]


def _rule_levels(feature: PlantedText, examples: Sequence[Example]) -> Int[np.ndarray, " n"]:
    """The level that the rule gives the target, by what stands in the window."""
    strengths = feature.true.rule(Grid.of([example.record.tokens for example in examples]))
    targets = np.array([example.target for example in examples], dtype=np.int64)
    return np.asarray(np.rint(MAX_LEVEL * strengths[np.arange(len(examples)), targets]).astype(np.int64))


def _stratum(example: Example) -> str:
    if example.stratum in HARD_STRATA:
        return "hard"
    return f"decile {example.decile}" if example.decile is not None else example.stratum


def _strata(pairs: Sequence[_Pair]) -> dict[str, StratumRow]:
    rows: dict[str, StratumRow] = {}
    for name in ("uniform", "hard", *(f"decile {i}" for i in range(1, 11))):
        own = [pair for pair in pairs if pair.stratum == name]
        if own:
            rows[name] = StratumRow(
                n=len(own),
                bias=float(np.mean([pair.level - pair.true_level for pair in own])),
                rule_bias=float(np.mean([pair.rule_level - pair.true_level for pair in own])),
                sees=float(np.mean([pair.level > 0 for pair in own])),
                agrees=float(np.mean([(pair.level > 0) == (pair.rule_level > 0) for pair in own])),
            )
    return rows


def _repeatability(first: Sequence[Simulation], second: Sequence[Simulation]) -> tuple[float | None, float | None]:
    """Share of equal answers and their correlation, over windows answered both times."""
    both: list[tuple[int, int]] = [
        (a[0], b[0])
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one.levels, other.levels, strict=True)
        if a is not None and b is not None
    ]
    if not both:
        return None, None
    answers: Int[np.ndarray, "2 n"] = np.array(both).T
    constant = (np.ptp(answers, axis=1) == 0).any()
    return float((answers[0] == answers[1]).mean()), None if constant else float(np.corrcoef(answers)[0, 1])
