"""Before paying: how many features the planned contrasts need for a gap, from a pilot run's variance, and their price.

Open arms of a pilot flow in, a `Plan` flows out. The pilot's own strata and weights are kept, so what standardising
costs is in the figure; the number scales with the square of the standard error.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np

from autointerp.compare.arms import ReadArm, read_arm
from autointerp.compare.bootstrap import ALPHA
from autointerp.compare.collect import planned_pairs
from autointerp.compare.contrast import LEAST_FEATURES, Sides, standard_error
from autointerp.compare.data import By, Plan, PlannedContrast
from autointerp.compare.pairing import Matcher
from autointerp.compare.power import POWER, features_needed_at, least_gap
from autointerp.compare.runs import OpenArm, OpenRun
from autointerp.compare.verdict import short
from autointerp.llm.prices import Prices
from autointerp.llm.registry import name_endpoint
from autointerp.records import Usage


def plan_arms(opened: Sequence[OpenArm], by: By, gap: float) -> Plan:
    """What a comparison of these arms at full size needs."""
    arms = [read_arm(arm) for arm in opened]
    pairs = [(a, b) for a, b, planned in planned_pairs(arms, by) if planned]
    alpha = ALPHA / len(pairs)
    matcher = Matcher()
    contrasts = tuple(_planned(a, b, by, gap, alpha, matcher) for a, b in pairs)
    needed = [c.n_needed for c in contrasts if c.n_needed is not None]
    planned = list(dict.fromkeys(arm.key for pair in pairs for arm in pair))
    counting = [arm for arm in arms if arm.key in planned]
    share = min(arm.denominators.counted / max(1, arm.denominators.asked) for arm in counting)
    n_features = ceil(max(needed) / share) if needed and share else None
    return Plan(
        gap=gap,
        power=POWER,
        alpha=alpha,
        contrasts=contrasts,
        n_features=n_features,
        features_alive={arm.key: int((arm.open.source.n_active > 0).sum()) for arm in counting},
        cost=sum((_cost(arm, n_features) for arm in counting), Usage()),
        dollars=_dollars(counting, n_features),
        seconds=_seconds(counting, n_features),
    )


def _planned(a: ReadArm, b: ReadArm, by: By, gap: float, alpha: float, matcher: Matcher) -> PlannedContrast:
    pairs = matcher.pairs(a, b, by) if by != "dictionary" else "planned as independent features"
    error = standard_error(Sides(a.key, b.key, a.features, b.features, by, True, pairs, None, 0))
    n_a, n_b = len(a.features), len(b.features)
    needed = separable = None
    sentence = (
        f"{a.key} and {b.key}: the pilot has too few features at densities that both have, so nothing can be planned"
    )
    if error is not None:
        needed = max(LEAST_FEATURES, features_needed_at(gap, error, 2 / (1 / n_a + 1 / n_b), alpha))
        separable = round(least_gap(error, alpha), 6)
        sentence = (
            f"{a.key} against {b.key}: a gap of {short(gap)} takes about {needed:,} features of each; "
            f"the pilot's {n_a:,} and {n_b:,} show one of {short(separable)}"
        )
    return PlannedContrast(
        a=a.key,
        b=b.key,
        sd_a=_sd(a),
        sd_b=_sd(b),
        n_pilot_a=n_a,
        n_pilot_b=n_b,
        n_needed=needed,
        separable_now=separable,
        sentence=sentence,
    )


def _sd(arm: ReadArm) -> float:
    return round(float(np.std(arm.features.value, ddof=1)), 6) if len(arm.features) > 1 else 0.0


def _cost(arm: ReadArm, n_features: int | None) -> Usage:
    """What explaining and scoring so many features costs, at the pilot's price a feature."""
    results = arm.open.results
    spent = results.store.usage(results.dictionary, results.design, results.key, (*results.steps, results.refine_step))
    times = (n_features or 0) / max(1, arm.denominators.asked)
    return Usage(**{name: ceil(value * times) for name, value in spent.model_dump().items()})


def _dollars(arms: Sequence[ReadArm], n_features: int | None) -> float | None:
    """Of all arms together; None where an endpoint's price is not known. Cached answers cost nothing again."""
    total = 0.0
    for arm in arms:
        config, usage = arm.open.run.config, _cost(arm, n_features)
        if not usage.calls or config.llm is None:
            continue
        price = Prices(config.prices).price(name_endpoint(config.llm, config.base_url), usage)
        if price is None:
            return None
        total += price
    return round(total, 4)


def _seconds(arms: Sequence[ReadArm], n_features: int | None) -> float | None:
    """What the pilots took after their harvests, scaled; None where a manifest does not say."""
    total = 0.0
    for arm in arms:
        took = _seconds_a_feature(arm.open.run)
        if took is None or n_features is None:
            return None
        total += took * n_features
    return round(total, 1)


def _seconds_a_feature(run: OpenRun) -> float | None:
    asked = sum(len(source.select(run.config.features, run.config.seed)) for source in run.sources.values())
    harvested = _harvest_seconds(run)
    if run.manifest.seconds is None or harvested is None or run.manifest.seconds <= harvested:
        return None
    return (run.manifest.seconds - harvested) / max(1, asked)


def _harvest_seconds(run: OpenRun) -> float | None:
    """Of all passes; dictionaries on the same weights share one."""
    if run.config.records is not None:
        return 0.0
    passes: dict[int | None, float] = {}
    for d in run.config.dictionary:
        seconds = run.harvest(d.id).manifest.get("seconds")
        if seconds is None:
            return None
        passes[d.rerandomise_seed] = max(passes.get(d.rerandomise_seed, 0.0), float(seconds))
    return sum(passes.values())
