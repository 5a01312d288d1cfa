"""The figures that stand in the page before any script runs: distributions, and means with intervals beside controls.

Feature scores and summaries flow in, SVG flows out. Positions across are percentages, so a figure fills whatever width
it gets and its labels never shrink. Colours come from the page's style sheet by class.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from autointerp.interpret.summary import DictionarySummary
from autointerp.report.data import FeatureEntry
from autointerp.report.text import fixed, interval
from autointerp.scores import Score

BIN = 0.05
TICK = 0.2
SHAPES = {
    "score": "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0 -4.5 0Z",
    "lookup": "M0 -6L6 0L0 6L-6 0Z",
    "bigram": "M-4 -4H4V4H-4Z",
    "position": "M0 -5L5 4H-5Z",
    "shuffled": "M-4 -4L4 4M4 -4L-4 4",
    "constant": "M0 -5V5",
    "uniform": "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
    "firing": "M0 4.5L4.5 -3.5H-4.5Z",
    "paired": "M-4.5 -1.5H-1.5V-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5Z",
}
"""A shape for each control and each kind of mean, the same wherever it stands."""


class Mean(NamedTuple):
    """A mean with its interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


class Scale:
    """A linear axis from `low` to `high`, with a tick every `step`."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self.low, self.high, self.step = round(low, 6), round(high, 6), step

    def at(self, value: float) -> float:
        """Per cent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels."""
        n, digits = round((self.high - self.low) / self.step), max(0, -math.floor(math.log10(self.step) + 1e-9))
        places = [self.low + k * self.step for k in range(n + 1)]
        return [(self.at(place), fixed(place, digits)) for place in places]


class Axis(Scale):
    """An axis over correlations, wide enough for all values it is given."""

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__(max(-1.0, min(-0.2, TICK * (min(values, default=0.0) // TICK))), 1.0, TICK)


def axis_of(features: Sequence[FeatureEntry]) -> Axis:
    """One axis for all dictionaries of a report."""
    scored = [score for f in features for score in (f.score, f.compared) if score]
    columns = [(s.spearman, s.lookup, s.bigram, s.position, s.shuffled) for s in scored]
    return Axis([score.value for column in columns for score in column if score.value is not None])


def histogram(values: Sequence[float], axis: Axis) -> list[float]:
    """Share of the values in each bin of the axis."""
    n = round((axis.high - axis.low) / BIN)
    counts = [0] * n
    for value in values:
        counts[min(n - 1, max(0, int((value - axis.low) / BIN + 1e-9)))] += 1
    return [count / len(values) for count in counts] if values else [0.0] * n


def distribution(features: Sequence[FeatureEntry], summary: DictionarySummary, axis: Axis, peak: float) -> Markup:
    """One dictionary's panel: the explanations' scores filled, the controls as outlines, the means below."""
    found = [f.compared for f in features if f.compared]
    layers = {
        "shuffled": _values([s.shuffled for s in found]),
        "explained": _values([s.spearman for s in found]),
        "lookup": _values([s.lookup for s in found]),
    }
    own = summary.spearman
    controls = {"shuffled": summary.shuffled.counted_mean, "lookup": summary.lookup.counted_mean}
    marks = marks_of(Mean(own.counted_mean, own.low, own.high), controls, summary.null_threshold, axis)
    return panel(layers, marks, _describe(summary), axis, peak)


def panel(layers: Mapping[str, Sequence[float]], marks: str, label: str, axis: Axis, peak: float) -> Markup:
    """Distributions over one axis, by the class each is drawn in, and marks below them."""
    lines = "".join(f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>' for x, _ in axis.ticks())
    zero = axis.at(0)
    shapes = "".join(
        f'<path class="{name}" d="{_outline(histogram(values, axis), peak)}"/>'
        for name, values in layers.items()
        if values
    )
    return Markup(
        f'<svg class="panel" role="img" aria-label="{escape(label)}">{lines}'
        f'<line class="zero" x1="{zero}%" x2="{zero}%" y1="0" y2="100%"/>'
        f'<svg class="clip" width="100%" height="60" y="4" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{shapes}</svg>"
        f"{marks}</svg>"
    )


def peak_of(groups: Sequence[Sequence[FeatureEntry]], axis: Axis) -> float:
    """The tallest bin of explanations and look-up: all panels share one height scale; shuffled scores, which crowd
    around 0, leave at the top."""
    found = [[f.compared for f in group if f.compared] for group in groups]
    return tallest(
        [_values([getattr(s, name) for s in group]) for group in found for name in ("spearman", "lookup")], axis
    )


def tallest(groups: Sequence[Sequence[float]], axis: Axis) -> float:
    """Share of the values in the fullest bin of all groups, at least one in twenty."""
    return max([0.05, *(max(histogram(values, axis)) for values in groups)])


def _values(scores: Sequence[Score]) -> list[float]:
    return [score.value for score in scores if score.value is not None]


def _outline(shares: Sequence[float], peak: float) -> str:
    """Steps over the bins that hold something; nothing is drawn over empty ones."""
    width = 100 / len(shares)
    points: list[str] = []
    drawing = False
    for k, share in enumerate([*shares, 0.0]):
        x = round(k * width, 2)
        if drawing and not share:
            points.append(f"L{x} 100")
        if share:
            y = round(100 - 96 * share / peak, 1)
            points.append(f"{'' if drawing else f'M{x} 100'}L{x} {y}L{round(x + width, 2)} {y}")
        drawing = bool(share)
    return "".join(points)


def marks_of(mean: Mean, controls: Mapping[str, float | None], null: float | None, axis: Axis) -> str:
    """A mean with its interval in front of its controls, below a distribution; the null threshold as a dashed line."""
    y = 78
    parts = []
    if null is not None:
        parts.append(f'<line class="null" x1="{axis.at(null)}%" x2="{axis.at(null)}%" y1="{y - 12}" y2="{y + 12}"/>')
    for name, value in controls.items():
        if value is not None:
            parts.append(_at(axis.at(value), y, f'<path class="mark-{name}" d="{SHAPES[name]}"/>'))
    parts.append(_span(mean, "score", axis, y))
    if mean.value is not None:
        parts.append(f'<circle class="mark-score" cx="{axis.at(mean.value)}%" cy="{y}" r="4.5"/>')
    return "".join(parts)


def _span(mean: Mean, mark: str, scale: Scale, y: int) -> str:
    if mean.low is None or mean.high is None:
        return ""
    low, high = (min(100.0, max(0.0, scale.at(end))) for end in (mean.low, mean.high))
    return f'<line class="span-{mark}" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>'


def _at(x: float, y: float, shape: str) -> str:
    return f'<svg x="{x}%" y="{y}" overflow="visible">{shape}</svg>'


def _describe(summary: DictionarySummary) -> str:
    score = summary.spearman
    return (
        f"Mean Spearman {fixed(score.counted_mean)} {interval(score.low, score.high)}, "
        f"null threshold {fixed(summary.null_threshold)}, look-up {fixed(summary.lookup.counted_mean)}, "
        f"shuffled {fixed(summary.shuffled.counted_mean)}"
    )


def dot(mean: Mean, mark: str, scale: Scale, null: float | None = None) -> Markup:
    """One mean on a common axis with its interval; the null threshold as a dashed line."""
    zero, y = scale.at(0), 11
    parts = [f'<line class="zero" x1="{zero}%" x2="{zero}%" y1="0" y2="100%"/>']
    if null is not None:
        parts.append(f'<line class="null" x1="{scale.at(null)}%" x2="{scale.at(null)}%" y1="0" y2="100%"/>')
    parts.append(_span(mean, mark, scale, y))
    if mean.value is not None:
        parts.append(_at(scale.at(mean.value), y, f'<path class="mark-{mark}" d="{SHAPES[mark]}"/>'))
    return Markup(f'<svg class="mini" height="22" aria-hidden="true">{"".join(parts)}</svg>')
