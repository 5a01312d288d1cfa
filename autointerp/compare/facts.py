"""A dictionary's card from its finished harvest, and from its weights where they can be loaded again.

A harvest and maybe encoder directions flow in, a `Card` flows out. What cannot be had is left out with its reason.
Knows no torch: `compare.weights` reads the weights.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from autointerp.compare.card import CARD_GROUPS, Activity, Card, CardGroup, RareCluster
from autointerp.compare.geometry import concentration, mean_pair_cosine, recovery, redundancy, spread
from autointerp.harvest.events import Harvest
from autointerp.metrics import DictionaryMetrics

RARE = 1e-5
"""Density below which a live feature belongs to the ultra-low-density cluster (Bricken et al. 2023, log10 below -5)."""
BINS_PER_DECADE = 4
_LEAST_TOKENS = 10 / RARE


class Weights(NamedTuple):
    """What a harvest does not keep of a dictionary's weights."""

    encoder: Float[np.ndarray, "d_sae d_in"] | None
    """Directions that features read; None where they are none."""
    hook_out: str
    """Where its decoder writes."""


class Known(NamedTuple):
    """A dictionary that is to be found again."""

    name: str
    decoder: Float[np.ndarray, "n d_out"]


def make_card(arm: str, harvest: Harvest, weights: Weights | str, known: Known | None) -> Card:
    """The card of one harvested dictionary; in the place of its weights may stand why they cannot be loaded."""
    spec, stats, facts, metrics = harvest.spec, harvest.stats, harvest.facts, harvest.metrics
    direction = facts.direction
    missing: dict[CardGroup, str] = {}
    no_decoder = f"{spec.id} has no decoder directions"
    hook_out = weights.hook_out if isinstance(weights, Weights) else spec.hook_point
    if not len(direction):
        missing = {"concentration": no_decoder, "redundancy": no_decoder, "encoder": no_decoder}
    elif not len(facts.encoder_decoder_cosine):
        missing["encoder"] = f"{spec.id} reads another space than it writes, or no direction"
    if metrics.reconstruction is None:
        missing["reconstruction"] = f"{spec.id} cannot decode"
    if metrics.loss is None:
        missing["loss"] = "its harvest measured no losses ([harvest] loss_tokens = 0), or it cannot decode"
    found = None
    if known is None:
        missing["recovery"] = "no known dictionary was given (--known)"
    elif not len(direction) or known.decoder.shape[1] != direction.shape[1]:
        missing["recovery"] = no_decoder if not len(direction) else f"{known.name} writes another number of dimensions"
    else:
        found = recovery(known.name, known.decoder, direction)
    recovered = metrics.loss.recovered_zero if metrics.loss else None
    return Card(
        arm=arm,
        d_in=spec.d_in,
        d_sae=spec.d_sae,
        architecture=spec.kind,
        activity=_activity(metrics, np.asarray(stats.n_active)),
        reconstruction=metrics.reconstruction,
        massive=metrics.massive,
        loss=metrics.loss,
        loss_recovered=None if recovered is None else round(recovered, 6),
        rare=_rare(np.asarray(stats.n_active), harvest.n_tokens, weights),
        encoder=None if "encoder" in missing else spread(np.asarray(facts.encoder_decoder_cosine)),
        concentration=concentration(direction, hook_out) if len(direction) else None,
        redundancy=redundancy(np.asarray(facts.neighbour_cosine[:, 0])) if len(direction) else None,
        recovery=found,
        missing=missing,
    )


def bare_card(arm: str, d_sae: int) -> Card:
    """The card of features known by their records alone: nothing."""
    why = "bare records hold the text of single features, and no weights"
    return Card(arm=arm, d_in=0, d_sae=d_sae, architecture="bare records", missing=dict.fromkeys(CARD_GROUPS, why))


def _activity(metrics: DictionaryMetrics, n_active: np.ndarray) -> Activity:
    alive = n_active[n_active > 0]
    places = BINS_PER_DECADE * np.log10(alive / metrics.n_tokens)
    low = int(np.floor(places.min(initial=0)))
    n_bin = max(1, -low)
    counts = np.bincount(np.clip(np.floor(places).astype(int) + n_bin, 0, n_bin - 1), minlength=n_bin)
    return Activity(
        n_tokens=metrics.n_tokens,
        l0=round(metrics.l0, 6),
        l1=round(metrics.l1, 6),
        n_features=len(n_active),
        n_alive=len(alive),
        n_over_1_percent=int((n_active > 0.01 * metrics.n_tokens).sum()),
        n_over_10_percent=int((n_active > 0.1 * metrics.n_tokens).sum()),
        log_density_edges=tuple((np.arange(-n_bin, 1) / BINS_PER_DECADE).tolist()),
        log_density_counts=tuple(counts.tolist()),
    )


def _rare(n_active: np.ndarray, n_tokens: int, weights: Weights | str) -> RareCluster:
    rare = (n_active > 0) & (n_active < RARE * n_tokens)
    others = (n_active > 0) & ~rare
    note = None
    if isinstance(weights, str):
        note = weights
    elif weights.encoder is None:
        note = "it reads no directions"
    elif n_tokens < _LEAST_TOKENS:
        note = f"on {n_tokens:,} tokens such a feature fires fewer than ten times, so rare and dead are hard to tell"
    encoder = weights.encoder if isinstance(weights, Weights) else None
    return RareCluster(
        below=RARE,
        n=int(rare.sum()),
        share=round(float(rare.sum() / max(1, (n_active > 0).sum())), 6),
        encoder_cosine=None if encoder is None else mean_pair_cosine(encoder[rare]),
        others_cosine=None if encoder is None else mean_pair_cosine(encoder[others]),
        note=note,
    )
