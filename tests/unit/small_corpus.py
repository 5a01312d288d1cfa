"""A planted corpus of token rows and a dictionary's events over it, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from autointerp.format import level_edges
from autointerp.records import FeatureFacts, FeatureStats

N_WORD = 40
CONTEXT = 96


@dataclass
class SmallCorpus:
    """Rows of tokens, one document a row; BOS is token 0."""

    tokens: Int[np.ndarray, "n_row context"]
    length: Int[np.ndarray, " n_row"]
    source: Int[np.ndarray, " n_row"]
    sources: Sequence[str]
    vocabulary: Sequence[str]
    first: int = 1
    context: int = CONTEXT

    @property
    def start(self) -> Int[np.ndarray, " n_row"]:
        """Slot of each document's first place."""
        return np.arange(len(self.tokens)) * self.context


def make_corpus(n_source: int = 260, seed: int = 0, repeated: Mapping[int, int] | None = None) -> SmallCorpus:
    """One or two documents a source, some of them shorter than a window; `repeated` copies a source's text."""
    rng = np.random.default_rng(seed)
    rows, lengths, source = [], [], []
    for number in range(n_source):
        for _ in range(1 + number % 2):
            length = int(rng.choice([5, 17, 40, 80, CONTEXT]))
            row = np.zeros(CONTEXT, dtype=np.uint16)
            row[1:length] = rng.zipf(1.3, length - 1) % (N_WORD - 1) + 1
            rows.append(row)
            lengths.append(length)
            source.append(number)
    for copy, original in (repeated or {}).items():
        a, b = source.index(copy), source.index(original)
        rows[a], lengths[a] = rows[b], lengths[b]
    names = [f"source-{i}" for i in range(n_source)]
    words = ["\\s{bos}", *(f" w{i}" for i in range(1, N_WORD))]
    return SmallCorpus(np.stack(rows), np.array(lengths), np.array(source), names, words)


@dataclass
class SmallReader:
    """A dictionary's activations as one dense table; features fire on what `make_reader` plants."""

    corpus: SmallCorpus
    dense: Float[np.ndarray, "d_sae slot"]
    near: Mapping[int, Sequence[tuple[int, float]]] = field(default_factory=dict)

    def read(self, feature: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Slots, ascending, and values."""
        slot = np.flatnonzero(self.dense[feature])
        return slot, self.dense[feature][slot].astype(np.float32)

    def level_rule(self, feature: int) -> tuple[Float[np.ndarray, "9"], bool]:
        """Level edges, and whether they go by rank."""
        distinct, counts = np.unique(self.read(feature)[1].astype(np.float64), return_counts=True)
        return level_edges(distinct, counts), len(distinct) < 10

    def neighbours(self, feature: int) -> Sequence[tuple[int, float]]:
        """As planted."""
        return self.near.get(feature, ())

    def feature_stats(self, feature: int) -> FeatureStats:
        """Counts only."""
        n = len(self.read(feature)[0])
        return FeatureStats(n_tokens=1, n_active=n, max=1.0, mean_active=1.0, deciles=(), histogram=())

    def feature_facts(self, feature: int) -> FeatureFacts:
        """None."""
        return FeatureFacts()


TOKEN, SOMETIMES, EVERYWHERE, NEVER, RARE, NEAR = range(6)


def make_reader(corpus: SmallCorpus, seed: int = 1) -> SmallReader:
    """Features on one token, on a token half of the time, on all text, on nothing, on two places, near the second."""
    rng = np.random.default_rng(seed)
    flat = corpus.tokens.reshape(-1)
    place = np.arange(corpus.context)
    text = ((place >= corpus.first) & (place < corpus.length[:, None])).reshape(-1)
    size = rng.uniform(0.1, 5, len(flat))
    dense = np.zeros((6, len(flat)))
    dense[TOKEN] = np.where(text & (flat == 5), size, 0)
    dense[SOMETIMES] = np.where(text & (flat == 7) & (rng.random(len(flat)) < 0.5), size, 0)
    dense[EVERYWHERE] = np.where(text, size, 0)
    dense[RARE][rng.choice(np.flatnonzero(text), 2, replace=False)] = 1.0
    dense[NEAR] = np.where(text & (flat == 9), size, 0)
    return SmallReader(corpus, dense, {SOMETIMES: [(NEAR, 0.9), (TOKEN, -0.2)]})
