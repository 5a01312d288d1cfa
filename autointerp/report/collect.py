"""From a finished run to what its report shows.

A run's configuration, harvest, store and summaries flow in; `ReportData` flows out. Reads, computes nothing but
sentences, writes nothing. Knows no HTML.
"""

from collections.abc import Callable, Mapping, Sequence

from autointerp.config import RunConfig
from autointerp.interpret.summary import DictionarySummary
from autointerp.pipeline import final_outcomes
from autointerp.plans import Results
from autointerp.records import (
    DictionarySpec,
    Example,
    Failed,
    FeatureRecord,
    FeatureStats,
    RunManifest,
    Simulation,
    Skipped,
)
from autointerp.report.data import (
    Control,
    CorpusFacts,
    DictionaryEntry,
    FeatureEntry,
    ProtocolFacts,
    ReportData,
    ReportWindow,
    RunFacts,
)
from autointerp.report.findings import KINDS, control_kind, tell, why_low
from autointerp.scores import FeatureScore
from autointerp.sources import FeatureSource
from autointerp.spending import StageSpending

Progress = Callable[[str, int, int], None]
FREE = {
    "lookup": ("token look-up", "mean level of each token over the explain part, no text"),
    "bigram": ("bigram look-up", "mean level of each pair of neighbouring tokens there"),
    "position": ("position only", "mean level by place in the text"),
    "constant": ("constant prediction", "one level everywhere: undefined, counted as 0"),
    "shuffled": ("shuffled explanation", "another feature's explanation on the same windows"),
}
"""Controls that need no dictionary of their own: name, and how they predict."""


def collect_report(
    config: RunConfig,
    manifest: RunManifest,
    sources: Sequence[FeatureSource],
    plans: Sequence[Results],
    summaries: Mapping[str, DictionarySummary],
    progress: Progress,
    spending: tuple[StageSpending, ...] = (),
    answerers: Sequence[str] = (),
) -> ReportData:
    """Everything the report shows, for the features and the protocol that `plans` name.

    `answerers` says in sentences who answered where that is not plain.
    """
    features: list[FeatureEntry] = []
    scores: dict[str, list[FeatureScore]] = {}
    for source, plan in zip(sources, plans, strict=True):
        scores[plan.dictionary] = [
            s for s in plan.store.scores(plan.dictionary, plan.key) if s.feature.index in set(plan.features)
        ]
        by_index = {score.feature.index: score for score in scores[plan.dictionary]}
        ended = final_outcomes(plan)
        for n, index in enumerate(plan.features, start=1):
            entry = _feature(plan, index, by_index.get(index), ended[index], source)
            features.append(entry)
            progress(f"report {plan.dictionary}", n, len(plan.features))
    facts = _run_facts(config, manifest, sources, plans, summaries, scores)
    return ReportData(
        run=facts.model_copy(update={"spending": spending, "findings": (*facts.findings, *answerers)}),
        dictionaries=tuple(_dictionary(source.spec, summaries[source.spec.id]) for source in sources),
        features=tuple(features),
    )


def _run_facts(
    config: RunConfig,
    manifest: RunManifest,
    sources: Sequence[FeatureSource],
    plans: Sequence[Results],
    summaries: Mapping[str, DictionarySummary],
    scores: Mapping[str, Sequence[FeatureScore]],
) -> RunFacts:
    plan = plans[0].plan
    specs = {source.spec.id: source.spec for source in sources}
    return RunFacts(
        title=f"{_name(config.model)} on {_name(config.corpus)}" if config.records is None else config.records.stem,
        created=(manifest.closed or manifest.started)[:10],
        model=_name(config.model) or "not known",
        corpus=CorpusFacts(
            name=_name(config.corpus) or str(config.records), digest=manifest.corpus_digest, n_tokens=manifest.n_tokens
        ),
        protocol=ProtocolFacts(
            name=plan.label,
            n_windows=plan.n_windows,
            most_windows=plan.most_windows if plan.most_windows > plan.n_windows else None,
            description=plan.protocol.description,
        ),
        explainer=plans[0].explainer_key,
        simulator=plans[0].simulator_key,
        seed=config.seed,
        versions=manifest.packages,
        command=f"autointerp run {config.out}/config.toml --out {config.out}",
        controls=_controls(sources, summaries),
        findings=tuple(tell(specs, summaries, scores, config.seed)),
        usage=manifest.usage if manifest.usage.calls else None,
    )


