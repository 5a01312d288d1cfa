"""An open arm's features as arrays, and the arm's own record: its means, controls and denominators.

Open arms flow in; `Features` and `Arm` records flow out. Scores are those on the windows that every feature has.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from autointerp.compare.bootstrap import N_BESIDE, stratified_mean, weighted_mean
from autointerp.compare.contrast import as_estimate, mean_of
from autointerp.compare.data import GROUPS, Arm, Denominators, Estimate, FeaturePoints
from autointerp.compare.features import Features
from autointerp.compare.runs import OpenArm
from autointerp.compare.strata import LEAST_IN_STRATUM, Strata
from autointerp.interpret.summary import CONTROLS, counted
from autointerp.pipeline import final_outcomes
from autointerp.provenance import generator
from autointerp.records import Failed, Skipped
from autointerp.scores import FeatureScore


@dataclass(frozen=True)
class ReadArm:
    """An arm with its features read."""

    open: OpenArm
    features: Features
    controls: Mapping[str, Float[np.ndarray, " n"]]
    """Counted scores of every control, aligned with the features; NaN where there is none."""
    denominators: Denominators

    @property
    def key(self) -> str:
        """The arm's name."""
        return self.open.key


def read_arm(arm: OpenArm) -> ReadArm:
    """Every asked feature: in the means, or in the denominators with its reason."""
    results = arm.results
    asked = set(results.features)
    found = [s for s in results.store.scores(results.dictionary, results.key) if s.feature.index in asked]
    scores = [score.first or score for score in found]
    in_means = [score for score in scores if counted(score.spearman) is not None]
    index = np.array([score.feature.index for score in in_means], dtype=np.int64)
    profiles = [score.profile for score in in_means]
    controls = {name: _counted(in_means, name) for name in CONTROLS}
    features = Features(
        index=index,
        density=arm.source.n_active[index] / arm.source.n_tokens,
        value=_counted(in_means, "spearman"),
        lookup=controls["lookup"],
        shuffled=controls["shuffled"],
        entropy=np.array([np.nan if p is None else p.entropy_bits for p in profiles]),
        single=np.array([np.nan if p is None else float(p.single_token) for p in profiles]),
    )
    return ReadArm(arm, features, controls, _denominators(arm, asked, scores, len(in_means)))


def _counted(scores: Sequence[FeatureScore], name: str) -> Float[np.ndarray, " n"]:
    values = [counted(getattr(score, name)) for score in scores]
    return np.array([np.nan if value is None else value for value in values])


def _denominators(arm: OpenArm, asked: set[int], scores: Sequence[FeatureScore], n_counted: int) -> Denominators:
    ended = final_outcomes(arm.results)
    others = [ended[index] for index in sorted(asked - {score.feature.index for score in scores})]
    return Denominators(
        asked=len(asked),
        scored=sum(score.spearman.value is not None for score in scores),
        counted=n_counted,
        undefined=_tally([score.spearman.undefined for score in scores if score.spearman.undefined]),
        failed=_tally([outcome.reason for outcome in others if isinstance(outcome, Failed)]),
        skipped=_tally([outcome.reason for outcome in others if isinstance(outcome, Skipped)]),
    )


def _tally(reasons: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))


def describe_arm(arm: ReadArm, joint: Strata, entropy_edges: tuple[float, float] | None, seed: int) -> Arm:
    """The arm's record; `joint` are the strata that all asked arms share."""
    f, results, run = arm.features, arm.open.results, arm.open.run
    rng = generator(seed, "compare", "arm", arm.key)
    own = {group: f.take(f.within(group, entropy_edges)) for group in GROUPS}
    groups = joint.split(f.density, f.value)
    inside = sum(map(len, groups))
    firing = Estimate(value=None, n=len(f), undefined="too_few_features")
    if len(f) >= LEAST_IN_STRATUM:
        firing = as_estimate(weighted_mean(f.value, f.density, N_BESIDE, rng), len(f))
    standardised = Estimate(value=None, n=inside, undefined="no_overlap")
    if groups and min(map(len, groups)) >= LEAST_IN_STRATUM:
        standardised = as_estimate(stratified_mean(groups, joint.weights, N_BESIDE, rng), inside)
    return Arm(
        key=arm.key,
        run=run.name,
        spec=arm.open.spec,
        kind=arm.open.kind,
        asked=arm.open.asked,
        protocol=results.plan.label,
        n_windows=results.plan.n_windows,
        explainer=results.explainer_key,
        judge=results.simulator_key,
        denominators=arm.denominators,
        standardised=standardised,
        uniform=mean_of(f.value, rng),
        firing_weighted=firing,
        outside=len(f) - inside,
        controls={name: mean_of(values, rng) for name, values in arm.controls.items()},
        lift=mean_of(f.column("lift"), rng),
        groups={group: mean_of(part.value, rng) for group, part in own.items()},
        beside_groups={
            group: {
                "lookup": mean_of(part.lookup, rng),
                "shuffled": mean_of(part.shuffled, rng),
                "lift": mean_of(part.column("lift"), rng),
            }
            for group, part in own.items()
        },
        points=_points(f),
        usage=results.store.usage(
            results.dictionary, results.design, results.key, (*results.steps, results.refine_step)
        ),
    )


def _points(f: Features) -> FeaturePoints:
    return FeaturePoints(
        index=tuple(f.index.tolist()),
        density=tuple(float(f"{density:.6g}") for density in f.density.tolist()),
        value=tuple(np.round(f.value, 6).tolist()),
        lookup=_or_none(f.lookup),
        shuffled=_or_none(f.shuffled),
        entropy_bits=_or_none(f.entropy),
        single_token=tuple(None if np.isnan(flag) else bool(flag) for flag in f.single.tolist()),
    )


def _or_none(values: Float[np.ndarray, " n"]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else round(value, 6) for value in values.tolist())
