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
    Headline,
    MoreScores,
    ProtocolFacts,
    ReportData,
    ReportWindow,
    RunFacts,
    WithInterval,
)
from autointerp.report.findings import compare_controls, why_low
from autointerp.scores import FeatureScore, Score
from autointerp.sources import FeatureSource

Progress = Callable[[str, int, int], None]


def collect_report(
    config: RunConfig,
    manifest: RunManifest,
    sources: Sequence[FeatureSource],
    plans: Sequence[Results],
    summaries: Mapping[str, DictionarySummary],
    progress: Progress,
) -> ReportData:
    """Everything the report shows, for the features and the protocol that `plans` name."""
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
    return ReportData(
        run=_run_facts(config, manifest, plans, summaries, scores),
        dictionaries=tuple(_dictionary(source.spec, summaries[source.spec.id]) for source in sources),
        features=tuple(features),
    )


def _run_facts(
    config: RunConfig,
    manifest: RunManifest,
    plans: Sequence[Results],
    summaries: Mapping[str, DictionarySummary],
    scores: Mapping[str, Sequence[FeatureScore]],
) -> RunFacts:
    plan = plans[0].plan
    return RunFacts(
        title=f"{_name(config.model)} on {_name(config.corpus)}" if config.records is None else config.records.stem,
        created=(manifest.closed or manifest.started)[:10],
        model=_name(config.model) or "not known",
        corpus=CorpusFacts(
            name=_name(config.corpus) or str(config.records), digest=manifest.corpus_digest, n_tokens=manifest.n_tokens
        ),
        protocol=ProtocolFacts(name=plan.label, n_windows=plan.n_windows, description=plan.protocol.description),
        explainer=plans[0].explainer_key,
        simulator=plans[0].simulator_key,
        seed=config.seed,
        versions=manifest.packages,
        command=f"autointerp run {config.out}/config.toml --out {config.out}",
        controls=_controls(summaries),
        findings=tuple(compare_controls(summaries, scores, config.seed)),
        usage=manifest.usage if manifest.usage.calls else None,
    )


def _name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def _controls(summaries: Mapping[str, DictionarySummary]) -> tuple[Control, ...]:
    roles = {summary.role for summary in summaries.values()}
    return (
        Control(name="look-up baseline", present=True, note="mean level of each token over the explain part, no text"),
        Control(name="shuffled explanation", present=True, note="another feature's explanation on the same windows"),
        Control(
            name="re-randomised dictionary",
            present="control" in roles,
            note='trained on the same model with redrawn matrices; give one with role = "control"',
        ),
        Control(name="random directions", present=False, note="at matched density; this version does not make them"),
        Control(name="neuron basis", present="basis" in roles, note="the model's own neurons, neurons@HOOK"),
    )


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
    simulation = plan.store.simulation(feature, plan.key, "explanation")
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
            "histogram": stats.histogram,
            "deciles": stats.deciles,
            "facts": record.facts if record else source.feature_facts(index),
            "windows": _windows(record, simulation) if record else (),
            **(_scores(score) if score else {}),
        }
    )


def _scores(score: FeatureScore) -> dict[str, object]:
    more = {s.metric: s.value for s in score.more}
    return {
        "spearman": Headline(
            **_interval(score.spearman),
            null_threshold=score.spearman.null_threshold,
            ceiling=score.spearman.ceiling,
        ),
        "lookup": score.lookup.value,
        "lift": WithInterval(**_interval(score.lift)),
        "shuffled": score.shuffled.value,
        "shuffled_from": str(score.shuffled_from) if score.shuffled_from else None,
        "more": MoreScores(pearson=more.get("pearson"), spearman_window_mean=more.get("spearman_window_mean")),
    }


def _interval(score: Score) -> dict[str, float | None]:
    return {"value": score.value, "low": score.low, "high": score.high}


def _windows(record: FeatureRecord, simulation: Simulation | None) -> tuple[ReportWindow, ...]:
    levels = simulation.levels if simulation else ()
    scored = record.splits.score[: len(levels) or None]
    return (
        *(_window("explain", example, None) for example in record.splits.explain),
        *(_window("score", e, levels[i] if levels else None) for i, e in enumerate(scored)),
    )


def _window(part: str, example: Example, simulated: Sequence[int] | None) -> ReportWindow:
    return ReportWindow.model_validate(
        {
            "part": part,
            "stratum": example.stratum,
            "decile": example.decile,
            "document": example.record.document,
            "tokens": example.record.tokens,
            "levels": example.levels,
            "activations": example.record.activations,
            "target": example.target,
            "simulated": simulated,
        }
    )