def _name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def _controls(sources: Sequence[FeatureSource], summaries: Mapping[str, DictionarySummary]) -> tuple[Control, ...]:
    """Every control that should stand beside a score, found or named as missing."""
    kinds = {control_kind(source.spec) for source in sources}
    per_feature = [
        Control(name=name, present=any(getattr(s, field).n for s in summaries.values()), note=note)
        for field, (name, note) in FREE.items()
    ]
    return (
        *per_feature,
        Control(name="null threshold", present=any(s.null_threshold is not None for s in summaries.values()),
                note="95 % point of the score with the predictions permuted over the windows, 2,000 draws"),
        *(Control(name=name, present=kind in kinds, note=what if kind in kinds else f"{what}; {how}")
          for kind, (name, what, how) in KINDS.items()),
    )  # fmt: skip


def _dictionary(spec: DictionarySpec, summary: DictionarySummary) -> DictionaryEntry:
    return DictionaryEntry(
        id=spec.id,
        role=spec.role,
        kind=spec.kind,
        hook_point=spec.hook_point or "not known",
        d_sae=spec.d_sae or summary.n_features,
        n_alive=summary.n_alive,
        n_tokens=summary.n_tokens,
        summary=summary,
    )


def _feature(
    plan: Results, index: int, score: FeatureScore | None, outcome: object, source: FeatureSource
) -> FeatureEntry:
    feature = plan.feature(index)
    record = plan.store.record(feature, plan.design)
    own = plan.store.explanation(feature, plan.design, plan.explainer_key)
    stats: FeatureStats = record.stats if record else source.feature_stats(index)
    reason: str | None = None if score is None else score.spearman.undefined
    if isinstance(outcome, Failed | Skipped):
        reason = outcome.reason
    state = "scored" if score and score.spearman.value is not None else "undefined"
    if score is None:
        state = "skipped" if isinstance(outcome, Skipped) else "failed"
    return FeatureEntry.model_validate(
        {
            "dictionary": plan.dictionary,
            "index": index,
            "state": state,
            "reason": reason,
            "why": why_low(score, outcome),
            "density": stats.density,
            "n_active": stats.n_active,
            "max": stats.max,
            "explanation": own.explanation.text if own else None,
            "author": own.explanation.author if own else None,
            "no_pattern": bool(own and own.explanation.no_pattern),
            "refinement": own.explanation.refinement if own else None,
            "score": score,
            "profile": record.token_profile if record else None,
            "histogram": stats.histogram,
            "deciles": stats.deciles,
            "facts": record.facts if record else source.feature_facts(index),
            "windows": _windows(plan, record) if record else (),
        }
    )


def _windows(plan: Results, record: FeatureRecord) -> tuple[ReportWindow, ...]:
    """The windows explained from, those scored on, and the negatives that the explanation's words point at."""
    simulation = plan.store.simulation(record.feature, plan.key, "explanation")
    guided = plan.store.simulation(record.feature, plan.key, "guided") or Simulation(levels=())
    score = record.splits.score
    levels: Sequence[Sequence[int] | None] = simulation.levels if simulation else ()
    asked = score[: len(levels)] if levels else [e for e in score if e.block < plan.plan.first_blocks]
    return (
        *(report_window("explain", example, None) for example in record.splits.explain),
        *(report_window("score", example, levels[i] if levels else None) for i, example in enumerate(asked)),
        *(report_window("guided", e, said) for e, said in zip(guided.examples, guided.levels, strict=True)),
    )


def report_window(part: str, example: Example, simulated: Sequence[int] | None) -> ReportWindow:
    """A window as pages show it; `simulated` levels are the target's alone where there is one."""
    return ReportWindow.model_validate(
        {
            "part": part,
            "stratum": example.stratum,
            "decile": example.decile,
            "document": example.record.document,
            "row": example.record.row,
            "start": example.record.start,
            "tokens": example.record.tokens,
            "levels": example.levels,
            "activations": example.record.activations,
            "target": example.target,
            "simulated": simulated,
        }
    )
