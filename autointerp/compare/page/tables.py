"""The rows of the page's tables and forests.

Arms and contrasts flow in; names, figures and numbers flow out, ready for the template. Computes no statistic.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from autointerp.compare.data import Arm, Contrast, Difference, Estimate
from autointerp.compare.page import figures
from autointerp.compare.page.words import absent
from autointerp.report.figures import Scale
from autointerp.report.text import fixed, interval


class Line(NamedTuple):
    """One line of a forest."""

    name: str
    figure: Markup
    value: str
    interval: str
    n: str
    missing: str
    """Why there is no figure; empty where there is one."""
    title: str = ""


class Forest(NamedTuple):
    """Lines that belong together."""

    place: int
    """Of the arm whose colour they take."""
    contrast: Contrast | None
    lines: list[Line]


def mean_forests(arms: Sequence[Arm], scale: Scale) -> list[Forest]:
    """Every arm's means, and its explanations' controls below them."""
    return [Forest(place, None, list(_mean_lines(arm, scale))) for place, arm in enumerate(arms)]


def _mean_lines(arm: Arm, scale: Scale) -> Iterator[Line]:
    yield _line("At equal density", arm.standardised, "score", scale, "over the densities that all asked arms share")
    yield _line("Over all features", arm.uniform, "uniform", scale, "every feature counts the same")
    yield _line("By firing", arm.firing_weighted, "firing", scale, "every feature counts by its density")
    for name, label in (("lookup", "Token look-up"), ("shuffled", "Shuffled")):
        if name in arm.controls:
            yield _line(label, arm.controls[name], name, scale, "over all features, on the same windows")


def gap_forests(contrasts: Sequence[Contrast], places: Mapping[str, int], scale: Scale) -> list[Forest]:
    """Every planned contrast's differences, however they are taken."""
    return [Forest(places[c.a], c, list(_gap_lines(c, scale))) for c in contrasts]


def _gap_lines(c: Contrast, scale: Scale) -> Iterator[Line]:
    same = c.pairing is not None and c.pairing.kind == "same_feature"
    yield headline_line("Same features" if same else "At equal density", c, scale)
    if not same:
        yield _line("Level in strata", c.adjusted, "uniform", scale, "scores adjusted to one density per stratum")
    yield _line("Over all features", c.uniform, "uniform", scale, "every feature counts the same")
    yield _line("By firing", c.firing_weighted, "firing", scale, "every feature counts by its density")
    yield _line("Above look-up", c.lift, "lookup", scale, "scores less their look-up baseline")
    if c.pairing is not None and not same:
        yield _line("Matched features", c.pairing.difference, "paired", scale, "pairs with the nearest directions")
        if c.pairing.alike is not None:
            yield _line("… firing alike", c.pairing.alike, "paired", scale, "pairs within half a decade of density")
        if c.pairing.unmatched is not None:
            yield _line("Unmatched rest", c.pairing.unmatched, "paired", scale, "features without a partner")


def headline_line(name: str, c: Contrast, scale: Scale) -> Line:
    """A contrast's own difference, or why there is none."""
    return Line(
        name=name,
        figure=figures.gap_mark(c, scale),
        value=fixed(c.difference, sign=True),
        interval=interval(c.low, c.high),
        n=f"{c.n_inside_a:,} / {c.n_inside_b:,}",
        missing=absent(c.reason),
        title="density-standardised difference of the means",
    )


def _line(name: str, found: Estimate | Difference, mark: str, scale: Scale, title: str) -> Line:
    is_gap = isinstance(found, Difference)
    return Line(
        name=name,
        figure=figures.mark(found, mark, scale),
        value=fixed(found.value, sign=is_gap),
        interval=interval(found.low, found.high),
        n=f"{found.n_a:,} / {found.n_b:,}" if isinstance(found, Difference) else f"{found.n:,}",
        missing=absent(found.undefined),
        title=title,
    )


def outcomes(arms: Sequence[Arm]) -> list[tuple[str, str, list[int]]]:
    """One line per state and reason, with the number of features in each arm."""
    lines = []
    for state in ("undefined", "failed", "skipped"):
        maps: list[dict[str, int]] = [getattr(arm.denominators, state) for arm in arms]
        for reason in sorted({reason for counts in maps for reason in counts}):
            lines.append((state, reason, [counts.get(reason, 0) for counts in maps]))
    return lines
