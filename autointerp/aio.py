"""The public functions as coroutines: the one place where harvest, interpretation, store and report meet.

Configurations flow in; finished run folders and summaries flow out. The GPU side is imported only where a harvest is
missing, so that everything after it works on a machine without torch.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from autointerp import batch, batch_run, endpoints, estimate, interpretation, moving, selection
from autointerp.backends import forget_unusable, open_backends
from autointerp.bare import BareRecord, make_scored_record
from autointerp.batch_import import Imported
from autointerp.config import HarvestPart, RunConfig, SimulatorName, change_config, check_config
from autointerp.errors import RunError, UsageError
from autointerp.harvest.events import PartDone, is_finished, shards_of
from autointerp.harvest.repair import discard_damaged, discard_damaged_corpus
from autointerp.harvest.tokens import has_tokens
from autointerp.interop.bare_records import (
    as_bare,
    parse_json_lines,
    read_bare_records,
    write_json_lines,
    write_tsv,
)
from autointerp.interop.special_tokens import leave_out_special
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.interpret.score import Terms, score_feature
from autointerp.interpretation import Summaries
from autointerp.listener import SILENT, Listener
from autointerp.plans import Retries
from autointerp.provenance import write_atomically
from autointerp.records import Explanation, Usage
from autointerp.scores import FeatureScore
from autointerp.settings import with_environment
from autointerp.sources import bare_records_of
from autointerp.status import RunStatus, read_status
from autointerp.store.chosen import LEADS_OUT
from autointerp.store.folder import RunFolder
from autointerp.store.kept_records import keep_records, read_records
from autointerp.store.replies import SqliteReplyCache
from autointerp.store.runs import RunStore
from autointerp.underway import kept

LOADING = "load torch and the model's library"
"""A stage of its own: it takes ten seconds."""

NOTHING: Mapping[str, object] = MappingProxyType({})


async def run(config: RunConfig, listener: Listener = SILENT, *, offline: bool = False) -> Summaries:
    """The main job: harvest, explain, score and report; what was done before is not done again.

    With `offline` no language model is asked: answers come from the reply cache alone.

    Returns:
        A summary per dictionary id, as written to `summary.json`.

    Raises:
        UsageError: the configuration, model, dictionary or corpus cannot be used, or the folder holds another run.
        RunError: the world failed; run again to go on. `StoppedError` names the replies that are missing offline.
    """
    folder = RunFolder(config.out)
    with folder.lock():
        _harvest(folder, config, listener)
        return await interpretation.interpret(folder, config, listener, offline=offline)


async def run_harvest(config: RunConfig, listener: Listener = SILENT, *, repair: bool = False) -> None:
    """The GPU side alone: tokens, events, statistics and facts of every dictionary.

    With `repair` every file of an earlier harvest is read first, and those that changed on disk are made again.
    """
    folder = RunFolder(config.out)
    with folder.lock():
        _harvest(folder, config, listener, repair=repair)


async def run_harvest_part(config: RunConfig, part: HarvestPart, listener: Listener = SILENT) -> PartDone:
    """One part of the GPU side, beside the others; `run_harvest` afterwards makes what is missing and closes.

    Takes and returns plain data, so that another process, or an engine's worker, can run it. The parts may run in any
    order and at the same time; the first writes the tokens, and the others wait for them.

    Raises:
        UsageError: as `run_harvest`; also where the run, this part, or parts of another number are being written.
    """
    selection.read_ranges(config.features)
    folder = RunFolder(config.out)
    with folder.lock_part(part), kept(folder, listener, part) as listener:
        missing = [d for d in config.dictionary if not is_finished(folder.harvest / d.id)]
        if missing:
            listener.progress(LOADING, 0, 1)
            from autointerp.harvest.session import PartWork, harvest_dictionaries

            listener.progress(LOADING, 1, 1)
            work = PartWork(part, lambda: folder.turn(config, listener.note))
            harvest_dictionaries(
                folder.harvest, config, missing, cache_folder(), listener.progress, listener.note, work
            )
    return PartDone(part, {d.id: shards_of(folder.harvest / d.id, part) for d in config.dictionary})


async def run_explain(
    path: Path, changes: Mapping[str, object], listener: Listener = SILENT, *, offline: bool = False
) -> int:
    """Explain a finished harvest's features; `changes` are configuration keys that differ from the run's own.

    `offline` is as in `run`.

    Returns:
        How many features have an explanation now.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        return await interpretation.explain(folder, _changed(folder, changes, listener), listener, offline=offline)


