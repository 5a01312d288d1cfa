"""The runs under comparison, opened: from `RUN[:ID]` to arms, and what should be alike in them and is not.

References flow in; open arms flow out, each one dictionary under one protocol, explainer and judge. Reads run folders,
writes nothing. Computes no statistic.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from autointerp.compare.data import By, Kind
from autointerp.config import DictionaryConfig, RunConfig
from autointerp.endpoints import read_answerers
from autointerp.errors import UsageError, near_matches
from autointerp.harvest.events import Harvest
from autointerp.interpret.protocols import make_plan, plan_of
from autointerp.llm.witness import foreign_names
from autointerp.plans import Results
from autointerp.records import DictionarySpec, RunManifest
from autointerp.report.findings import control_kind
from autointerp.sources import FeatureSource, open_sources
from autointerp.store.folder import RunFolder, parse_reference
from autointerp.store.runs import RunStore, ScoreKey

_PART: dict[By, str] = {"explainer": "explainer", "judge": "simulator", "protocol": "protocol"}
"""The part of a score's key that such a comparison varies."""
_SHOWN = ("context", "prepend_bos", "skip_tokens", "special_tokens", "max_norm", "pack", "keep")
"""Settings of a harvest that decide which text a window can come from."""


@dataclass(frozen=True, eq=False)
class OpenRun:
    """One finished run, open for reading."""

    name: str
    """As the user wrote it."""
    folder: RunFolder
    config: RunConfig
    manifest: RunManifest
    store: RunStore
    sources: dict[str, FeatureSource]
    current: ScoreKey
    """How it was last explained and scored."""

    def dictionary(self, name: str) -> DictionaryConfig:
        """What the configuration says of one of its dictionaries."""
        return next(d for d in self.config.dictionary if d.id == name)

    def harvest(self, name: str) -> Harvest:
        """One of its dictionaries' harvest; a run of bare records has none."""
        return Harvest(self.folder.harvest, name)


@dataclass(frozen=True, eq=False)
class OpenArm:
    """One side of contrasts, before anything is computed."""

    key: str
    run: OpenRun
    source: FeatureSource
    results: Results
    asked: bool

    @property
    def spec(self) -> DictionarySpec:
        """Whose features it has."""
        return self.source.spec

    @property
    def kind(self) -> Kind:
        """What part its dictionary plays."""
        return control_kind(self.spec)

    def way(self, by: By) -> str:
        """What of it is compared: its explainer, judge or protocol, or itself."""
        return self.key if by == "dictionary" else str(getattr(self.results.key, _PART[by]))

    def harvest(self) -> Harvest | None:
        """Where its features come from; None for bare records."""
        return None if self.run.config.records is not None else self.run.harvest(self.spec.id)


@contextmanager
def open_arms(references: Sequence[str], by: By) -> Iterator[list[OpenArm]]:
    """The arms that references name, and the controls that their runs hold beside them.

    `RUN` alone stands for its trained dictionaries, or all where it has none. Compared by explainer, judge or protocol,
    an arm is every way in which a dictionary was scored that differs from the run's last in that alone.

    Raises:
        UsageError: no finished run, no such dictionary, the same twice, a run that is being written, or a single arm.
    """
    with ExitStack() as stack:
        runs: dict[Path, OpenRun] = {}
        named: list[tuple[OpenRun, str]] = []
        for text in references:
            path, wanted = parse_reference(text)
            if path.resolve() not in runs:
                runs[path.resolve()] = _open(path, stack)
            named += [(runs[path.resolve()], name) for name in _dictionaries(runs[path.resolve()], wanted)]
        twice = {f"{run.name}:{name}" for run, name in named if sum((run, name) == (r, n) for r, n in named) > 1}
        if twice:
            raise UsageError(f"{', '.join(sorted(twice))} is named twice; name two different dictionaries")
        arms = _arms(named, list(runs.values()), by)
        if not any(contrasted(a, b, by) for a, b in combinations(arms, 2)):
            raise UsageError(_alone(arms, by))
        yield arms


def contrasted(a: OpenArm, b: OpenArm, by: By) -> bool:
    """Whether two arms make a contrast: any two dictionaries, or one dictionary's features scored two ways."""
    return by == "dictionary" or (a.spec.weights_digest == b.spec.weights_digest and a.way(by) != b.way(by))


def _open(path: Path, stack: ExitStack) -> OpenRun:
    folder = RunFolder.existing(path)
    stack.enter_context(folder.lock())
    config, keys, manifest = folder.config(), folder.result_keys(), folder.manifest()
    if not keys or manifest is None or not folder.summary.is_file():
        raise UsageError(f"{path} has no finished scores; run `autointerp score {path}` first")
    store = RunStore(folder.store)
    stack.callback(store.close)
    sources = {source.spec.id: source for source in open_sources(folder, config)}
    current = ScoreKey(
        make_plan(config.protocol, config.score).label, str(keys["explainer_key"]), str(keys["simulator_key"])
    )
    return OpenRun(str(path), folder, config, manifest, store, sources, current)


