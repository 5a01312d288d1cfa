"""The public functions, plain: each runs its coroutine of `aio` on one background loop, so they work in a notebook too.

Configurations and paths flow in; summaries flow out. Nothing is computed here.
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
from autointerp.config import HarvestPart, RunConfig, SimulatorName
from autointerp.estimate import Estimate
from autointerp.harvest.events import PartDone
from autointerp.interpretation import Summaries
from autointerp.listener import SILENT, Listener
from autointerp.moving import ExportedReplies, ImportedReplies
from autointerp.records import Finding
from autointerp.scores import FeatureScore
from autointerp.status import RunStatus

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


def retry(path: Path, listener: Listener = SILENT, *, refused: bool = False) -> Summaries:
    """Ask again what ended Failed; see `aio.retry`."""
    return _wait(aio.retry(path, listener, refused=refused))


def read_status(path: Path) -> RunStatus:
    """How far a run is; see `aio.status`."""
    return _wait(aio.status(path))


def import_records(path: Path, out: Path, dictionary: str = "records", seed: int = 0) -> int:
    """Make a run of bare records; see `aio.import_records`."""
    return _wait(aio.import_records(path, out, dictionary, seed))


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
