"""Planted features with a known answer: bursts of activation, look-alikes that never fire, explanations with faults.

A density and a generator flow in; a planted feature, and levels predicted for any of its windows by an explanation of
known recall and false alarms, flow out. Numpy only; knows no protocol, no record and no text.

Method: bursty zero-inflated activations with heavy tails, a judge whose errors are correlated within a window.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.format import level_edges, to_levels

N_FRAGMENTS = 50_000
FRAGMENT = 64
"""Tokens a fragment."""
LOG_DENSITIES = (-4.0, -3.0, -2.0, -1.0)
BURST_SHARES = (0.05, 0.08, 0.15, 0.25)
"""Share of an on-topic fragment's tokens that are active, by log10 density; linear between."""
CONFUSABLES = 3
"""Tokens that look like the concept and never fire, for every active token."""
LEAST = 0.02
"""The smallest activation."""
SURE_QUANTILE = 0.95
"""Recall is highest from this quantile of the active tokens on."""
MISSED = 0.2
"""What is left of the recall in a window that the judge misses."""
HALLUCINATED = 10
"""Times the base false alarms in a window where the judge sees things."""

Quality = Literal["good", "broad", "lookup", "narrow", "narrow2", "noisy", "random"]


@dataclass(frozen=True)
class Judge:
    """How an explanation is answered: recall, false alarms and what goes wrong for whole windows."""

    recall_low: float
    """Chance of a hit on the weakest activations; linear up to `recall_high`."""
    recall_high: float
    confusable: float
    """Chance of a hit on a token that looks like the concept."""
    base: float
    """Chance of a hit on any other silent token."""
    window_miss: float
    window_hallucination: float
    level_sd: float
    """Noise on the level of a true hit."""
    blind: bool = False
    """Hits every token, active, look-alike or plain, with the window's base chance."""


JUDGES: dict[Quality, Judge] = {
    "good": Judge(0.80, 0.95, 0.10, 0.002, 0.05, 0.02, 1.5),
    "broad": Judge(0.90, 0.97, 0.90, 0.002, 0.05, 0.02, 1.5),
    "lookup": Judge(0.97, 0.97, 0.97, 0.0, 0.0, 0.0, 2.5),
    "narrow": Judge(0.10, 0.95, 0.03, 0.0005, 0.05, 0.01, 1.5),
    "narrow2": Judge(0.10, 0.95, 0.10, 0.002, 0.05, 0.02, 1.5),
    "noisy": Judge(0.40, 0.70, 0.30, 0.01, 0.20, 0.10, 3.0),
    "random": Judge(0.03, 0.03, 0.03, 0.03, 0.0, 0.10, 3.0, blind=True),
}
"""`good` is the true explanation; `lookup` names the tokens and no context; `narrow2` has good's false alarms."""
QUALITIES: tuple[Quality, ...] = get_args(Quality)


class Sample(NamedTuple):
    """Windows of one planted feature, drawn many times over."""

    activation: Float[np.ndarray, "draw window tok"]
    confusable: Bool[np.ndarray, "draw window tok"]


@dataclass(frozen=True)
class Planted:
    """One planted feature over a corpus of fragments; a slot is fragment * 64 + place."""

    density: float
    activation: Float[np.ndarray, "fragment tok"]
    """Raw units; 0 where silent."""
    confusable: Bool[np.ndarray, "fragment tok"]

    @cached_property
    def active(self) -> Int[np.ndarray, " n"]:
        """Slots of the active tokens, weakest first."""
        flat = self.activation.reshape(-1)
        slots = np.flatnonzero(flat)
        return np.asarray(slots[np.argsort(flat[slots], kind="stable")])

    @cached_property
    def values(self) -> Float[np.ndarray, " n"]:
        """Activations of the active tokens, ascending."""
        return np.asarray(self.activation.reshape(-1)[self.active])

    @cached_property
    def look_alikes(self) -> Int[np.ndarray, " n"]:
        """Slots of the confusable tokens."""
        return np.flatnonzero(self.confusable)

    @cached_property
    def edges(self) -> Float[np.ndarray, "9"]:
        """Level edges over the whole corpus."""
        return level_edges(*np.unique(self.values, return_counts=True))

    @cached_property
    def sure(self) -> float:
        """Activation from which recall is highest."""
        return float(np.quantile(self.values, SURE_QUANTILE))

    @cached_property
    def peaks(self) -> Float[np.ndarray, " fragment"]:
        """Highest activation of each fragment."""
        return np.asarray(self.activation.max(axis=1))

    @cached_property
    def _active_before(self) -> Int[np.ndarray, " slot_plus_1"]:
        return np.concatenate([[0], np.cumsum(self.activation.reshape(-1) > 0, dtype=np.int32)])

    def quiet(self, start: Int[np.ndarray, "*shape"], width: int) -> Bool[np.ndarray, "*shape"]:
        """True for windows, by the slot of their first token, without an active token."""
        return np.asarray(self._active_before[start] == self._active_before[start + width])

    def window_around(
        self, slot: Int[np.ndarray, "*shape"], offset: Int[np.ndarray, "*shape"], width: int
    ) -> Int[np.ndarray, "*shape"]:
        """First slot of the window in which a slot stands `offset` places from the start, kept inside its fragment."""
        fragment, place = np.divmod(slot, FRAGMENT)
        return np.asarray(fragment * FRAGMENT + np.clip(place - offset, 0, FRAGMENT - width))

    def read(self, start: Int[np.ndarray, "draw window"], width: int) -> Sample:
        """The windows that start at these slots."""
        slots = start[:, :, None] + np.arange(width)
        return Sample(self.activation.reshape(-1)[slots], self.confusable.reshape(-1)[slots])


