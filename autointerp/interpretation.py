"""What a run does after its harvest: explain, score, summarise and report.

A locked run folder and its configuration flow in; outcomes in its store, a report and a summary flow out. No torch.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import numpy as np

from autointerp import pipeline
from autointerp.asking import say_asked
from autointerp.backends import Backends, open_backends
from autointerp.config import RunConfig
from autointerp.endpoints import read_answerers, tell_answerers
from autointerp.errors import StoppedError, UsageError
from autointerp.interpret.protocols import make_plan
from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.listener import Listener
from autointerp.llm.errors import DrainedError
from autointerp.llm.gate import Gate
from autointerp.llm.unasked import Missing
from autointerp.offline import Offline
from autointerp.plans import Interpretation, Results, Retries
from autointerp.provenance import write_atomically
from autointerp.records import Usage
from autointerp.report.collect import collect_report
from autointerp.report.html import render_report
from autointerp.sources import FeatureSource, open_sources
from autointerp.spending import read_spending
from autointerp.store.folder import KEYS_NOTE, RunFolder
from autointerp.store.runs import RunStore

Summaries = dict[str, DictionarySummary]


async def explain(folder: RunFolder, config: RunConfig, listener: Listener, *, offline: bool = False) -> int:
    """Explain the features that lack an explanation; how many have one then. As `interpret` with `offline`."""
    store = RunStore(folder.store)
    try:
        n = 0
        async with _asking(config, folder, listener, offline=offline, scoring=False) as backends:
            plans = make_plans(open_sources(folder, config), config, store, backends, listener, "none")
            await pipeline.interpret(plans, scoring=False)
        for plan in plans:
            n += len(set(store.explained(plan.dictionary, plan.design, plan.explainer_key)) & set(plan.features))
        return n
    finally:
        store.close()


async def interpret(
    folder: RunFolder, config: RunConfig, listener: Listener, retries: Retries = "none", *, offline: bool = False
) -> Summaries:
    """Explain, score, summarise and report.

    With `offline` answers come from the cache alone; what can be done with them is done.

    Raises:
        MissingRepliesError: offline, and some are not there; names them.
    """
    store = RunStore(folder.store)
    try:
        summaries: Summaries = {}
        usage = Usage()
        sources = open_sources(folder, config)
        async with _asking(config, folder, listener, offline=offline) as backends:
            plans = make_plans(sources, config, store, backends, listener, retries)
            _note_keys(folder, backends)
            n_new = await pipeline.interpret(plans)
        for source, plan in zip(sources, plans, strict=True):
            summaries[plan.dictionary] = _summary(source, config, plan)
            usage += store.usage(plan.dictionary, plan.design, plan.key, (*plan.steps, plan.refine_step))
        values = {"dictionaries": {i: s.model_dump() for i, s in summaries.items()}}
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        if not n_new and folder.summary.is_file() and folder.summary.read_bytes() == text.encode():
            return summaries
        _close_manifest(folder, config, sources, backends, usage)
        _write_report(folder, config, sources, plans, listener)
        write_atomically(folder.summary, text)  # last: it says that all the rest is there
        return summaries
    finally:
        store.close()


async def look_up(folder: RunFolder, config: RunConfig, listener: Listener, missing: Missing) -> None:
    """Explain and score as far as the cache has the answers; `missing` is told each question that it has none for."""
    store = RunStore(folder.store)
    try:
        async with open_backends(config, folder, missing=missing, listener=listener) as backends:
            plans = make_plans(open_sources(folder, config), config, store, backends, listener, "none")
            _note_keys(folder, backends)
            await pipeline.interpret(plans)
    finally:
        store.close()


def _note_keys(folder: RunFolder, backends: Backends) -> None:
    """Keep where this run's results stand in its store."""
    keys = {"explainer_key": backends.explainer_key, "simulator_key": backends.simulator_key}
    folder.write_note(KEYS_NOTE, keys)


