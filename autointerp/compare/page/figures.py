"""The figures of a comparison, all of them in the page before any script runs.

Arms, contrasts and cards flow in, SVG flows out. Positions are percentages of whatever room a figure gets; colours and
signs come from the page's style sheet by the arm's place. A feature is drawn once and used in every figure that shows
it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from autointerp.compare.card import Activity
from autointerp.compare.data import Arm, Contrast, Difference, Estimate
from autointerp.report import text
from autointerp.report.figures import Axis, Mean, Scale, dot, marks_of, panel

N_SIGNS = 6
SIGNS = (
    "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "M0 -5.5L5.5 4.5H-5.5Z",
    "M0 -6L6 0L0 6L-6 0Z",
    "M-2 -5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z",
    "M0 5.5L5.5 -4.5H-5.5Z",
)
"""One for each arm, as the glyphs beside their names."""
GRID = 1000
"""Steps across and up at which features are drawn: two in one place are one."""
_NEAR, _DODGE, _PER_CENT = 4, 26, 3
"""Arms within so many per cent across stand side by side, so many pixels apart; pixels a per cent at the least."""


class LogScale:
    """A logarithmic axis, with a tick a decade; `tell` makes labels."""

    def __init__(self, values: Iterable[float], tell: Callable[[float], str]) -> None:
        self._tell = tell
        logs = [math.log10(value) for value in values if value > 0] or [-4.0, -2.0]
        room = 0.03 * max(0.5, max(logs) - min(logs))
        self.low, self.high = min(logs) - room, max(logs) + room
        """log10 of the ends."""

    def at(self, value: float) -> float:
        """Per cent from the left."""
        return round(100 * (math.log10(value) - self.low) / (self.high - self.low), 3)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels; between the decades too where there are few."""
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        inside = [10.0**k for k in decades if self.low <= k <= self.high]
        if len(inside) < 2:
            inside = [m * 10.0**k for k in decades for m in (1, 2, 5) if self.low <= k + math.log10(m) <= self.high]
        return [(self.at(value), self._tell(value)) for value in inside]


def nice_scale(values: Iterable[float], least: float = 0.1) -> Scale:
    """A linear axis over the values, at least so wide, from a round number to a round number."""
    found = list(values) or [0.0]
    low, high = min(found), max(found)
    middle, width = (low + high) / 2, max(high - low, least)
    low, high = min(low, middle - width / 2), max(high, middle + width / 2)
    power = 10.0 ** math.floor(math.log10(width / 5))
    step = next(power * m for m in (1, 2, 5, 10) if width / (power * m) <= 6)
    return Scale(step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9), step)


def mean_axis(arms: Sequence[Arm]) -> Axis:
    """One axis for all means and distributions."""
    means = [m for a in arms for m in (a.standardised, a.uniform, a.firing_weighted, *a.controls.values())]
    return Axis([v for m in means for v in (m.value, m.low) if v is not None])


def gap_scale(differences: Iterable[Difference | Contrast]) -> Scale:
    """One axis for all differences, with 0 on it."""
    ends = [end for d in differences for end in (d.low, d.high) if end is not None]
    return nice_scale([0.0, *ends], least=0.2)


def even_scale(contrasts: Iterable[Contrast]) -> Scale:
    """As `gap_scale`, with 0 in the middle."""
    ends = [abs(end) for c in contrasts for end in (c.low, c.high) if end is not None]
    return nice_scale([-max(ends, default=0.0), *ends], least=0.2)


def mark(estimate: Estimate | Difference, name: str, scale: Scale) -> Markup:
    """A mean or a difference with its interval, on a line of its own."""
    return dot(Mean(estimate.value, estimate.low, estimate.high), name, scale)


def gap_mark(contrast: Contrast, scale: Scale) -> Markup:
    """A contrast's headline likewise."""
    return dot(Mean(contrast.difference, contrast.low, contrast.high), "score", scale)


def distribution(arm: Arm, axis: Axis, peak: float) -> Markup:
    """One arm's panel: scores filled, look-up and shuffled explanations as outlines, the means below."""
    known = {
        name: [v for v in values if v is not None]
        for name, values in (
            ("shuffled", arm.points.shuffled),
            ("explained", arm.points.value),
            ("lookup", arm.points.lookup),
        )
    }
    u = arm.uniform
    controls = {name: mean.value for name, mean in arm.controls.items() if name in known}
    label = f"Mean {text.fixed(u.value)} {text.interval(u.low, u.high)}"
    return panel(known, marks_of(Mean(u.value, u.low, u.high), controls, None, axis), label, axis, peak)


class CloudAxes(NamedTuple):
    """The axes of score against density, the same for all arms."""

    x: LogScale
    y: Axis

    def place(self, density: float, value: float) -> tuple[int, int]:
        """On the grid that features are drawn on."""
        across = min(100.0, max(0.0, self.x.at(density)))
        return round(GRID * across / 100), round(GRID * (100 - self.y.at(value)) / 100)


def cloud_axes(arms: Sequence[Arm]) -> CloudAxes:
    """Wide enough for every feature."""
    return CloudAxes(
        LogScale((d for arm in arms for d in arm.points.density), text.share),
        Axis([v for arm in arms for v in arm.points.value]),
    )


def cloud(arm: Arm, place: int, axes: CloudAxes) -> Markup:
    """An arm's features as one path of dots, to be used by name."""
    dots = sorted({axes.place(d, v) for d, v in zip(arm.points.density, arm.points.value, strict=True)})
    path = "".join(f"M{x} {y}h0" for x, y in dots)
    few = " few" if len(dots) < 300 else ""
    return Markup(f'<path id="cloud-{place}" class="cloud{few}" d="{path}"/>')


