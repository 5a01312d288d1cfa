"""The public functions as coroutines: the one place where harvest, interpretation, store and report meet.

Configurations flow in; finished run folders and summaries flow out. The GPU side is imported only where a harvest is
missing, so that everything after it works on a machine without torch.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autointerp import pipeline
from autointerp.backends import Backends, open_backends
from autointerp.config import RunConfig
from autointerp.errors import UsageError
from autointerp.examples import Chooser
from autointerp.harvest.events import Corpus, Harvest
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.pipeline import Interpretation, Results
from autointerp.provenance import write_atomically
from autointerp.records import Usage
from autointerp.report.collect import collect_report
from autointerp.report.html import render_report
from autointerp.splits import CorpusIndex
from autointerp.store.folder import RunFolder
from autointerp.store.runs import RunStore


class Listener(NamedTuple):
    """Who is told how a run goes."""

    progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    """A stage, what is done, and what there is (0 where unknown)."""
    note: Callable[[str], None] = lambda text: None
    """One line worth knowing that is no error."""


SILENT = Listener()
Summaries = dict[str, DictionarySummary]


async def run(config: RunConfig, listener: Listener = SILENT) -> Summaries:
    """The main job: harvest, explain, score and report; what was done before is not done again.

    Returns:
        A summary per dictionary id, as written to `summary.json`.

    Raises:
        UsageError: the configuration, model, dictionary or corpus cannot be used, or the folder holds another run.
        RunError: the world failed; run again to go on.
    """
    folder = RunFolder(config.out)
    with folder.lock():
        _harvest(folder, config, listener)
        return await _interpret(folder, config, listener)


async def run_harvest(config: RunConfig, listener: Listener = SILENT) -> None:
    """The GPU side alone: tokens, events, statistics and facts of every dictionary."""
    folder = RunFolder(config.out)
    with folder.lock():
        _harvest(folder, config, listener)


async def run_explain(path: Path, changes: Mapping[str, object], listener: Listener = SILENT) -> int:
    """Explain a finished harvest's features; `changes` are configuration keys that differ from the run's own.

    Returns:
        How many features have an explanation now.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        config = _changed(folder, changes)
        store = RunStore(folder.store)
        try:
            n = 0
            async with open_backends(config, folder) as backends:
                plans = _plans(folder, config, store, backends, listener)
                for plan in plans:
                    await pipeline.explain_features(plan)
            for plan in plans:
                n += len(set(store.explained(plan.dictionary, plan.design, plan.explainer_key)) & set(plan.features))
            return n
        finally:
            store.close()


async def run_score(path: Path, changes: Mapping[str, object], listener: Listener = SILENT) -> Summaries:
    """Score a run's features, explaining those that lack an explanation; pays only for what is missing."""
    folder = RunFolder.existing(path)
    with folder.lock():
        return await _interpret(folder, _changed(folder, changes), listener)


def _changed(folder: RunFolder, changes: Mapping[str, object]) -> RunConfig:
    config = folder.config()
    wanted = {key: value for key, value in changes.items() if value is not None}
    config = RunConfig.model_validate({**config.model_dump(), **wanted})
    folder.begin(config)
    return config


def _harvest(folder: RunFolder, config: RunConfig, listener: Listener) -> None:
    """Finish the harvest of every dictionary; torch is not touched where all are finished."""
    folder.begin(config)
    folder.check_inputs(config)
    missing = [d for d in config.dictionary if not (folder.harvest / d.id / "manifest.json").is_file()]
    if missing:
        from autointerp.harvest.session import harvest_dictionaries

        folder.write_manifest(config, [], corpus_digest=None, n_tokens=0, prompts={}, usage=Usage(), closed=False)
        harvest_dictionaries(folder.harvest, config, missing, cache_folder(), listener.progress, listener.note)


async def _interpret(folder: RunFolder, config: RunConfig, listener: Listener) -> Summaries:
    """Explain, score, summarise and report."""
    store = RunStore(folder.store)
    try:
        summaries: Summaries = {}
        usage = Usage()
        async with open_backends(config, folder) as backends:
            plans = _plans(folder, config, store, backends, listener)
            keys = {"explainer_key": backends.explainer_key, "simulator_key": backends.simulator_key}
            folder.write_note("backends", keys)
            n_new = 0
            for plan in plans:
                n_new += await pipeline.explain_features(plan)
                n_new += await pipeline.score_features(plan)
        for plan in plans:
            summaries[plan.dictionary] = _summary(folder, config, plan)
            for score in store.scores(plan.dictionary, plan.key):
                usage = usage + score.usage
        values = {"dictionaries": {i: s.model_dump() for i, s in summaries.items()}}
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        if not n_new and folder.summary.is_file() and folder.summary.read_text(encoding="utf-8") == text:
            return summaries
        _close_manifest(folder, config, backends, usage)
        _write_report(folder, config, plans, listener)
        write_atomically(folder.summary, text)  # last: it says that all the rest is there
        return summaries
    finally:
        store.close()