@asynccontextmanager
async def _asking(
    config: RunConfig, folder: RunFolder, listener: Listener, *, offline: bool, scoring: bool = True
) -> AsyncIterator[Backends]:
    """Who explains and simulates, until the block ends or the listener ends it gently.

    Raises:
        MissingRepliesError: offline, and a reply was missing; when the block has ended.
    """
    gate = Gate()
    unasked = Offline(folder.batch_book) if offline else None
    if config.llm is not None:
        listener.stoppable(lambda: gate.close(DrainedError()))
    for line in () if offline else say_asked(config, folder.named()):
        listener.note(line)
    try:
        asked = unasked.missing if unasked else None
        async with open_backends(config, folder, gate, asked, listener, scoring=scoring) as backends:
            if backends.taken:
                listener.note(backends.taken)
            yield backends
        if unasked:
            unasked.check()
        folder.drop_note("stopped")
    except StoppedError as error:
        with suppress(OSError):  # it may be the disk that stopped it
            folder.write_note("stopped", {"message": str(error)})
        raise
    finally:
        listener.stoppable(None)
        if unasked:
            unasked.close()


def write_report(folder: RunFolder, listener: Listener) -> None:
    """Write a run's report anew from its store.

    Raises:
        UsageError: the run has no scores.
    """
    store = RunStore(folder.store)
    try:
        config, keys = folder.config(), folder.result_keys()
        if not keys:
            raise UsageError(f"{folder.path} has no scores yet; run `autointerp score {folder.path}` first")
        sources = open_sources(folder, config)
        results = [
            Results(
                store=store,
                dictionary=source.spec.id,
                features=source.select(config.features, config.seed),
                plan=make_plan(config.protocol, config.score),
                **keys,
            )
            for source in sources
        ]
        _write_report(folder, config, sources, results, listener)
    finally:
        store.close()


def _write_report(
    folder: RunFolder,
    config: RunConfig,
    sources: Sequence[FeatureSource],
    results: Sequence[Results],
    listener: Listener,
) -> None:
    manifest = folder.manifest()
    assert manifest is not None, "a scored run has a manifest"
    summaries = {r.dictionary: _summary(source, config, r) for source, r in zip(sources, results, strict=True)}
    spending = read_spending(folder.calls, config.prices)
    who = tuple(tell_answerers(read_answerers(folder, config)))
    data = collect_report(config, manifest, sources, results, summaries, listener.progress, spending, who)
    write_atomically(folder.report, render_report(data))


def make_plans(
    sources: Sequence[FeatureSource],
    config: RunConfig,
    store: RunStore,
    backends: Backends,
    listener: Listener,
    retries: Retries,
) -> list[Interpretation]:
    """One interpretation per dictionary."""

    def progress(stage: str, done: int, total: int) -> None:
        if backends.spending:
            listener.spent(backends.spending())
        listener.progress(stage, done, total)

    plan = make_plan(config.protocol, config.score)
    selected = [source.select(config.features, config.seed) for source in sources]
    return [
        Interpretation(
            store=store,
            dictionary=source.spec.id,
            features=features,
            maker=source.maker(plan.design, config.seed),
            plan=plan,
            explainer=backends.explainer,
            refiner=backends.refiner,
            explainer_key=backends.explainer_key,
            simulator=backends.simulator,
            simulator_is_free=config.llm is None,
            simulator_key=backends.simulator_key,
            candidates=config.explain.candidates,
            guided=config.score.guided,
            interval=config.score.interval,
            seed=config.seed,
            concurrency=backends.concurrency,
            progress=progress,
            retries=retries,
        )
        for source, features in zip(sources, selected, strict=True)
    ]


def _summary(source: FeatureSource, config: RunConfig, plan: Results) -> DictionarySummary:
    alive = source.n_active[source.n_active > 0]
    explained = set(plan.store.explained(plan.dictionary, plan.design, plan.explainer_key))
    return summarise(
        source.spec.role,
        plan.features,
        plan.store.scores(plan.dictionary, plan.key),
        pipeline.final_outcomes(plan),
        explained=len(explained & set(plan.features)),
        protocol=plan.plan.label,
        n_windows=plan.plan.n_windows,
        n_tokens=source.n_tokens,
        l0=source.l0,
        density=float(np.median(alive) / source.n_tokens) if len(alive) else None,
        n_alive=len(alive),
        refinements=plan.store.refinements(plan.dictionary, plan.design, plan.explainer_key),
        seed=config.seed,
        metrics=source.metrics,
    )


def _close_manifest(
    folder: RunFolder, config: RunConfig, sources: Sequence[FeatureSource], backends: Backends, usage: Usage
) -> None:
    folder.write_manifest(
        config,
        [source.spec for source in sources],
        corpus_digest=sources[0].corpus_digest,
        n_tokens=sources[0].n_tokens,
        prompts=backends.prompts,
        usage=usage,
        closed=True,
    )
