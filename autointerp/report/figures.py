"""The figures that stand in the page before any script runs: distributions, and means with intervals beside controls.

Feature scores and summaries flow in, SVG flows out. Positions across are percentages, so a figure fills whatever width
it gets and its labels never shrink. Colours come from the page's style sheet by class.
"""

from collections.abc import Sequence

from markupsafe import Markup

from autointerp.interpret.summary import DictionarySummary, Means
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
}
"""A shape for each control, the same wherever it stands."""


class Axis:
    """A linear axis over correlations, wide enough for all values it is given."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low = min(-0.2, TICK * (min(values, default=0.0) // TICK))
        self.low = max(-1.0, round(self.low, 6))
        self.high = 1.0

    def at(self, value: float) -> float:
        """Per cent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels."""
        n = round((self.high - self.low) / TICK)
        return [(self.at(self.low + k * TICK), fixed(self.low + k * TICK, 1)) for k in range(n + 1)]


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
    scores = _values([s.spearman for s in found])
    lookup, shuffled = _values([s.lookup for s in found]), _values([s.shuffled for s in found])
    lines = "".join(f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>' for x, _ in axis.ticks())
    zero = axis.at(0)
    shapes = "".join(
        f'<path class="{name}" d="{_outline(histogram(values, axis), peak)}"/>'
        for name, values in (("shuffled", shuffled), ("explained", scores), ("lookup", lookup))
        if values
    )
    return Markup(
        f'<svg class="panel" role="img" aria-label="{_describe(summary)}">{lines}'
        f'<line class="zero" x1="{zero}%" x2="{zero}%" y1="0" y2="100%"/>'
        f'<svg class="clip" width="100%" height="60" y="4" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{shapes}</svg>"
        f"{_marks(summary, axis)}</svg>"
    )


def peak_of(groups: Sequence[Sequence[FeatureEntry]], axis: Axis) -> float:
    """The tallest bin of explanations and look-up: all panels share one height scale; shuffled scores, which crowd
    around 0, leave at the top."""
    found = [[f.compared for f in group if f.compared] for group in groups]
    drawn = [_values([getattr(s, name) for s in group]) for group in found for name in ("spearman", "lookup")]
    return max([0.05, *(max(histogram(values, axis)) for values in drawn)])


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


def _marks(summary: DictionarySummary, axis: Axis) -> str:
    y = 78
    parts = []
    score = summary.spearman
    if summary.shuffled.counted_mean is not None:
        x = axis.at(summary.shuffled.counted_mean)
        parts.append(_at(x, y, f'<path class="mark-shuffled" d="{SHAPES["shuffled"]}"/>'))
    if summary.lookup.counted_mean is not None:
        x = axis.at(summary.lookup.counted_mean)
        parts.append(_at(x, y, f'<path class="mark-lookup" d="{SHAPES["lookup"]}"/>'))
    if score.low is not None and score.high is not None:
        low, high = axis.at(score.low), axis.at(score.high)
        parts.append(f'<line class="span-score" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>')
    if summary.null_threshold is not None:
        x = axis.at(summary.null_threshold)
        parts.insert(0, f'<line class="null" x1="{x}%" x2="{x}%" y1="{y - 12}" y2="{y + 12}"/>')
    if score.counted_mean is not None:
        parts.append(f'<circle class="mark-score" cx="{axis.at(score.counted_mean)}%" cy="{y}" r="4.5"/>')
    return "".join(parts)


def _at(x: float, y: float, shape: str) -> str:
    return f'<svg x="{x}%" y="{y}" overflow="visible">{shape}</svg>'


def _describe(summary: DictionarySummary) -> str:
    score = summary.spearman
    return (
        f"Mean Spearman {fixed(score.counted_mean)} {interval(score.low, score.high)}, "
        f"null threshold {fixed(summary.null_threshold)}, look-up {fixed(summary.lookup.counted_mean)}, "
        f"shuffled {fixed(summary.shuffled.counted_mean)}"
    )


def dot(means: Means, null: float | None, mark: str, axis: Axis) -> Markup:
    """One mean on the page's axis with its interval; the null threshold as a dashed line."""
    zero, y = axis.at(0), 11
    parts = [f'<line class="zero" x1="{zero}%" x2="{zero}%" y1="0" y2="100%"/>']
    if null is not None:
        parts.append(f'<line class="null" x1="{axis.at(null)}%" x2="{axis.at(null)}%" y1="0" y2="100%"/>')
    if means.low is not None and means.high is not None:
        low, high = axis.at(means.low), axis.at(means.high)
        parts.append(f'<line class="span-{mark}" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>')
    if means.counted_mean is not None:
        parts.append(_at(axis.at(means.counted_mean), y, f'<path class="mark-{mark}" d="{SHAPES[mark]}"/>'))
    return Markup(f'<svg class="mini" height="22" aria-hidden="true">{"".join(parts)}</svg>')
