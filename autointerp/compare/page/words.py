"""A contrast in plain words, for readers who know no statistics.

Contrasts flow in, sentences flow out, with `{a}` and `{b}` where the page sets the arms' names. No sentence claims more
than the verdict it stands under.
"""

from autointerp.compare.contrast import LEAST_FEATURES
from autointerp.compare.data import Arm, By, Contrast, NoEstimate, Verdict
from autointerp.report.findings import KINDS
from autointerp.report.text import fixed

BADGES: dict[Verdict, tuple[str, str]] = {
    "above": ("▲", "above"),
    "below": ("▼", "below"),
    "not_separable": ("≈", "not separable"),
    "not_comparable": ("∅", "not comparable"),
}
"""A sign and a word for each verdict."""
_WINS: dict[By, dict[str, str]] = {
    "dictionary": {
        "above": "{a} is easier to explain than {b}.",
        "below": "{a} is harder to explain than {b}.",
    },
    "explainer": {"above": "{a} explains better than {b}.", "below": "{a} explains worse than {b}."},
    "judge": {
        "above": "{a} predicts better than {b} from the same explanations.",
        "below": "{a} predicts worse than {b} from the same explanations.",
    },
    "protocol": {
        "above": "{a} gives higher scores than {b}.",
        "below": "{a} gives lower scores than {b}.",
    },
}
_WHY_NOT: dict[NoEstimate, str] = {
    "no_overlap": "At no density do both have enough features. How often a feature fires decides how easily it is "
    "scored, so a ranking would only rank how often they fire.",
    "too_few_features": f"Fewer than {LEAST_FEATURES} features of one of them have a score at densities that both "
    f"have.",
    "too_few_pairs": f"Fewer than {LEAST_FEATURES} features have a score both ways.",
    "not_measured": "What it takes was not measured.",
}


def headline(contrast: Contrast) -> str:
    """The verdict, in one sentence without a number."""
    if contrast.verdict == "not_separable":
        return "{a} and {b} cannot be told apart with these features."
    if contrast.verdict == "not_comparable":
        return "{a} and {b} cannot be ranked."
    return _WINS[contrast.by][contrast.verdict]


def meaning(c: Contrast) -> str:
    """What the verdict comes to, in numbers that need no statistics."""
    if c.difference is None or c.low is None or c.high is None:
        return _WHY_NOT[c.reason or "not_measured"]
    where = "feature by feature" if c.pairing and c.pairing.kind == "same_feature" else "at equal density"
    if c.verdict in ("above", "below"):
        more, (low, high) = ("higher", (c.low, c.high)) if c.difference > 0 else ("lower", (-c.high, -c.low))
        return (
            f"On average it scores {fixed(abs(c.difference))} {more}, {where}; anything from {fixed(low)} to "
            f"{fixed(high)} fits what was seen."
        )
    told = f"The gap seen {where} is {_gap(c.difference)}; anything from {_gap(c.low)} to {_gap(c.high)} fits as well."
    if c.low > 0 or c.high < 0:
        told = (
            f"The gap seen {where} is {_gap(c.difference)}, but with {c.family} contrasts looked at together it is "
            f"no more than chance may bring."
        )
    return told


def _gap(value: float) -> str:
    """A signed gap with three digits where two would hide it."""
    return fixed(value, 2 if abs(value) >= 0.01 else 3, sign=True)


def kind_of(arm: Arm) -> str:
    """What an arm is, where it is not an ordinary dictionary."""
    return "" if arm.kind == "trained" else KINDS[arm.kind][0]


def p_value(p: float | None) -> str:
    """`p = 0.031`, or below the least that is worth telling."""
    if p is None:
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {fixed(p, 3)}"


def absent(reason: NoEstimate | None) -> str:
    """Why there is no figure, short enough for a cell."""
    return {
        "no_overlap": "no shared densities",
        "too_few_features": "too few features",
        "too_few_pairs": "too few pairs",
        "not_measured": "not measured",
        None: "",
    }[reason]
