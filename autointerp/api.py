"""The public functions, plain: each runs its coroutine of `aio` on one background loop, so they work in a notebook too.

Configurations and paths flow in; summaries flow out. Nothing is computed here. A comparison waits for nobody, so it
has no coroutine.
"""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from autointerp import aio
from autointerp.bare import BareRecord
from autointerp.batch import Exported
from autointerp.batch_import import Imported
from autointerp.batch_run import POLL_S
from autointerp.checkup import NEEDED_FOR_HARVEST, check_folder, check_machine
from autointerp.compare.collect import Wish
from autointerp.compare.comparing import Loader, make_comparison, make_plan
from autointerp.compare.data import By, Comparison, Plan
from autointerp.compare.facts import Known, Weights
from autointerp.config import DictionaryConfig, HarvestPart, RunConfig, SimulatorName
from autointerp.errors import UsageError
from autointerp.estimate import Estimate
from autointerp.harvest.events import Harvest, PartDone
from autointerp.interpretation import Summaries
from autointerp.listener import SILENT, Listener
from autointerp.moving import ExportedReplies, ImportedReplies
from autointerp.records import DictionarySpec, Finding
from autointerp.scores import FeatureScore
from autointerp.status import RunStatus
from autointerp.store.folder import RunFolder

T = TypeVar("T")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="autointerp", daemon=True).start()
    return loop


