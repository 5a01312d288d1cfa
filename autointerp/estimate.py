"""What a run would ask, before anything is asked: calls, tokens and price by stage, and which text goes to which host.

A run's folder and configuration flow in, an `Estimate` flows out. The run's own steps go over a seeded sample of the
features that are left, on a store of their own, with made-up answers where the cache has none; their counts are scaled
up. The run is not written to, and no connection is opened.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from autointerp import interpretation, pipeline
from autointerp.backends import Backends, foreseen_backends
from autointerp.config import RunConfig
from autointerp.errors import UsageError
from autointerp.harvest.events import is_finished
from autointerp.interpret.oracle import ShownWindow, oracle
from autointerp.listener import SILENT
from autointerp.llm.answers import AnswerFunction
from autointerp.llm.foreseen import Asked, Foreseen
from autointerp.llm.prices import Prices, Quote
from autointerp.llm.probe import ANSWER_TOKENS
from autointerp.pipeline import n_shuffled
from autointerp.plans import Interpretation
from autointerp.provenance import generator
from autointerp.records import Done, Record, Usage
from autointerp.shown import Shown
from autointerp.sources import open_sources
from autointerp.store.folder import RunFolder
from autointerp.store.runs import RunStore

SAMPLE = 20
"""Features of a dictionary on which the steps are gone through."""
PROBES = 3
"""Requests by which an endpoint is asked what it does."""


class StageEstimate(Record):
    """One stage; numbers are rounded."""

    calls: int
    free: int
    """Questions that the cache answers, not among the calls."""
    input_tokens: int
    output_tokens: int
    """Of short answers."""
    most_output_tokens: int
    """What a model that thinks before it answers may write at most."""
    usd: float | None
    """None where the price is not known; cached input counts in full."""
    most_usd: float | None


class Sent(Record):
    """Text that leaves the machine."""

    dictionary: str
    corpus: str
    windows: int
    characters: int


class Estimate(Record):
    """What is left to be asked."""

    model: str | None
    """None where no language model is asked."""
    base_url: str
    features: int
    """Features that are not finished."""
    sampled: int
    """Features whose requests were really made; where it is all of them, calls are counted and not estimated."""
    stages: dict[str, StageEstimate] = Field(default_factory=dict)
    sent: tuple[Sent, ...] = ()
    price: str | None = None
    """Where the price is from; None where it is not known."""
    batch: float | None = None
    """What the same costs in batches, as a share."""
    taken: str = ""
    """What is taken for granted of an endpoint that nobody asked yet."""
    at_most: tuple[str, ...] = ()
    """Why there may be fewer calls."""
    correction: float | None = None
    """Factor on input tokens by what the endpoint counted of questions that the cache answers; None where unknown."""

    @property
    def host(self) -> str:
        """Who gets the text."""
        return urlsplit(self.base_url).netloc

    @property
    def total(self) -> StageEstimate:
        """All stages together."""
        parts = list(self.stages.values())
        known = self.price is not None
        return StageEstimate(
            calls=sum(part.calls for part in parts),
            free=sum(part.free for part in parts),
            input_tokens=sum(part.input_tokens for part in parts),
            output_tokens=sum(part.output_tokens for part in parts),
            most_output_tokens=sum(part.most_output_tokens for part in parts),
            usd=sum(part.usd or 0.0 for part in parts) if known else None,
            most_usd=sum(part.most_usd or 0.0 for part in parts) if known else None,
        )


async def estimate_run(folder: RunFolder, config: RunConfig, *, scoring: bool = True) -> Estimate:
    """What explaining and, with `scoring`, scoring would ask.

    Raises:
        UsageError: the harvest is missing, whose windows would be sent.
    """
    missing = [d.id for d in config.dictionary if not config.records and not is_finished(folder.harvest / d.id)]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} in {folder.path} is not harvested yet; the harvest comes first (`autointerp "
            "harvest` with the same settings): it asks no language model, and only then it is known what would be sent"
        )
    if config.llm is None:
        return Estimate(model=None, base_url="", features=0, sampled=0)
    with foreseen_backends(config, folder, _made_up()) as (backends, model):
        stored = RunStore(folder.store, reading=True) if folder.store.is_file() else None
        try:
            with tempfile.TemporaryDirectory() as scratch:
                tally = await _go_through(folder, config, backends, model, stored, Path(scratch), scoring=scoring)
        finally:
            if stored is not None:
                stored.close()
    return _summed(config, backends, model, tally)


def _made_up() -> AnswerFunction:
    """Names what is shown, and predicts nothing: every question that can follow does."""

    def rule_of(windows: Sequence[ShownWindow]) -> str:
        strongest = [max(zip(levels, tokens, strict=True))[1] for tokens, levels in windows if any(levels)]
        words = list(dict.fromkeys(strongest))[:3]
        return f"text about {' and '.join(words)}, mostly where a sentence has just named it and goes on to say more"

    return oracle(lambda explanation, tokens: [0] * len(tokens), rule_of, lambda explanation, passage: 0)


@dataclass
class _Tally:
    """What the samples came to, scaled up."""

    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    features: int = 0
    sampled: int = 0

    def add(self, asked: dict[str, Asked], factors: dict[str, float], other: float) -> None:
        """Counts of a sample, times how many features stand behind each of it."""
        for stage, counts in asked.items():
            sums = self.stages.setdefault(stage, dict.fromkeys(vars(counts), 0.0))
            for name, count in vars(counts).items():
                sums[name] += count * factors.get(stage, other)


async def _go_through(
    folder: RunFolder,
    config: RunConfig,
    backends: Backends,
    model: Foreseen,
    stored: RunStore | None,
    scratch: Path,
    *,
    scoring: bool,
) -> _Tally:
    """Every dictionary: features to be explained and scored, and those that are explained and to be scored."""
    tally = _Tally()
    for number, source in enumerate(open_sources(folder, config)):
        store = stored or RunStore(scratch / f"none-{number}.sqlite")
        (plan,) = interpretation.make_plans([source], config, store, backends, SILENT, "none")
        shown = Shown(model)
        for kind, left in enumerate(_left(plan, scoring=scoring)):
            own = RunStore(scratch / f"{number}-{kind}.sqlite")
            try:
                chosen = _draw(left, plan)
                await _rehearse(shown.watching(_apart(plan, own, chosen)), scoring=scoring)
            finally:
                own.close()
            factor = len(left) / len(chosen) if chosen else 0.0
            drawn = n_shuffled(len(plan.features)) / len(plan.features) if plan.features else 0.0
            tally.add(model.stages, {"shuffled": factor * drawn}, factor)
            model.stages.clear()
            shown.scale(factor)
            tally.features += len(left)
            tally.sampled += len(chosen)
        windows, characters = shown.total
        corpus = config.corpus or str(config.records)
        tally.sent.append(Sent(dictionary=plan.dictionary, corpus=corpus, windows=windows, characters=characters))
    return tally


def _left(plan: Interpretation, *, scoring: bool) -> tuple[list[int], list[int]]:
    """Features to be explained, and features that are explained and to be scored."""
    chosen, explained, scored = (plan.store.ends(plan.dictionary, step) for step in plan.steps)
    known = set(plan.store.explained(plan.dictionary, plan.design, plan.explainer_key))
    new = [i for i in plan.features if plan.is_open(explained.get(i)) and chosen.get(i) != "skipped"]
    old = [
        i for i in plan.features if i in known and plan.is_open(scored.get(i)) and not plan.is_open(explained.get(i))
    ]
    return new, old if scoring else []


def _draw(left: Sequence[int], plan: Interpretation) -> list[int]:
    if len(left) <= SAMPLE:
        return list(left)
    drawn = generator(plan.seed, plan.dictionary, "dry run").choice(len(left), SAMPLE, replace=False)
    return sorted(left[i] for i in drawn.tolist())


def _apart(plan: Interpretation, own: RunStore, chosen: Sequence[int]) -> Interpretation:
    """The plan for some features on a store of its own, which begins with what the run's store has of them.

    A score that may stop early is gone through to its end.
    """
    with own.step():
        for index in chosen:
            feature = plan.feature(index)
            record = plan.store.record(feature, plan.design)
            explained = plan.store.explanation(feature, plan.design, plan.explainer_key)
            if record is not None:
                own.put_record(record)
                own.put_outcome(feature, plan.steps[0], Done())
            if explained is not None:
                own.put_explanation(explained.explanation, plan.design, plan.explainer_key)
                own.put_outcome(feature, plan.steps[1], Done())
    whole = replace(plan.plan, first_blocks=plan.plan.most_blocks)
    return replace(plan, store=own, features=chosen, plan=whole, concurrency=1)


async def _rehearse(plan: Interpretation, *, scoring: bool) -> None:
    """The run's own steps; every revision is taken for better, so that the text before it is scored too."""
    await pipeline.interpret([plan], scoring=False)
    with plan.store.step():
        for index in plan.features:
            found = plan.store.explanation(plan.feature(index), plan.design, plan.explainer_key)
            refinement = found.explanation.refinement if found else None
            if found and refinement:
                kept = refinement.model_copy(update={"kept": True})
                changed = found.explanation.model_copy(update={"refinement": kept})
                plan.store.put_explanation(changed, plan.design, plan.explainer_key)
    if scoring:
        await pipeline.interpret([plan])