async def write_report(path: Path, listener: Listener = SILENT) -> Path:
    """Write a run's report anew from its store.

    Returns:
        The report's path.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        store = RunStore(folder.store)
        try:
            config, keys = folder.config(), folder.read_note("backends")
            if not keys:
                raise UsageError(f"{path} has no scores yet; run `autointerp score {path}` first")
            results = [
                Results(
                    store=store,
                    dictionary=d.id,
                    features=_features(config, Harvest(folder.harvest, d.id)),
                    protocol=PROTOCOLS[config.protocol],
                    **keys,
                )
                for d in config.dictionary
            ]
            _write_report(folder, config, results, listener)
        finally:
            store.close()
    return folder.report


def _write_report(folder: RunFolder, config: RunConfig, plans: Sequence[Results], listener: Listener) -> None:
    manifest = folder.manifest()
    assert manifest is not None, "a scored run has a manifest"
    data = collect_report(
        config,
        manifest,
        {plan.dictionary: Harvest(folder.harvest, plan.dictionary) for plan in plans},
        plans,
        {plan.dictionary: _summary(folder, config, plan) for plan in plans},
        listener.progress,
    )
    write_atomically(folder.report, render_report(data))


def _plans(
    folder: RunFolder, config: RunConfig, store: RunStore, backends: Backends, listener: Listener
) -> list[Interpretation]:
    """One interpretation per dictionary, over one index of the corpus."""
    protocol = PROTOCOLS[config.protocol]
    index: CorpusIndex | None = None
    plans = []
    for dictionary in config.dictionary:
        harvest = Harvest(folder.harvest, dictionary.id)
        index = index or CorpusIndex(harvest.corpus, config.seed)
        chooser = Chooser(harvest, index, dictionary.id, protocol.design)
        plans.append(
            Interpretation(
                store=store,
                dictionary=dictionary.id,
                features=_features(config, harvest),
                make_record=chooser.feature_record,
                protocol=protocol,
                explainer=backends.explainer,
                explainer_key=backends.explainer_key,
                simulator=backends.simulator,
                simulator_key=backends.simulator_key,
                candidates=config.explain.candidates,
                seed=config.seed,
                concurrency=backends.concurrency,
                progress=listener.progress,
            )
        )
    return plans


def _features(config: RunConfig, harvest: Harvest) -> list[int]:
    return pipeline.select_features(config.features, harvest.stats.n_active, harvest.spec.id, config.seed)


def _summary(folder: RunFolder, config: RunConfig, plan: Results) -> DictionarySummary:
    harvest = Harvest(folder.harvest, plan.dictionary)
    n_active = np.asarray(harvest.stats.n_active)
    alive = n_active[n_active > 0]
    n_tokens = harvest.corpus.n_tokens
    explained = set(plan.store.explained(plan.dictionary, plan.design, plan.explainer_key))
    return summarise(
        harvest.spec.role,
        plan.features,
        plan.store.scores(plan.dictionary, plan.key),
        pipeline.final_outcomes(plan),
        explained=len(explained & set(plan.features)),
        protocol=plan.protocol.name,
        n_windows=plan.protocol.n_windows,
        n_tokens=n_tokens,
        l0=float(n_active.sum() / n_tokens),
        density=float(np.median(alive) / n_tokens) if len(alive) else None,
        n_alive=len(alive),
        seed=config.seed,
    )


def _close_manifest(folder: RunFolder, config: RunConfig, backends: Backends, usage: Usage) -> None:
    corpus = Corpus.open(folder.harvest)
    folder.write_manifest(
        config,
        [Harvest(folder.harvest, d.id).spec for d in config.dictionary],
        corpus_digest=corpus.digest,
        n_tokens=corpus.n_tokens,
        prompts=backends.prompts,
        usage=usage,
        closed=True,
    )


def cache_folder() -> Path:
    """The user's cache: `$XDG_CACHE_HOME/autointerp`, `~/.cache/autointerp` by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autointerp"