def _wait(work: Coroutine[object, object, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def run(config: RunConfig, listener: Listener = SILENT, *, offline: bool = False) -> Summaries:
    """Harvest, explain, score and report; see `aio.run`."""
    return _wait(aio.run(config, listener, offline=offline))


def run_harvest(config: RunConfig, listener: Listener = SILENT, *, repair: bool = False) -> None:
    """The GPU side alone; see `aio.run_harvest`."""
    _wait(aio.run_harvest(config, listener, repair=repair))


def run_harvest_part(config: RunConfig, part: HarvestPart, listener: Listener = SILENT) -> PartDone:
    """One part of the GPU side; see `aio.run_harvest_part`."""
    return _wait(aio.run_harvest_part(config, part, listener))


def open_harvest(path: Path | str, dictionary: str) -> Harvest:
    """What was harvested of one dictionary, to look at: events, windows, all activations on a document, statistics.

    `path` is a run's folder. Needs no torch.

    Raises:
        UsageError: it holds no finished harvest of that dictionary.
        RunError: it is damaged.
    """
    folder = RunFolder(Path(path)).harvest
    there = sorted(manifest.parent.name for manifest in folder.glob("*/manifest.json"))
    if dictionary not in there:
        raise UsageError(f"{path} holds no finished harvest of {dictionary}, but of {', '.join(there) or 'nothing'}")
    return Harvest(folder, dictionary)


def run_explain(
    path: Path, changes: Mapping[str, object] | None = None, listener: Listener = SILENT, *, offline: bool = False
) -> int:
    """Explain a finished harvest's features; see `aio.run_explain`."""
    return _wait(aio.run_explain(path, changes or {}, listener, offline=offline))


def run_score(
    path: Path, changes: Mapping[str, object] | None = None, listener: Listener = SILENT, *, offline: bool = False
) -> Summaries:
    """Score a run's features; see `aio.run_score`."""
    return _wait(aio.run_score(path, changes or {}, listener, offline=offline))


def retry(
    path: Path, listener: Listener = SILENT, *, refused: bool = False, changes: Mapping[str, object] = aio.NOTHING
) -> Summaries:
    """Ask again what ended Failed; see `aio.retry`."""
    return _wait(aio.retry(path, listener, refused=refused, changes=changes))


def forget_probes(path: Path) -> None:
    """Have every endpoint of a run asked anew what it does; see `aio.forget_probes`."""
    _wait(aio.forget_probes(path))


def read_status(path: Path) -> RunStatus:
    """How far a run is; see `aio.status`."""
    return _wait(aio.status(path))


def import_records(
    path: Path, out: Path, dictionary: str = "records", seed: int = 0, listener: Listener = SILENT
) -> int:
    """Make a run of bare records; see `aio.import_records`."""
    return _wait(aio.import_records(path, out, dictionary, seed, listener))


def export_records(path: Path, dictionary: str | None, kind: Literal["tsv", "jsonl"], out: Path) -> int:
    """Write a run's records as text; see `aio.export_records`."""
    return _wait(aio.export_records(path, dictionary, kind, out))


def estimate_run(config: RunConfig) -> Estimate:
    """What `run` would ask of a language model, before it does; see `aio.estimate_run`."""
    return _wait(aio.estimate_run(config))


def estimate_changes(path: Path, changes: Mapping[str, object] | None = None, *, scoring: bool = True) -> Estimate:
    """What `run_score` or `run_explain` would ask; see `aio.estimate_changes`."""
    return _wait(aio.estimate_changes(path, changes or {}, scoring=scoring))


def export_requests(
    path: Path, out: Path, changes: Mapping[str, object] | None = None, listener: Listener = SILENT
) -> Exported:
    """Write a run's pending requests in the batch file format; see `aio.export_requests`."""
    return _wait(aio.export_requests(path, out, changes or {}, listener))


def import_answers(path: Path, files: Sequence[Path], cache: Path | None = None) -> Imported:
    """Put the lines of batch answer files into the cache; see `aio.import_answers`."""
    return _wait(aio.import_answers(path, files, cache))


def run_batches(
    path: Path,
    changes: Mapping[str, object] | None = None,
    listener: Listener = SILENT,
    *,
    poll_s: float = POLL_S,
) -> Summaries:
    """Explain and score through a hosted batch endpoint; see `aio.run_batches`."""
    return _wait(aio.run_batches(path, changes or {}, listener, poll_s=poll_s))


def export_replies(path: Path, out: Path, cache: Path | None = None) -> ExportedReplies:
    """Write every reply that a run used into a file; see `aio.export_replies`."""
    return _wait(aio.export_replies(path, out, cache))


def import_replies(path: Path, cache: Path | None = None) -> ImportedReplies:
    """Put the replies of such a file into the cache; see `aio.import_replies`."""
    return _wait(aio.import_replies(path, cache))


def score(
    explanation: str,
    records: Path | str | Sequence[BareRecord | Mapping[str, object]],
    *,
    llm: str | None = None,
    base_url: str | None = None,
    simulator: SimulatorName | None = None,
) -> FeatureScore:
    """How well an explanation predicts the activations of records it was not made from; see `aio.score`."""
    return _wait(aio.score(explanation, records, llm=llm, base_url=base_url, simulator=simulator))


def write_report(path: Path, listener: Listener = SILENT) -> Path:
    """Write a run's report anew from its store; see `aio.write_report`."""
    return _wait(aio.write_report(path, listener))


def compare_runs(
    references: Sequence[str | Path],
    *,
    by: By = "dictionary",
    allow_mismatch: bool = False,
    known: str | None = None,
    out: Path | None = None,
    listener: Listener = SILENT,
) -> Comparison:
    """Which of finished runs' dictionaries, explainers, judges or protocols scores higher, or why nobody can say.

    Args:
        references: `RUN` or `RUN:ID`; a run alone stands for its trained dictionaries, its controls beside them.
        by: what is compared; everything else must be alike.
        allow_mismatch: compare runs that differ in more, and mark it.
        known: a dictionary to be found again, for the cards' recovery.
        out: the folder that receives `compare.json` and `compare.html`; nothing is written without it.

    Raises:
        UsageError: runs that differ, unfinished or unknown ones, or nothing to compare.
    """
    wish = Wish(tuple(map(str, references)), by, allow_mismatch, known)
    return make_comparison(wish, Loader(_load_weights, _load_known), out, listener.progress)


def plan_comparison(
    references: Sequence[str | Path], *, by: By = "dictionary", gap: float = 0.05, out: Path | None = None
) -> Plan:
    """How many features a comparison of these takes to see a gap four times in five, with finished runs as its pilot.

    With `out` the plan is kept there as `compare-plan.json`.

    Raises:
        UsageError: as `compare_runs`.
    """
    return make_plan(tuple(map(str, references)), by, gap, out)


def _load_weights(asked: DictionaryConfig, spec: DictionarySpec) -> Weights | str:
    try:
        from autointerp.compare.weights import load_weights
    except ModuleNotFoundError as error:
        return f"its weights are not loaded where {error.name} is not installed"
    return load_weights(asked, spec)


def _load_known(path: str, hook_point: str) -> Known:
    try:
        from autointerp.compare.weights import load_known
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--known loads weights, for which {error.name} is missing: install autointerp[harvest]"
        ) from None
    return load_known(path, hook_point)


def doctor(config: RunConfig | None = None) -> list[Finding]:
    """Versions, device, fit of model and dictionaries, disk: what is fine, doubtful or wrong, with the fix."""
    findings = check_machine()
    if config is None:
        return findings
    findings.append(check_folder(config))
    if all(finding.state == "ok" for finding in findings if finding.what in NEEDED_FOR_HARVEST):
        from autointerp.harvest.checkup import check_harvest

        findings += check_harvest(config, aio.cache_folder())
    return findings