def density_name(density: float) -> str:
    """A power of ten as tables and JSON spell it: `1e-3`."""
    return f"1e{round(np.log10(density))}"


def plant(density: float, rng: np.random.Generator, n_fragments: int = N_FRAGMENTS) -> Planted:
    """A feature of that density: on-topic fragments of their own strength, each token in them active by chance."""
    burst = float(np.interp(np.log10(density), LOG_DENSITIES, BURST_SHARES))
    on_topic = rng.choice(n_fragments, max(1, round(n_fragments * density / burst)), replace=False)
    strength = rng.gamma(2.0, 0.5, len(on_topic))
    size = rng.exponential(1.0, (len(on_topic), FRAGMENT)) * strength[:, None] + LEAST
    activation = np.zeros((n_fragments, FRAGMENT), dtype=np.float32)
    activation[on_topic] = np.where(rng.random(size.shape) < burst, size, 0.0)
    confusable = (rng.random(activation.shape, dtype=np.float32) < CONFUSABLES * density) & (activation == 0)
    return Planted(density, activation, confusable)


class Luck(NamedTuple):
    """What chance decides while a sample is judged, shared by all explanations: the same judge on the same day."""

    missed: Float[np.ndarray, "draw window 1"]
    hallucinated: Float[np.ndarray, "draw window 1"]
    hit: Float[np.ndarray, "draw window tok"]
    """The first three uniform on 0..1."""
    noise: Float[np.ndarray, "draw window tok"]
    """Standard normal."""
    false_level: Float[np.ndarray, "draw window tok"]
    """Gamma of shape 2 and scale 2."""


def draw_luck(sample: Sample, rng: np.random.Generator) -> Luck:
    """Luck for every window and token of a sample."""
    shape = sample.activation.shape
    missed, hallucinated = rng.random((2, *shape[:-1], 1), dtype=np.float32)
    return Luck(
        missed,
        hallucinated,
        rng.random(shape, dtype=np.float32),
        rng.standard_normal(shape, dtype=np.float32),
        rng.standard_gamma(2.0, shape, dtype=np.float32) * 2,
    )


def judge_levels(judge: Judge, planted: Planted, sample: Sample, luck: Luck) -> Int[np.ndarray, "draw window tok"]:
    """Levels 0..10 that this judge answers; errors are independent but for what hits whole windows."""
    kept = np.where(luck.missed < judge.window_miss, MISSED, 1.0)
    base = judge.base * np.where(luck.hallucinated < judge.window_hallucination, HALLUCINATED, 1)
    active = sample.activation > 0
    if judge.blind:
        hit = luck.hit < base
    else:
        ease = np.minimum(sample.activation / planted.sure, 1.0)
        recall = (judge.recall_low + (judge.recall_high - judge.recall_low) * ease) * kept
        hit = luck.hit < np.where(active, recall, np.where(sample.confusable, judge.confusable, base))
    levels = np.zeros(sample.activation.shape, dtype=np.int8)
    true, false = hit & active, hit & ~active
    meant = to_levels(sample.activation[true], planted.edges) + judge.level_sd * luck.noise[true]
    levels[true] = np.rint(meant).clip(1, 10)
    levels[false] = np.rint(luck.false_level[false]).clip(1, 10)
    return levels
