"""How far a run is: by dictionary and stage what is done, skipped, failed and why, and what is left.

A run's folder flows in, read beside its writer; a `RunStatus` flows out. Changes nothing and asks nobody.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from autointerp.config import RunConfig
from autointerp.harvest.events import is_finished, tokens_done
from autointerp.interpret.protocols import make_plan
from autointerp.plans import NEVER_ANSWERED, Results
from autointerp.records import Record
from autointerp.sources import open_sources
from autointerp.spending import StageSpending, read_spending
from autointerp.store.folder import RunFolder
from autointerp.store.runs import RunStore
from autointerp.underway import Underway, read_underway

STAGES = ("explain", "score", "shuffled")


class StageStatus(Record):
    """The features of one stage; done + skipped + failed + open is all that were asked for, or drawn."""

    done: int = 0
    skipped: int = 0
    failed: dict[str, int] = Field(default_factory=dict)
    """By reason; those never answered are asked again by the next run, the others by `autointerp retry`."""
    open: int = 0


class DictionaryStatus(Record):
    """One dictionary of a run."""

    harvested: bool
    tokens_done: int | None = None
    """Tokens of the finished shards of an unfinished harvest; None before it has begun."""
    tokens: int | None = None
    """Of the whole corpus."""
    n_features: int | None = None
    """Asked for; None before the harvest is finished."""
    stages: dict[str, StageStatus] = Field(default_factory=dict)
    lost_windows: dict[str, int] = Field(default_factory=dict)
    """Features with a score of which some windows failed, by reason."""


class RunStatus(Record):
    """How far a run is."""

    running: str | None
    """Who writes it now."""
    stopped: str | None
    """Why it ended early the last time, where it did."""
    finished: bool
    """Whether its summary stands, with nothing left that the next run would do."""
    dictionaries: dict[str, DictionaryStatus]
    underway: tuple[Underway, ...] = ()
    """Stages of a harvest that is being written now, one of each part."""
    spending: tuple[StageSpending, ...] = ()
    """What language models have cost it, by stage."""


def read_status(folder: RunFolder) -> RunStatus:
    """How far a run is.

    Raises:
        UsageError: the folder holds no run.
    """
    config, running = folder.config(), folder.writer()
    keys = folder.result_keys()
    harvested = {d.id: config.records is not None or is_finished(folder.harvest / d.id) for d in config.dictionary}
    if all(harvested.values()) and keys and folder.store.is_file():
        dictionaries = _of_store(folder, config, keys)
    else:
        dictionaries = {name: _of_harvest(folder, name, done=done) for name, done in harvested.items()}
    left = [stage for d in dictionaries.values() for stage in d.stages.values() if _is_left(stage)]
    return RunStatus(
        running=running,
        stopped=_text(folder.read_note("stopped").get("message")),
        finished=running is None and folder.summary.is_file() and not left,
        dictionaries=dictionaries,
        underway=read_underway(folder) if running else (),
        spending=read_spending(folder.calls, config.prices),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _of_harvest(folder: RunFolder, name: str, *, done: bool) -> DictionaryStatus:
    so_far, tokens = (None if done else tokens_done(folder.harvest, name)) or (None, None)
    return DictionaryStatus(harvested=done, tokens_done=so_far, tokens=tokens)


def _is_left(stage: StageStatus) -> bool:
    return stage.open > 0 or any(reason in NEVER_ANSWERED for reason in stage.failed)


def _of_store(folder: RunFolder, config: RunConfig, keys: Mapping[str, str]) -> dict[str, DictionaryStatus]:
    store = RunStore(folder.store, reading=True)
    try:
        found = {}
        for source in open_sources(folder, config):
            results = Results(
                store=store,
                dictionary=source.spec.id,
                features=source.select(config.features, config.seed),
                plan=make_plan(config.protocol, config.score),
                **keys,
            )
            found[source.spec.id] = DictionaryStatus(
                harvested=True,
                n_features=len(results.features),
                stages=_stages(results),
                lost_windows=store.lost_windows(results.dictionary, results.key),
            )
        return found
    finally:
        store.close()


def _stages(results: Results) -> dict[str, StageStatus]:
    chosen, explained, scored = (results.store.ends(results.dictionary, step) for step in results.steps)
    shuffled = results.store.ends(results.dictionary, results.shuffled_step)
    ended = {**explained, **{index: word for index, word in chosen.items() if word == "skipped"}}
    to_score = [index for index in results.features if ended.get(index) == "done"]
    stages = {
        "explain": _count([ended.get(index) for index in results.features]),
        "score": _count([scored.get(index) for index in to_score]),
        "shuffled": _count([shuffled[index] for index in to_score if index in shuffled]),
    }
    return {name: stages[name] for name in STAGES}


def _count(words: Sequence[str | None]) -> StageStatus:
    counts = Counter(words)
    done, skipped, left = counts.pop("done", 0), counts.pop("skipped", 0), counts.pop(None, 0)
    failed = {str(reason): n for reason, n in counts.most_common()}
    return StageStatus(done=done, skipped=skipped, failed=failed, open=left)
