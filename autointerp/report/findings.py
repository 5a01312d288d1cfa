"""What the figures say in words: how far controls lie from trained dictionaries, and why a score is low.

Feature scores flow in, sentences flow out. A sentence never claims more than its interval.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autointerp.interpret.statistics import N_BOOTSTRAP
from autointerp.interpret.summary import DictionarySummary, counted_values
from autointerp.provenance import generator
from autointerp.records import Failed, Skipped
from autointerp.report.text import fixed, interval
from autointerp.scores import FeatureScore

LOW = 0.3
FIRED_LEVELS = 0.5
_REASONS = {
    "too_few_windows": "the score part has too little text for it: 20 windows, 5 of them active, from 5 sources",
    "no_pattern": "the explainer found no clear pattern",
    "constant_prediction": "the explanation predicts the same level everywhere",
    "constant_truth": "the feature's activation is the same everywhere",
    "too_many_failures": "more than 10 % of its windows were not answered",
    "dead": "it is active on no token of this corpus",
    "no_activation_to_explain": "it is active on no token of the explain part",
}


def compare_controls(
    summaries: Mapping[str, DictionarySummary], scores: Mapping[str, Sequence[FeatureScore]], seed: int
) -> Iterator[str]:
    """A sentence for every trained dictionary against its shuffled explanations, look-up, and every control."""
    trained = [name for name, summary in summaries.items() if summary.role == "trained"]
    for name in trained:
        yield from _against_own_controls(name, summaries[name])
    for control in (name for name, summary in summaries.items() if summary.role != "trained"):
        for name in trained:
            yield _difference(name, control, scores, seed)


def _against_own_controls(name: str, summary: DictionarySummary) -> Iterator[str]:
    s, shuffled = summary.spearman, summary.shuffled.counted_mean
    if s.counted_mean is None or s.low is None or s.high is None:
        yield f"{name}: no feature has a score, so nothing can be said of it."
        return
    text = f"{name}: mean Spearman {fixed(s.counted_mean)} {interval(s.low, s.high)}"
    if shuffled is not None:
        where = "above" if s.low > shuffled else "below" if s.high < shuffled else "not separable from"
        text += f", {where} that of shuffled explanations ({fixed(shuffled)})"
    if summary.lookup.counted_mean is not None:
        text += f"; the full look-up table reaches {fixed(summary.lookup.counted_mean)}"
    yield text + "."


def _difference(name: str, control: str, scores: Mapping[str, Sequence[FeatureScore]], seed: int) -> str:
    """How far a control lies from a trained dictionary, with a bootstrap interval over features."""
    a, b = (counted_values([score.spearman for score in scores[i]]) for i in (name, control))
    if len(a) < 2 or len(b) < 2:
        return f"{control} against {name}: too few scores to compare."
    rng = generator(seed, "difference", name, control)
    draws = [
        rng.choice(a, (200, len(a))).mean(axis=1) - rng.choice(b, (200, len(b))).mean(axis=1)
        for _ in range(N_BOOTSTRAP // 200)
    ]
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    gap = a.mean() - b.mean()
    if low > 0:
        return f"{control} lies {fixed(gap)} {interval(low, high)} below {name}."
    if high < 0:
        return f"{control} lies {fixed(-gap)} {interval(-high, -low)} above {name}, not below it."
    return f"{control} does not lie below {name}: the difference {fixed(gap)} {interval(low, high)} spans zero."


def why_low(score: FeatureScore | None, outcome: object) -> str | None:
    """A short sentence on why a feature has no score or a low one; None for a good one."""
    if isinstance(outcome, Failed):
        return f"{outcome.stage} failed: {outcome.message}"
    if isinstance(outcome, Skipped):
        return _REASONS.get(outcome.reason, outcome.reason)
    if score is None:
        return None
    if score.spearman.undefined:
        return _REASONS.get(score.spearman.undefined, score.spearman.undefined)
    if score.spearman.value is None or score.spearman.value >= LOW:
        return None
    silent = max((v for s, v in score.per_stratum.items() if s != "decile" and v is not None), default=0.0)
    active = score.per_stratum.get("decile") or 0.0
    if silent >= FIRED_LEVELS and silent >= active / 2:
        return "the explanation fires too broadly: it predicts activation on silent text"
    return "the explanation misses activations" if active >= silent else "the explanation fires on silent text"