async def run_score(
    path: Path, changes: Mapping[str, object], listener: Listener = SILENT, *, offline: bool = False
) -> Summaries:
    """Score a run's features, explaining those that lack an explanation; pays only for what is missing.

    `offline` is as in `run`.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        return await interpretation.interpret(folder, _changed(folder, changes, listener), listener, offline=offline)


def _changed(folder: RunFolder, changes: Mapping[str, object], listener: Listener) -> RunConfig:
    changes = with_environment(changes, os.environ)
    for line in folder.left_out(named=changes):
        listener.note(line)
    config = change_config(folder.config(named=changes), changes)
    folder.begin(config, named=changes)
    return config


def _harvest(folder: RunFolder, config: RunConfig, listener: Listener, *, repair: bool = False) -> None:
    """Finish the harvest of every dictionary; torch is not touched where all are finished."""
    selection.read_ranges(config.features)
    folder.begin(config, named=LEADS_OUT)
    folder.check_inputs(config)
    if repair:
        _discard_damaged(folder, config, listener)
    missing = [d for d in config.dictionary if not is_finished(folder.harvest / d.id)]
    if not missing and not has_tokens(folder.harvest, sampled=config.harvest.keep == "sample"):
        missing = list(config.dictionary)
    if missing:
        with kept(folder, listener) as listener:
            listener.progress(LOADING, 0, 1)
            from autointerp.harvest.session import harvest_dictionaries

            listener.progress(LOADING, 1, 1)
            folder.write_manifest(config, [], corpus_digest=None, n_tokens=0, prompts={}, usage=Usage(), closed=False)
            harvest_dictionaries(folder.harvest, config, missing, cache_folder(), listener.progress, listener.note)


def _discard_damaged(folder: RunFolder, config: RunConfig, listener: Listener) -> None:
    for name in discard_damaged_corpus(folder.harvest):
        listener.note(f"the tokens' {name} is damaged and will be made again")
    for d in config.dictionary:
        for name in discard_damaged(folder.harvest / d.id):
            listener.note(f"{d.id}: {name} is damaged and will be made again")


async def retry(
    path: Path, listener: Listener = SILENT, *, refused: bool = False, changes: Mapping[str, object] = NOTHING
) -> Summaries:
    """Ask again what ended Failed, and windows that were lost; with `refused` also what was refused.

    `changes` are as in `run_score`. The answers that could not be used are forgotten first; every other answer of
    theirs is free.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        config = _changed(folder, changes, listener)
        retries: Retries = "refused" if refused else "failed"
        if config.llm is not None:
            forget_unusable(config, folder, retries)
        return await interpretation.interpret(folder, config, listener, retries)


async def forget_probes(path: Path) -> None:
    """Have every endpoint of a run asked anew what it does when it is asked next; nothing where there is no run."""
    endpoints.forget_probes(RunFolder(path))


async def status(path: Path) -> RunStatus:
    """How far a run is, also while another process writes it."""
    return read_status(RunFolder.existing(path))


