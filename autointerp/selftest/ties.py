"""How a tie rule decides what a rank correlation says of a sparse feature: simulated beside the closed forms.

Densities flow in; rho under three tie rules, whole and damaged, flows out. The truth is an
exponential activation on a share of the tokens and zero elsewhere; the explanation detects it perfectly.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from autointerp.interpret import statistics
from autointerp.provenance import generator
from autointerp.records import Record
from autointerp.selftest.generator import density_name

TieRule = Literal["mid-rank", "random ties", "untied expected values"]
N_TOKENS = 200_000
TIE_RULES: tuple[TieRule, ...] = get_args(TieRule)
CLOSED_FORMS: Mapping[TieRule, Callable[[float], float]] = {
    "mid-rank": lambda d: float(np.sqrt(3 * d * (1 - d) / (1 - (1 - d) ** 3))),
    "random ties": lambda d: 3 * d * (1 - d),
    "untied expected values": lambda d: float(np.sqrt(1 - (1 - d) ** 3)),
}
"""Spearman of a perfect binary detector of a share d of active tokens."""


class TieCell(Record):
    """One tie rule at one density."""

    perfect: float
    """Mean rho of a perfect detector."""
    closed_form: float
    missing: float
    """Mean rho where half of the hits are missing."""
    extra: float
    """Mean rho where there are as many false hits as true ones."""


TieTable = dict[TieRule, dict[str, TieCell]]
"""By tie rule and density."""


def compare_tie_rules(densities: Sequence[float], n_draws: int, seed: int) -> TieTable:
    """Every tie rule at every density, on the same draws."""
    scores = {d: [_one_draw(d, generator(seed, "ties", d, i)) for i in range(n_draws)] for d in densities}
    table: TieTable = {}
    for rule in TIE_RULES:
        table[rule] = {}
        for d in densities:
            perfect, missing, extra = np.array([draw[rule] for draw in scores[d]]).T
            table[rule][density_name(d)] = TieCell(
                perfect=float(perfect.mean()),
                closed_form=CLOSED_FORMS[rule](d),
                missing=float(missing.mean()),
                extra=float(extra.mean()),
            )
    return table


def _one_draw(density: float, rng: np.random.Generator) -> dict[TieRule, Float[np.ndarray, "3"]]:
    """Rho of the perfect detector, of one that misses half, and of one with as many false hits, under each rule."""
    n_active = round(density * N_TOKENS)
    truth = np.zeros(N_TOKENS)
    truth[:n_active] = rng.exponential(1.0, n_active)
    perfect = truth > 0
    missing, extra = perfect.copy(), perfect.copy()
    missing[rng.choice(n_active, n_active // 2, replace=False)] = False
    extra[n_active + rng.choice(N_TOKENS - n_active, n_active, replace=False)] = True
    claims = np.stack([perfect, missing, extra]).astype(float)
    order = rng.random(claims.shape)
    untied = claims + 0.5 * order
    # The mean over an order of the ties and its reverse is free of what chance alone correlates among silent tokens.
    broken = np.where(perfect, 1 + truth, rng.random(N_TOKENS))
    either = (_three(broken, untied) + _three(broken, claims + 0.5 * (1 - order))) / 2
    return {"mid-rank": _three(truth, claims), "random ties": either, "untied expected values": _three(truth, untied)}


def _three(truth: Float[np.ndarray, " n"], claims: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "3"]:
    shape = (len(claims), 1, -1)
    truths = np.broadcast_to(truth, claims.shape).reshape(shape)
    return statistics.spearman(truths, claims.reshape(shape), np.ones(truths.shape, dtype=bool))