def density_plot(contrast: Contrast, places: tuple[int, int], axes: CloudAxes) -> Markup:
    """Score against density of both arms: the shared strata shaded, each arm's mean in every stratum as a bar."""
    x, y = axes
    parts = []
    for row in contrast.strata:
        left, right = max(0.0, x.at(row.low)), min(100.0, x.at(row.high))
        if row.weight:
            parts.append(f'<rect class="shared" x="{left}%" width="{round(right - left, 3)}%" y="0" height="100%"/>')
    for at, _ in y.ticks():
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{100 - at}%" y2="{100 - at}%"/>')
    zero = 100 - y.at(0)
    parts.append(f'<line class="zero" x1="0" x2="100%" y1="{zero}%" y2="{zero}%"/>')
    clouds = "".join(f'<use href="#cloud-{place}" class="a{place % N_SIGNS}"/>' for place in reversed(places))
    parts.append(f'<svg viewBox="0 0 {GRID} {GRID}" preserveAspectRatio="none">{clouds}</svg>')
    for place, which in zip(reversed(places), ("mean_b", "mean_a"), strict=True):
        for row in contrast.strata:
            mean = getattr(row, which)
            if row.weight and mean is not None:
                left, right = x.at(row.low), x.at(row.high)
                up = round(100 - y.at(mean), 3)
                ends = f'x1="{left}%" x2="{right}%" y1="{up}%" y2="{up}%"'
                parts.append(f'<line class="halo" {ends}/><line class="level a{place % N_SIGNS}" {ends}/>')
    label = text.visible(f"Score of each feature of {contrast.a} and {contrast.b} against its density")
    return Markup(f'<svg class="field" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


class Spot(NamedTuple):
    """One arm in a figure of scores against a property of its dictionary."""

    place: int
    key: str
    x: float
    standardised: Estimate
    uniform: Estimate


def spots(found: Sequence[Spot], x: Scale | LogScale, y: Scale, label: str) -> Markup:
    """Means with intervals against a property; arms near each other stand side by side, over marks at their places."""
    parts = [f'<line class="grid" x1="0" x2="100%" y1="{100 - at}%" y2="{100 - at}%"/>' for at, _ in y.ticks()]
    parts += [f'<line class="grid" x1="{at}%" x2="{at}%" y1="0" y2="100%"/>' for at, _ in x.ticks()]
    places = [x.at(spot.x) for spot in found]
    parts += [_spot(spot, at, dodge, y) for spot, at, dodge in zip(found, places, _dodges(places), strict=True)]
    return Markup(f'<svg class="field" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>')


def _spot(spot: Spot, at: float, dodge: float, y: Scale) -> str:
    """An arm's two means, `dodge` pixels aside of a mark at its place."""
    colour, sign, body = f"a{spot.place % N_SIGNS}", SIGNS[spot.place % N_SIGNS], ""
    for mean, name, aside in ((spot.uniform, "uniform", 6), (spot.standardised, "score", -6)):
        if mean.value is not None and mean.low is not None and mean.high is not None:
            low, middle, high = (round(100 - y.at(v), 3) for v in (mean.low, mean.value, mean.high))
            body += f'<line class="span-{name}" x1="{aside}" x2="{aside}" y1="{low}%" y2="{high}%"/>'
            body += f'<svg x="{aside}" y="{middle}%"><path class="mark-{name}" d="{sign}"/></svg>'
    means = f"{text.fixed(spot.standardised.value)} at equal density, {text.fixed(spot.uniform.value)} over all"
    title = f"<title>{escape(text.visible(spot.key))}: {means}</title>"
    return (
        f'<line class="rug {colour}" x1="{at}%" x2="{at}%" y1="100%" y2="96%"/>'
        f'<svg class="{colour}" x="{at}%" width="1" height="100%">'
        f'<g transform="translate({dodge} 0)">{title}{body}</g></svg>'
    )


def _dodges(places: Sequence[float]) -> list[float]:
    """Pixels aside for each, so that those near each other stand apart, in the order of their places."""
    aside = [0.0] * len(places)
    order = sorted(range(len(places)), key=lambda k: places[k])
    groups: list[list[int]] = []
    for k in order:
        if groups and places[k] - places[groups[-1][-1]] < _NEAR:
            groups[-1].append(k)
        else:
            groups.append([k])
    for group in groups:
        for step, k in enumerate(group):
            middle = sum(places[i] for i in group) / len(group)
            aside[k] = round(_DODGE * (step - (len(group) - 1) / 2) - _PER_CENT * (places[k] - middle), 1)
    return aside


def density_histogram(activity: Activity, low: float) -> Markup:
    """Live features by log10 density, from `low` to 0."""
    edges, counts = activity.log_density_edges, activity.log_density_counts
    top = max(1, *counts)
    bars = ""
    for k, n in enumerate(counts):
        left, right = (100 * (edge - low) / -low for edge in (edges[k], edges[k + 1]))
        if n:
            height = max(1.0, round(40 * n / top, 1))
            said = f"{n:,} features from {text.share(10 ** edges[k])} to {text.share(10 ** edges[k + 1])}"
            bars += (
                f'<rect x="{left:.2f}%" width="{0.9 * (right - left):.2f}%" y="{41 - height}" height="{height}">'
                f"<title>{said}</title></rect>"
            )
    ticks = "".join(
        f'<text x="{100 * (k - low) / -low:.1f}%" y="54">{text.share(10.0**k)}</text>'
        for k in range(math.floor(low) + 1, 0, 2)
    )
    return Markup(
        f'<svg class="densities" height="58" role="img" aria-label="Histogram of densities">{bars}'
        f'<line class="zero" x1="0" x2="100%" y1="41.5" y2="41.5"/>{ticks}</svg>'
    )