def _summed(config: RunConfig, backends: Backends, model: Foreseen, tally: _Tally) -> Estimate:
    quote = Prices(config.prices).quote(model.endpoint)
    scale = model.correction or 1.0
    stages = {name: _priced(sums, quote, scale) for name, sums in tally.stages.items() if sums["calls"] or sums["free"]}
    if backends.taken and stages:
        probe = {"calls": PROBES, "free": 0, "input_tokens": 0, "output_tokens": 0}
        stages = {"probe": _priced({**probe, "most_output_tokens": PROBES * ANSWER_TOKENS}, quote, 1.0), **stages}
    at_most = []
    if config.score.stop == "ci" and "simulate" in stages:
        at_most.append("every score is taken to need all its windows; --stop ci may end earlier")
    if config.explain.refine:
        at_most.append("every revision is taken to be kept, so that the text before it is scored too")
    return Estimate(
        model=model.endpoint.model,
        base_url=model.endpoint.base_url,
        features=tally.features,
        sampled=tally.sampled,
        stages=stages,
        sent=tuple(tally.sent),
        price=quote.source if quote else None,
        batch=quote.batch if quote else None,
        taken=backends.taken,
        at_most=tuple(at_most),
        correction=model.correction,
    )


def _priced(sums: Mapping[str, float], quote: Quote | None, scale: float) -> StageEstimate:
    read, written = round(sums["input_tokens"] * scale), round(sums["output_tokens"])
    most = max(written, round(sums["most_output_tokens"]))
    prices = [quote.price(Usage(input_tokens=read, output_tokens=n)) if quote else None for n in (written, most)]
    return StageEstimate(
        calls=round(sums["calls"]),
        free=round(sums["free"]),
        input_tokens=read,
        output_tokens=written,
        most_output_tokens=most,
        usd=prices[0],
        most_usd=prices[1],
    )