async def write_report(path: Path, listener: Listener = SILENT) -> Path:
    """Write a run's report anew from its store.

    Returns:
        The report's path.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        interpretation.write_report(folder, listener)
    return folder.report


async def import_records(
    path: Path, out: Path, dictionary: str = "records", seed: int = 0, listener: Listener = SILENT
) -> int:
    """Make a run of bare records, ready for `run_explain` and `run_score`; no model and no torch.

    Declared special tokens are left out, as a harvest leaves them out; the listener's note says how many.

    Returns:
        How many features the records name.

    Raises:
        UsageError: the file cannot be read, or the folder holds another run.
    """
    records, notes = leave_out_special(read_bare_records(path))
    if not records:
        raise UsageError(f"{path} holds special tokens only, and no text")
    for note in notes:
        listener.note(note)
    values = {"dictionary": [{"id": dictionary, "path": path.name}], "records": path.name, "features": "all"}
    folder = RunFolder(out)
    with folder.lock():
        folder.begin(check_config({**values, "out": out, "seed": seed}, str(path)))
        keep_records(folder, write_json_lines(records))
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
        records = parse_json_lines(read_records(folder), str(folder.records))
    else:
        store = RunStore(folder.store, reading=True)
        try:
            records = bare_records_of(store.records(dictionary or names[0], PROTOCOLS[config.protocol].design.name))
        finally:
            store.close()
    if not records:
        raise UsageError(f"{path} has chosen no examples yet; run `autointerp explain {path}` first")
    write_atomically(out, (write_tsv if kind == "tsv" else write_json_lines)(records))
    return len(records)


async def estimate_run(config: RunConfig) -> estimate.Estimate:
    """What `run` would ask of a language model: calls, tokens and price by stage, and which text goes to which host.

    Nothing is sent, and the run is not written to.

    Raises:
        UsageError: the harvest is missing.
    """
    return await estimate.estimate_run(RunFolder(config.out), config)


async def estimate_changes(path: Path, changes: Mapping[str, object], *, scoring: bool = True) -> estimate.Estimate:
    """The same of `run_score`; of `run_explain` where there is no scoring."""
    folder, changes = RunFolder.existing(path), with_environment(changes, os.environ)
    return await estimate.estimate_run(folder, change_config(folder.config(named=changes), changes), scoring=scoring)


async def export_requests(
    path: Path, out: Path, changes: Mapping[str, object], listener: Listener = SILENT
) -> batch.Exported:
    """Write the requests that can be asked now, of all stages and dictionaries, in OpenAI's batch file format.

    What the cache can answer is done first. Nothing is sent, and no key is needed.

    Raises:
        UsageError: no run or no language model there, or a file stands in the way.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        return await batch.export_requests(folder, _changed(folder, changes, listener), out, listener)


async def import_answers(path: Path, files: Sequence[Path], cache: Path | None = None) -> Imported:
    """Put the lines of batch answer files into the cache; the ordinary run then finds them there.

    Raises:
        UsageError: the run exported no requests, or a file cannot be read.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        changes = with_environment({"cache": cache}, os.environ)
        return await batch.import_files(folder, change_config(folder.config(named=changes), changes), files)


async def run_batches(
    path: Path, changes: Mapping[str, object], listener: Listener = SILENT, *, poll_s: float = batch_run.POLL_S
) -> Summaries:
    """Explain and score through a hosted batch endpoint, round after round; killed anywhere, the same goes on.

    Args:
        poll_s: seconds between two looks at the batches.

    Raises:
        UsageError: no run, no language model or no key there.
        StoppedError: stopped by Ctrl-C, the budget or the endpoint; the same goes on.
        RunError: the endpoint cannot be reached, or fails a batch as a whole.
    """
    folder = RunFolder.existing(path)
    with folder.lock():
        return await batch_run.run_batches(folder, _changed(folder, changes, listener), listener, poll_s)


async def export_replies(path: Path, out: Path, cache: Path | None = None) -> moving.ExportedReplies:
    """Write every reply that a run used into one file, with what its endpoints were seen to do.

    Args:
        cache: the reply cache; the user's own by default.

    Raises:
        UsageError: there is no run, it used no reply, or the file cannot be written.
    """
    folder = RunFolder.existing(path)
    with SqliteReplyCache(cache, folder.replies) as replies:
        return moving.export_replies(folder, out, replies)


async def import_replies(path: Path, cache: Path | None = None) -> moving.ImportedReplies:
    """Put the replies of such a file into the cache; a run with the same settings then needs no connection.

    Raises:
        UsageError: the file is not whole, or is something else.
    """
    with SqliteReplyCache(cache) as replies:
        return await moving.import_replies(path, replies)


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
    given = read_bare_records(Path(records)) if isinstance(records, Path | str) else [as_bare(r) for r in records]
    bare, _ = leave_out_special(given)
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
