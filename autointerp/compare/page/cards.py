"""Dictionary cards side by side: what each figure is called, what it is, and how it is told.

Cards flow in, rows of cells flow out. A figure that a card has not is a dash, and the page says why. Computes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from autointerp.compare.card import Activity, Card, Concentration, RareCluster, Spread
from autointerp.compare.page.figures import density_histogram
from autointerp.metrics import LossMetrics, MassiveTokens
from autointerp.report.text import fixed, per_cent, share, visible

ABSENT = "–"
FIGURES = {
    "L0": "mean number of active features a token",
    "Alive": "features active at least once in the harvest",
    "Tokens looked at": "of the harvest",
    "Active on over 1 %, 10 %": "features active on more than that share of tokens",
    "Densities": "live features by share of tokens they are active on, logarithmic",
    "Explained variance": "1 less squared error over variance",
    "Massive tokens": "activations over 10 times the median norm; [harvest] max_norm = 10 leaves them out, "
    "skip_tokens = 1 those that come first in their documents",
    "… explained variance without": "of all other tokens: a few massive ones can hold most of the variance",
    "… maxima on them": "features whose maximum is on such a token and over 20 times their 9th decile",
    "Reconstruction cosine": "mean over tokens",
    "Reconstruction L2 ratio": "mean norm of the reconstruction over the activation's",
    "Loss recovered": "(zero ablation − dictionary) / (zero ablation − model), cross-entropy",
    "Loss: model, dictionary, zero": "cross-entropy in nats a token",
    "KL divergence": "of the next-token prediction with the dictionary spliced in, nats",
    "Ultra-low-density cluster": "live features that fire on less than one token in 100,000, of all live ones",
    "… encoder cosine in it, outside": "mean between two features' encoder directions",
    "Encoder to decoder cosine": "median over features (10th to 90th percentile)",
    "Largest coordinate's share": "of a decoder vector's squared norm (of a Gaussian vector's)",
    "Ten largest coordinates' share": "of a decoder vector's squared norm (of a Gaussian vector's)",
    "Kurtosis over coordinates": "of decoder vectors (of Gaussian vectors)",
    "Nearest other feature": "decoder cosine, median (10th to 90th percentile)",
    "… over 0.7, 0.9": "share of features with so near a neighbour",
    "Known features recovered": "mean max cosine with the known dictionary; share over 0.9",
}
"""Names of the figures in the order they stand, and what each is."""


class CardRow(NamedTuple):
    """One figure of all cards, side by side."""

    name: str
    title: str
    cells: list[str | Markup]
    """One per card."""


def card_rows(cards: Sequence[Card]) -> list[CardRow]:
    """The figures that at least one card has."""
    low = min((min(card.activity.log_density_edges) for card in cards if card.activity), default=-1.0)
    told = [_told(card, low) for card in cards]
    return [
        CardRow(name, title, [cells.get(name, ABSENT) for cells in told])
        for name, title in FIGURES.items()
        if any(name in cells for cells in told)
    ]


def _told(card: Card, low: float) -> dict[str, str | Markup]:
    """A card's figures by name."""
    cells: dict[str, str | Markup] = {}
    if card.activity:
        cells |= _activity(card.activity, low)
    if card.reconstruction:
        r = card.reconstruction
        cells["Explained variance"] = fixed(r.explained_variance)
        cells["Reconstruction cosine"] = fixed(r.cosine)
        cells["Reconstruction L2 ratio"] = fixed(r.l2_ratio)
    if card.massive and card.massive.n_tokens:
        cells |= _massive(card.massive)
    if card.loss:
        cells |= _loss(card.loss, card.loss_recovered)
    if card.rare:
        cells |= _rare(card.rare)
    if card.encoder:
        cells["Encoder to decoder cosine"] = _spread(card.encoder)
    if card.concentration:
        cells |= _concentration(card.concentration)
    if card.redundancy:
        d = card.redundancy
        cells["Nearest other feature"] = _spread(d.max_cosine)
        cells["… over 0.7, 0.9"] = f"{share(d.share_over_07)}, {share(d.share_over_09)}"
    if card.recovery:
        known = card.recovery
        cells["Known features recovered"] = f"{fixed(known.mean_max_cosine)}; {share(known.share_over_09)}"
    return cells


def _activity(a: Activity, low: float) -> dict[str, str | Markup]:
    return {
        "L0": fixed(a.l0, 1),
        "Alive": f"{a.n_alive:,} of {a.n_features:,} ({per_cent(a.n_alive, a.n_features)})",
        "Tokens looked at": f"{a.n_tokens:,}",
        "Active on over 1 %, 10 %": f"{a.n_over_1_percent:,}, {a.n_over_10_percent:,}",
        "Densities": density_histogram(a, low),
    }


def _massive(m: MassiveTokens) -> dict[str, str]:
    held = "" if m.share_of_variance is None else f" ({share(m.share_of_variance)} of the variance)"
    cells = {"Massive tokens": f"{m.n_tokens:,}{held}, {m.n_first:,} first", "… maxima on them": f"{m.n_maxima:,}"}
    if m.reconstruction:
        cells["… explained variance without"] = fixed(m.reconstruction.explained_variance)
    return cells


def _loss(loss: LossMetrics, recovered: float | None) -> dict[str, str]:
    return {
        "Loss recovered": fixed(recovered),
        "Loss: model, dictionary, zero": ", ".join(fixed(v) for v in (loss.ce, loss.ce_dictionary, loss.ce_zero)),
        "KL divergence": fixed(loss.kl_dictionary, 3),
    }


def _rare(r: RareCluster) -> dict[str, str]:
    cells = {"Ultra-low-density cluster": f"{r.n:,} ({share(r.share)})"}
    if r.encoder_cosine is not None or r.others_cosine is not None:
        cells["… encoder cosine in it, outside"] = f"{fixed(r.encoder_cosine, 3)}, {fixed(r.others_cosine, 3)}"
    return cells


def _concentration(c: Concentration) -> dict[str, str]:
    return {
        "Largest coordinate's share": f"{fixed(c.top_1, 3)} ({fixed(c.gaussian_top_1, 3)})",
        "Ten largest coordinates' share": f"{fixed(c.top_10)} ({fixed(c.gaussian_top_10)})",
        "Kurtosis over coordinates": f"{fixed(c.kurtosis)} ({fixed(c.gaussian_kurtosis)})",
    }


def _spread(s: Spread) -> str:
    return f"{fixed(s.median)} ({fixed(s.low)} to {fixed(s.high)})"


def absences(cards: Sequence[Card]) -> list[tuple[str, list[str]]]:
    """Why figures are not there: each reason once, and which figures of whom it keeps away."""
    found: dict[str, list[str]] = {}
    for card in cards:
        for group, why in card.missing.items():
            found.setdefault(visible(why), []).append(f"{card.arm} ({group})")
        if card.rare is not None and card.rare.note:
            found.setdefault(visible(card.rare.note), []).append(f"{card.arm} (ultra-low-density cluster)")
    return list(found.items())
