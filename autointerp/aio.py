"""The public functions as coroutines: the one place where harvest, interpretation, store and report meet.

Configurations flow in; finished run folders and summaries flow out. The GPU side is imported only where a harvest is
missing, so that everything after it works on a machine without torch.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from autointerp import pipeline, selection
from autointerp.backends import Backends, open_backends
from autointerp.bare import BareRecord, make_scored_record
from autointerp.config import HarvestPart, RunConfig, SimulatorName, change_config, check_config
from autointerp.errors import RunError, UsageError
from autointerp.harvest.events import PartDone, is_finished, shards_of
from autointerp.harvest.repair import discard_damaged
from autointerp.interop.bare_records import (
    as_bare,
    parse_json_lines,
    read_bare_records,
    write_json_lines,
    write_tsv,
)
from autointerp.interpret.protocols import PROTOCOLS, make_plan
from autointerp.interpret.score import Terms, score_feature
from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.plans import Interpretation, Results
from autointerp.provenance import write_atomically
from autointerp.records import Explanation, Usage
from autointerp.report.collect import collect_report
from autointerp.report.html import render_report
from autointerp.scores import FeatureScore
from autointerp.sources import FeatureSource, bare_records_of, open_sources
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


async def run_harvest(config: RunConfig, listener: Listener = SILENT, *, repair: bool = False) -> None:
    """The GPU side alone: tokens, events, statistics and facts of every dictionary.

    With `repair` every file of an earlier harvest is read first, and those that changed on disk are made again.
    """
    folder = RunFolder(config.out)
    with folder.lock():
        for d in config.dictionary if repair else ():
            for name in discard_damaged(folder.harvest / d.id):
                listener.note(f"{d.id}: {name} is damaged and will be made again")
        _harvest(folder, config, listener)


async def run_harvest_part(config: RunConfig, part: HarvestPart, listener: Listener = SILENT) -> PartDone:
    """One part of the GPU side, beside the others; `run_harvest` afterwards makes what is missing and closes.

    Takes and returns plain data, so that another process, or an engine's worker, can run it. The parts may run in any
    order and at the same time; the first writes the tokens, and the others wait for them.

    Raises:
        UsageError: as `run_harvest`; also where the run, this part, or parts of another number are being written.
    """
    selection.read_ranges(config.features)
    folder = RunFolder(config.out)
    with folder.lock_part(part):
        missing = [d for d in config.dictionary if not is_finished(folder.harvest / d.id)]
        if missing:
            from autointerp.harvest.session import PartWork, harvest_dictionaries

            work = PartWork(part, lambda: folder.turn(config, listener.note))
            harvest_dictionaries(
                folder.harvest, config, missing, cache_folder(), listener.progress, listener.note, work
            )
    return PartDone(part, {d.id: shards_of(folder.harvest / d.id, part) for d in config.dictionary})


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
                plans = _plans(open_sources(folder, config), config, store, backends, listener)
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
    config = change_config(folder.config(), changes)
    folder.begin(config)
    return config


def _harvest(folder: RunFolder, config: RunConfig, listener: Listener) -> None:
    """Finish the harvest of every dictionary; torch is not touched where all are finished."""
    selection.read_ranges(config.features)
    folder.begin(config)
    folder.check_inputs(config)
    missing = [d for d in config.dictionary if not is_finished(folder.harvest / d.id)]
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
        sources = open_sources(folder, config)
        async with open_backends(config, folder) as backends:
            plans = _plans(sources, config, store, backends, listener)
            keys = {"explainer_key": backends.explainer_key, "simulator_key": backends.simulator_key}
            folder.write_note("backends", keys)
            n_new = 0
            for plan in plans:
                n_new += await pipeline.explain_features(plan)
                n_new += await pipeline.score_features(plan)
        for source, plan in zip(sources, plans, strict=True):
            summaries[plan.dictionary] = _summary(source, config, plan)
            usage += store.usage(plan.dictionary, plan.design, plan.key, (*plan.steps, plan.refine_step))
        values = {"dictionaries": {i: s.model_dump() for i, s in summaries.items()}}
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        if not n_new and folder.summary.is_file() and folder.summary.read_text(encoding="utf-8") == text:
            return summaries
        _close_manifest(folder, config, sources, backends, usage)
        _write_report(folder, config, sources, plans, listener)
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
    return folder.report


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
    data = collect_report(config, manifest, sources, results, summaries, listener.progress)
    write_atomically(folder.report, render_report(data))


def _plans(
    sources: Sequence[FeatureSource], config: RunConfig, store: RunStore, backends: Backends, listener: Listener
) -> list[Interpretation]:
    """One interpretation per dictionary."""
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
            progress=listener.progress,
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


async def import_records(path: Path, out: Path, dictionary: str = "records", seed: int = 0) -> int:
    """Make a run of bare records, ready for `run_explain` and `run_score`; no model and no torch.

    Returns:
        How many features the records name.

    Raises:
        UsageError: the file cannot be read, or the folder holds another run.
    """
    records = read_bare_records(path)
    values = {"dictionary": [{"id": dictionary, "path": path.name}], "records": path.name, "features": "all"}
    folder = RunFolder(out)
    with folder.lock():
        folder.begin(check_config({**values, "out": out, "seed": seed}, str(path)))
        folder.write_records(write_json_lines(records))
    return len({record.feature for record in records})


async def export_records(path: Path, dictionary: str | None, kind: Literal["tsv", "jsonl"], out: Path) -> int:
    """Write a run's records as text that `import_records` reads: those it was made of, else its features' windows.

    Returns:
        How many records were written.

    Raises:
        UsageError: several dictionaries and none named, or nothing to write.
    """
    folder = RunFolder.existing(path)
    config = folder.config()
    names = [d.id for d in config.dictionary]
    if dictionary is None and len(names) > 1:
        raise UsageError(f"{path} holds several dictionaries; name one as {path}:ID, of {', '.join(names)}")
    if dictionary is not None and dictionary not in names:
        raise UsageError(f"{path} holds no dictionary {dictionary}; it holds {', '.join(names)}")
    if config.records is not None:
        records = parse_json_lines(folder.records.read_text(encoding="utf-8"), str(folder.records))
    else:
        store = RunStore(folder.store)
        try:
            records = bare_records_of(store.records(dictionary or names[0], PROTOCOLS[config.protocol].design.name))
        finally:
            store.close()
    if not records:
        raise UsageError(f"{path} has chosen no examples yet; run `autointerp explain {path}` first")
    write_atomically(out, (write_tsv if kind == "tsv" else write_json_lines)(records))
    return len(records)


async def score(
    explanation: str,
    records: Path | str | Sequence[BareRecord | Mapping[str, object]],
    *,
    llm: str | None = None,
    base_url: str | None = None,
    simulator: SimulatorName | None = None,
) -> FeatureScore:
    """How well an explanation that was not made from these records predicts their activations.

    Args:
        explanation: one or two sentences, or a look-up text where there is no `llm`.
        records: a file as `import_records` reads it, or values with `tokens`, `activations` and maybe `document`.

    Returns:
        Its score with an interval; undefined with a reason where the records are too few.
    """
    bare = read_bare_records(Path(records)) if isinstance(records, Path | str) else [as_bare(r) for r in records]
    if not bare or len({record.feature for record in bare}) > 1:
        raise UsageError("score takes the records of one feature; give those of one, at least one record")
    record = make_scored_record(bare)
    config = check_config(
        {
            "dictionary": [{"id": "records", "path": "records"}],
            "records": "records",
            "llm": llm,
            "base_url": base_url,
            "simulator": simulator,
            "out": ".",
        },
        "score",
    )
    said = Explanation(feature=record.feature, text=explanation, author="human", method="given", examples_digest="none")
    windows = [example.window for example in record.splits.score]
    async with open_backends(config, None) as backends:
        simulation = await backends.simulator.simulate(said, windows)
    if not any(simulation.levels):
        raise RunError(f"no window was answered: {simulation.failures[0][1]}")
    terms = Terms("records", backends.simulator.name, "jackknife")
    scored = score_feature(record, record.splits.score, simulation.levels, terms)
    return scored.model_copy(update={"usage": simulation.usage})


def cache_folder() -> Path:
    """The user's cache: `$XDG_CACHE_HOME/autointerp`, `~/.cache/autointerp` by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autointerp"
