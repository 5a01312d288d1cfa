"""The figures that stand in the page before any script runs: distributions with means, intervals and controls.

Feature scores and summaries flow in, SVG flows out. Positions across are percentages, so a figure fills whatever width
it gets and its labels never shrink. Colours come from the page's style sheet by class.
"""

from collections.abc import Sequence

from markupsafe import Markup

from autointerp.interpret.summary import DictionarySummary
from autointerp.report.data import FeatureEntry
from autointerp.report.text import fixed, interval

BIN = 0.05
TICK = 0.2


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
    values = [v for f in features for v in (f.spearman.value, f.lookup, f.shuffled) if v is not None]
    return Axis(values)


def histogram(values: Sequence[float], axis: Axis) -> list[float]:
    """Share of the values in each bin of the axis."""
    n = round((axis.high - axis.low) / BIN)
    counts = [0] * n
    for value in values:
        counts[min(n - 1, max(0, int((value - axis.low) / BIN + 1e-9)))] += 1
    return [count / len(values) for count in counts] if values else [0.0] * n


def distribution(features: Sequence[FeatureEntry], summary: DictionarySummary, axis: Axis, peak: float) -> Markup:
    """One dictionary's panel: the explanations' scores filled, the controls as outlines, the means below."""
    scores = [f.spearman.value for f in features if f.spearman.value is not None]
    lookup = [f.lookup for f in features if f.lookup is not None]
    shuffled = [f.shuffled for f in features if f.shuffled is not None]
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
    scores = [[f.spearman.value for f in group if f.spearman.value is not None] for group in groups]
    lookup = [[f.lookup for f in group if f.lookup is not None] for group in groups]
    return max([0.05, *(max(histogram(values, axis)) for values in (*scores, *lookup))])


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
        parts.append(_at(x, y, '<path class="mark-shuffled" d="M-4 -4L4 4M4 -4L-4 4"/>'))
    if summary.lookup.counted_mean is not None:
        x = axis.at(summary.lookup.counted_mean)
        parts.append(_at(x, y, '<path class="mark-lookup" d="M0 -6L6 0L0 6L-6 0Z"/>'))
    if score.low is not None and score.high is not None:
        low, high = axis.at(score.low), axis.at(score.high)
        parts.append(f'<line class="mark-interval" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>')
    if score.counted_mean is not None:
        parts.append(f'<circle class="mark-score" cx="{axis.at(score.counted_mean)}%" cy="{y}" r="4.5"/>')
    return "".join(parts)


def _at(x: float, y: float, shape: str) -> str:
    return f'<svg x="{x}%" y="{y}" overflow="visible">{shape}</svg>'


def _describe(summary: DictionarySummary) -> str:
    score = summary.spearman
    return (
        f"Mean Spearman {fixed(score.counted_mean)} {interval(score.low, score.high)}, "
        f"look-up {fixed(summary.lookup.counted_mean)}, shuffled {fixed(summary.shuffled.counted_mean)}"
    )