def _dictionaries(run: OpenRun, wanted: str | None) -> list[str]:
    if wanted is not None:
        if wanted not in run.sources:
            raise UsageError(
                f"{run.name} holds no dictionary {wanted}; near: {near_matches(wanted, list(run.sources))}"
            )
        return [wanted]
    trained = [name for name, source in run.sources.items() if source.spec.role == "trained"]
    return trained or list(run.sources)


def _arms(named: Sequence[tuple[OpenRun, str]], runs: Sequence[OpenRun], by: By) -> list[OpenArm]:
    found: list[tuple[OpenRun, str, ScoreKey, bool]] = []
    if by == "dictionary":
        found += [(run, name, run.current, True) for run, name in named]
        found += [
            (run, name, run.current, False)
            for run in runs
            for name, source in run.sources.items()
            if source.spec.role != "trained" and (run, name) not in named
        ]
    else:
        for run, name in named:
            found += [
                (run, name, key, True) for key in run.store.score_keys(name) if _differs_only(key, run.current, by)
            ]
    labels = [_name(run, name, key, by, found) for run, name, key, _ in found]
    return [
        OpenArm(label, run, run.sources[name], _results(run, name, key), asked)
        for label, (run, name, key, asked) in zip(labels, found, strict=True)
    ]


def _differs_only(key: ScoreKey, current: ScoreKey, by: By) -> bool:
    """Whether a way of scoring is the run's last but for what is compared."""
    return key._replace(**{_PART[by]: getattr(current, _PART[by])}) == current


def _name(run: OpenRun, name: str, key: ScoreKey, by: By, found: Sequence[tuple[OpenRun, str, ScoreKey, bool]]) -> str:
    """As short as tells the arms apart."""
    several_runs = len({id(r) for r, n, _, _ in found if n == name}) > 1
    named = f"{run.folder.path.resolve().name}:{name}" if several_runs else name
    if several_runs and len({r.folder.path.resolve().name for r, _, _, _ in found}) < len(
        {id(r) for r, _, _, _ in found}
    ):
        named = f"{run.name}:{name}"
    if by == "dictionary":
        return named
    part = str(getattr(key, _PART[by]))
    return part if len({(id(r), n) for r, n, _, _ in found}) == 1 else f"{named} {part}"


def _results(run: OpenRun, name: str, key: ScoreKey) -> Results:
    return Results(
        store=run.store,
        dictionary=name,
        features=run.sources[name].select(run.config.features, run.config.seed),
        plan=plan_of(key.protocol),
        explainer_key=key.explainer,
        simulator_key=key.simulator,
    )


def _alone(arms: Sequence[OpenArm], by: By) -> str:
    if by == "dictionary":
        return "a comparison takes two dictionaries; name another run, or one that holds controls beside its dictionary"
    known = ", ".join(dict.fromkeys(arm.way(by) for arm in arms)) or "none"
    return f"only one {by} was used ({known}) with all else alike; `autointerp score RUN` with another one adds it"


def find_mismatches(arms: Sequence[OpenArm], by: By) -> list[str]:
    """What the asked arms should have alike and have not, in sentences; the first is held against the others."""
    asked = [arm for arm in arms if arm.asked] or list(arms)
    found = []
    for other in asked[1:]:
        found += [
            f"{what} differs: {mine} in {asked[0].key}, {theirs} in {other.key}"
            for what, mine, theirs in _compared(asked[0], other, by)
            if mine != theirs
        ]
    return found


def _compared(a: OpenArm, b: OpenArm, by: By) -> Iterator[tuple[str, object, object]]:
    """What should be alike, and what it is in each arm."""
    first, second = a.run.config, b.run.config
    yield "the corpus", _corpus(a), _corpus(b)
    yield "the seed of splits and windows", first.seed, second.seed
    for name in _SHOWN:
        yield (
            f"[harvest] {name}, which decides the windows,",
            getattr(first.harvest, name),
            getattr(second.harvest, name),
        )
    if by != "protocol":
        yield "the protocol", a.results.plan.label, b.results.plan.label
    if by != "explainer":
        yield "the explainer", a.results.explainer_key, b.results.explainer_key
    if by != "judge":
        yield "the judge", a.results.simulator_key, b.results.simulator_key
        yield "who answered for the judge", *_answered(a, b)


def _answered(a: OpenArm, b: OpenArm) -> tuple[str, str]:
    """Under which names answers came in each arm; versions of the model that was asked are alike, as it is."""
    found = [read_answerers(arm.run.folder, arm.run.config) for arm in (a, b)]
    names = [sorted(who.served) if who else [] for who in found]
    foreign = any(who is not None and foreign_names(who.asked, who.served) for who in found)
    if not foreign or not all(names):
        return "", ""
    return " and ".join(names[0]), " and ".join(names[1])


def _corpus(arm: OpenArm) -> str:
    return f"{arm.run.config.corpus or 'bare records'} ({arm.source.corpus_digest[-12:]})"
