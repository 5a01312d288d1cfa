"""From a difference with its interval to a verdict, the one sentence that says it, and what to know beside it.

Numbers flow in, words flow out; no claim beyond the interval. Computes no statistic.
"""

from collections.abc import Iterator

from autointerp.compare.data import Contrast, NoEstimate, Verdict

MOSTLY = 0.8
"""Share of an arm's features inside the common support below which a note says so."""

NO_RANKING: dict[NoEstimate, str] = {
    "no_overlap": "densities do not overlap; no ranking",
    "too_few_features": "too few features with a score; no ranking",
    "too_few_pairs": "too few features scored both ways; no ranking",
    "not_measured": "not measured; no ranking",
}


def verdict_of(low: float, high: float, p_corrected: float, alpha: float) -> Verdict:
    """Above or below where the interval leaves 0 out and the corrected p agrees."""
    if p_corrected > alpha or low <= 0 <= high:
        return "not_separable"
    return "above" if low > 0 else "below"


def sentence_of(
    a: str, b: str, verdict: Verdict, reason: NoEstimate | None, gap: tuple[float, float, float], n_needed: int | None
) -> str:
    """The verdict as one sentence; `gap` is the difference and its interval, 0 where there is none.

    "A above B by .06 [.03, .09]"; what is below is told by the size of the gap.
    """
    if reason is not None:
        return f"{a} and {b}: {NO_RANKING[reason]}"
    if verdict == "below":
        gap = (-gap[0], -gap[2], -gap[1])
    digits = 2 if all(round(x, 2) for x in gap) else 3
    value, low, high = (short(x, digits) for x in gap)
    if verdict in ("above", "below"):
        return f"{a} {verdict} {b} by {value} [{low}, {high}]"
    wanted = (
        f"about {_rounded(n_needed):,} features of each would be needed" if n_needed else "there is no gap to look for"
    )
    return f"{a} and {b} are not separable at this size ({value} [{low}, {high}]); {wanted}"


def note_on_pairs(c: Contrast) -> Iterator[str]:
    """What to know of a paired difference between two dictionaries."""
    if c.pairing is None or c.pairing.density_ratio is None or c.pairing.difference.value is None:
        return
    ratio = c.pairing.density_ratio
    if max(ratio, 1 / ratio) >= UNLIKE:
        more, less = (c.a, c.b) if ratio > 1 else (c.b, c.a)
        alike, rest = c.pairing.alike, "the paired difference holds that too."
        if alike is not None and alike.value is not None and alike.low is not None and alike.high is not None:
            gap = f"{short(alike.value)} [{short(alike.low)}, {short(alike.high)}]"
            rest = f"over the {alike.n_a} pairs that fire about alike the paired difference is {gap}."
        yield (
            f"Matched features of {more} fire {max(ratio, 1 / ratio):.1f} times as often as their partners in {less}; "
            + rest
        )


def _rounded(n: int) -> int:
    """Up, to two figures: a forecast from one run says no more."""
    step = int(10 ** max(0, len(str(n)) - 2))
    return -(-n // step) * step


UNLIKE = 1.5
"""Ratio of densities from which matched features are told to fire unlike."""


def notes_on(c: Contrast, alpha: float) -> Iterator[str]:
    """What a careful reader has to know beside the verdict of a contrast with a difference."""
    far = min(c.n_inside_a / max(1, c.n_a), c.n_inside_b / max(1, c.n_b))
    if far < MOSTLY:
        yield (
            f"Of {c.n_a} features of {c.a} and {c.n_b} of {c.b}, {c.n_inside_a} and {c.n_inside_b} are "
            f"{'scored both ways' if c.pairing and c.pairing.kind == 'same_feature' else 'in strata that both fill'}; "
            f"the verdict speaks of these."
        )
    if c.low is None or c.high is None or c.p is None or c.p_holm is None:
        return
    yield from note_on_pairs(c)
    if c.verdict == "not_separable" and not c.low <= 0 <= c.high:
        yield f"The interval alone leaves out 0; corrected over {c.family} contrasts, p is {short(c.p_holm, 3)}."
    if c.p_permutation is not None and (c.p <= alpha) != (c.p_permutation <= alpha):
        yield (
            f"The permutation test says otherwise (p = {short(c.p_permutation, 3)}, not {short(c.p, 3)}): "
            f"take the verdict as open."
        )
    d = c.adjusted
    if d.low is not None and d.high is not None and (d.low > 0) - (d.high < 0) != (c.low > 0) - (c.high < 0):
        yield (
            f"Adjusted for density inside the strata too, the difference is {short(d.value or 0)} "
            f"[{short(d.low)}, {short(d.high)}]: strata of half a decade are too wide for a verdict here."
        )
    u, spans = c.uniform, c.low <= 0 <= c.high
    if u.value is None or u.low is None or u.high is None or u.low <= 0 <= u.high:
        return
    if spans or u.value * (c.difference or 0) < 0:
        yield (
            f"Over all features, whatever their density, the difference is {short(u.value)} "
            f"[{short(u.low)}, {short(u.high)}]; density alone can make such a gap."
        )


def short(value: float, digits: int = 2) -> str:
    """A number without the zero before its point."""
    text = f"{value:.{digits}f}"
    if not float(text):
        return text.lstrip("-")[1:]
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-").startswith("0.") else text
