"""What the figures say in words: how scores stand beside their controls, and why a score is low.

Feature scores and summaries flow in, sentences flow out. A sentence never claims more than its interval.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from autointerp.harvest.massive import tell_massive
from autointerp.interpret.simulate import WINDOWS_A_REQUEST
from autointerp.interpret.statistics import N_BOOTSTRAP, bootstrap_mean
from autointerp.interpret.summary import LEAST_FOR_INTERVAL, DictionarySummary, Means, counted, counted_values
from autointerp.provenance import generator
from autointerp.records import DictionarySpec, Failed, Skipped
from autointerp.report.text import fixed, interval, per_cent
from autointerp.scores import FeatureScore, Score

Kind = Literal["random", "control", "basis", "trained"]
KINDS: dict[Kind, tuple[str, str, str]] = {
    "random": ("random directions", "as many, at matched density", "add them with --dictionary random@ID"),
    "control": (
        "re-randomised dictionary",
        "trained on the same model with redrawn matrices",
        'give one with role = "control"',
    ),
    "basis": ("neuron basis", "the model's own neurons", "add them with --dictionary neurons@HOOK"),
}
"""Controls that are dictionaries of their own: name, what they are, and how to have one."""
_REASONS = {
    "too_few_windows": "the score part has too little text for it: 20 windows, 5 of them active, from 5 sources",
    "no_pattern": "the explainer found no clear pattern",
    "constant_prediction": "the explanation predicts the same level everywhere",
    "constant_truth": "the feature's activation is the same everywhere",
    "too_many_failures": "more than 10 % of its windows were not answered",
    "dead": "it is active on no token of this corpus",
    "no_activation_to_explain": "it is active on no token of the explain part",
}


def control_kind(spec: DictionarySpec) -> Kind:
    """Which part a dictionary plays beside the others."""
    if spec.role != "control":
        return spec.role
    return "random" if spec.source.startswith("random@") else "control"


def tell(
    specs: Mapping[str, DictionarySpec],
    summaries: Mapping[str, DictionarySummary],
    scores: Mapping[str, Sequence[FeatureScore]],
    seed: int,
) -> Iterator[str]:
    """Sentences on a run, most important first."""
    trained = [name for name, summary in summaries.items() if summary.role == "trained"]
    others = [name for name in summaries if name not in trained]
    firsts = {name: [score.first or score for score in found] for name, found in scores.items()}
    for name in trained or others:
        yield _beside_its_controls(name, summaries[name], firsts[name], seed)
    for other in others if trained else ():
        for name in trained:
            yield _difference(name, other, _named(specs[other]), firsts, seed)
    for name in trained or others:
        yield from _shares(name, scores[name])
        yield from _by_tokens(name, summaries[name])
    yield from tell_spending(summaries)
    harvested = {name: summary.metrics for name, summary in summaries.items() if summary.metrics}
    for sentence in tell_massive(harvested, {name: specs[name].hook_point for name in harvested}):
        yield sentence + "."


def tell_spending(summaries: Mapping[str, DictionarySummary]) -> Iterator[str]:
    """What refining brought and stopping early saved, and for how many features specificity is not tested."""
    for name, summary in summaries.items():
        yield from _refined(name, summary)
    yield from _untested(list(summaries.values()))
    yield from _saved(list(summaries.values()))


def _named(spec: DictionarySpec) -> str:
    kind = control_kind(spec)
    if kind == "random":
        return f"Random directions ({spec.id})"
    if spec.rerandomise_seed is not None:
        return f"The re-randomised control ({spec.id})"
    return f"The control ({spec.id})" if kind == "control" else f"The neuron basis ({spec.id})"


def _beside_its_controls(name: str, summary: DictionarySummary, scores: Sequence[FeatureScore], seed: int) -> str:
    s = summary.spearman
    if s.counted_mean is None:
        return f"{name}: no feature has a score, so nothing can be said of it."
    if s.low is None or s.high is None:
        return (
            f"{name}: mean Spearman {fixed(s.counted_mean)} over {s.n} features; an interval needs "
            f"{LEAST_FOR_INTERVAL}, so nothing is said of its controls."
        )
    text = f"{name}: mean Spearman {fixed(s.counted_mean)} {interval(s.low, s.high)}"
    if summary.null_threshold is not None:
        text += f", null threshold {fixed(summary.null_threshold)}"
    controls = (
        ("shuffled explanations", summary.shuffled, [score.shuffled for score in scores]),
        ("the token look-up", summary.lookup, [score.lookup for score in scores]),
        ("the bigram look-up", summary.bigram, [score.bigram for score in scores]),
    )
    said = [_against(label, means, scores, found, seed) for label, means, found in controls]
    return "; ".join([text, *filter(None, said)]) + "."


def _against(label: str, means: Means, own: Sequence[FeatureScore], found: Sequence[Score], seed: int) -> str:
    """Where the explanations lie beside a control of the same features, by the paired difference."""
    both = [(counted(score.spearman), counted(other)) for score, other in zip(own, found, strict=True)]
    gaps = np.array([a - b for a, b in both if a is not None and b is not None])
    if len(gaps) < LEAST_FOR_INTERVAL:
        return ""
    low, high = bootstrap_mean(gaps, seed)
    mean = f"({fixed(means.counted_mean)} {interval(means.low, means.high)})"
    gap = float(gaps.mean())
    if low > 0:
        return f"{fixed(gap)} {interval(low, high)} above {label} {mean}"
    if high < 0:
        return f"{fixed(-gap)} {interval(-high, -low)} below {label} {mean}"
    return f"not separable from {label} {mean}: difference {fixed(gap, sign=True)} {interval(low, high)}"


def _difference(name: str, other: str, said: str, scores: Mapping[str, Sequence[FeatureScore]], seed: int) -> str:
    """How far another dictionary lies from a trained one, with a bootstrap interval over features."""
    a, b = (counted_values([score.spearman for score in scores[i]]) for i in (name, other))
    if min(len(a), len(b)) < LEAST_FOR_INTERVAL:
        return f"{said} against {name}: too few scores to compare."
    rng = generator(seed, "difference", name, other)
    draws = [
        rng.choice(a, (200, len(a))).mean(axis=1) - rng.choice(b, (200, len(b))).mean(axis=1)
        for _ in range(N_BOOTSTRAP // 200)
    ]
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    gap = a.mean() - b.mean()
    verb, does_not = ("lie", "do not lie") if said.startswith("Random") else ("lies", "does not lie")
    if low > 0:
        return f"{said} {verb} {fixed(gap)} {interval(low, high)} below {name}."
    if high < 0:
        return f"{said} {verb} {fixed(-gap)} {interval(-high, -low)} above {name}, not below it."
    return f"{said} {does_not} below {name}: the difference {fixed(gap)} {interval(low, high)} spans zero."


def _shares(name: str, scores: Sequence[FeatureScore]) -> Iterator[str]:
    """On how many features the score is clear of look-up and of its null."""
    lifts = [(s.lift.low, s.lift.high) for s in scores if s.lift.low is not None and s.lift.high is not None]
    nulls = [(s.spearman.value, s.spearman.null_threshold) for s in scores]
    tested = [(v, null) for v, null in nulls if v is not None and null is not None]
    said = []
    if lifts:
        above, below = sum(low > 0 for low, _ in lifts), sum(high < 0 for _, high in lifts)
        spans = len(lifts) - above - below
        said.append(
            f"the interval of the difference to look-up lies above 0 for {_of(above, len(lifts))} features, "
            f"spans it for {_of(spans, len(lifts))} and lies below for {_of(below, len(lifts))}"
        )
    if tested:
        said.append(f"{_of(sum(v > null for v, null in tested), len(tested))} scores are above their null threshold")
    if said:
        yield f"{name}: {'; '.join(said)}."


def _of(n: int, total: int) -> str:
    return f"{n:,} of {total:,} ({per_cent(n, total)})"


def _by_tokens(name: str, summary: DictionarySummary) -> Iterator[str]:
    kinds = (("single token", "features of a single token"), ("several tokens", "features of several tokens"))
    found = [(label, summary.splits[key]) for key, label in kinds if key in summary.splits]
    said = [
        f"{fixed(m.counted_mean)} {interval(m.low, m.high)} on {m.n} {label}".replace("  ", " ")
        for label, m in found
        if m.counted_mean is not None
    ]
    if len(said) == len(kinds):
        yield f"{name}: mean Spearman {', '.join(said)}."


def _refined(name: str, summary: DictionarySummary) -> Iterator[str]:
    r = summary.refinement
    if r is None:
        return
    text = f"{name}: {r.kept} of {r.asked} revised explanations were better on the select part and kept"
    if r.gain is not None:
        spans = " (spans zero)" if r.low is not None and r.high is not None and r.low <= 0 <= r.high else ""
        text += f"; mean gain in Spearman on the score part {fixed(r.gain, sign=True)} {interval(r.low, r.high)}{spans}"
    tokens = r.usage.input_tokens + r.usage.output_tokens
    yield f"{text}; cost {r.usage.calls:,} requests, {tokens:,} tokens."


def _untested(summaries: Sequence[DictionarySummary]) -> Iterator[str]:
    n, scored = sum(s.specificity_untested for s in summaries), sum(s.scored for s in summaries)
    if n:
        yield (
            f"Specificity is not tested for {_of(n, scored)} scored features: "
            "fewer than 10 hard negatives were found and answered."
        )


def _saved(summaries: Sequence[DictionarySummary]) -> Iterator[str]:
    saved, asked = sum(s.windows_saved for s in summaries), sum(s.windows_asked for s in summaries)
    if saved:
        requests = math.ceil(saved / WINDOWS_A_REQUEST)
        yield (
            f"Stopping where a score was clear left {_of(saved, saved + asked)} windows unasked: about {requests:,} "
            f"requests of a language model, {WINDOWS_A_REQUEST} windows each."
        )


def why_low(score: FeatureScore | None, outcome: object) -> str | None:
    """A short sentence, with the numbers behind it, on why a feature has no score or a low one; None for a good one."""
    if isinstance(outcome, Failed):
        return f"{outcome.stage} failed: {outcome.message}"
    if isinstance(outcome, Skipped):
        return _REASONS.get(outcome.reason, outcome.reason)
    if score is None or score.why is None:
        return None
    if score.spearman.undefined:
        return _REASONS.get(score.spearman.undefined, score.spearman.undefined)
    if score.why == "fires_too_broadly":
        return f"fires too broadly: of 1,000 silent tokens it predicts activation on {_alarms(score)}"
    if score.why == "wrong_order":
        return f"finds where the feature is active, but not how strongly{_among_active(score)}"
    missed = "strong" if score.why == "misses_high" else "weak"
    weak, strong = (_recall(score.recall_by_decile[half]) for half in (slice(0, 5), slice(5, 10)))
    return f"misses {missed} activations: predicts above 0 on {strong} of the stronger half, {weak} of the weaker"


def _alarms(score: FeatureScore) -> str:
    found = [(kind, share) for kind, share in score.false_positives.items() if share is not None]
    return ", ".join(f"{share:.0f} of {kind} text" for kind, share in found)


def _among_active(score: FeatureScore) -> str:
    value = next((s.value for s in score.more if s.metric == "spearman_among_active"), None)
    return "" if value is None else f": Spearman among active windows {fixed(value)}"


def _recall(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{100 * sum(known) / len(known):.0f} %" if known else "no window"
