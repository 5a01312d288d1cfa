"""Step 3: the yardstick, an interpolated modified Kneser-Ney trigram on the model's tokens and documents.

In: `tokens.npz`. Out: bits per byte on the held-out documents, printed as JSON. Chen and Goodman (1998): three
discounts for each order from the counts of counts; lower orders use continuation counts, except for n-grams
that begin with BOS, which nothing precedes; the unigram interpolates with the uniform distribution.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prepare_tokens import Tokens, load_pieces

BOS_ID = 0
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """One order's n-grams: sorted keys with counts, and the sums over each context that the formula needs."""

    keys: Ints
    counts: Ints
    contexts: Ints
    totals: Ints
    left_over: Floats
    """Mass each context leaves to the next lower order: its discounts, summed, over its total."""
    discounts: Floats
    """Indexed by min(count, 3); the first entry is 0."""


def make_order(keys: Ints, counts: Ints, vocab: int) -> Order:
    """Estimate discounts and leftover mass; a key's context is `key // vocab`."""
    n1, n2, n3, n4 = (max(int((counts == n).sum()), 1) for n in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    contexts, start = np.unique(keys // vocab, return_index=True)
    totals = np.add.reduceat(counts, start)
    left_over = np.add.reduceat(discounts[np.minimum(counts, 3)], start) / totals
    return Order(keys, counts, contexts, totals, left_over, discounts)


def fit(documents: Sequence[Tokens], vocab: int) -> list[Order]:
    """Orders 1 to 3 from documents, each seen with two BOS before it; BOS is never predicted."""
    first, second, third = _trigrams(documents)
    keys3, counts3 = np.unique((first * vocab + second) * vocab + third, return_counts=True)
    pairs, raw = np.unique(second * vocab + third, return_counts=True)
    preceded = np.unique(keys3 % vocab**2, return_counts=True)[1]
    counts2 = np.where(pairs // vocab == BOS_ID, raw, preceded)
    keys1, counts1 = np.unique(pairs % vocab, return_counts=True)
    return [
        make_order(keys1.astype(np.int64), counts1.astype(np.int64), vocab),
        make_order(pairs, counts2.astype(np.int64), vocab),
        make_order(keys3, counts3.astype(np.int64), vocab),
    ]


def probabilities(orders: Sequence[Order], documents: Sequence[Tokens], vocab: int) -> Floats:
    """The probability of every token of the documents."""
    first, second, third = _trigrams(documents)
    result = np.full(len(third), 1.0 / (vocab - 1))
    keys = (third, second * vocab + third, (first * vocab + second) * vocab + third)
    for order, key in zip(orders, keys, strict=True):
        count = _look_up(order.keys, order.counts, key, 0)
        context = key // vocab
        total = _look_up(order.contexts, order.totals, context, 0)
        left_over = _look_up(order.contexts, order.left_over, context, 1.0)
        discounted = np.maximum(count - order.discounts[np.minimum(count, 3).astype(np.int64)], 0.0)
        result = discounted / np.maximum(total, 1) + left_over * result
    return result


def bits_per_byte(train: Sequence[Tokens], test: Sequence[Tokens], n_bytes: int, vocab: int) -> float:
    """Bits per byte of the test documents under a trigram fitted to the training documents."""
    return float(-np.log2(probabilities(fit(train, vocab), test, vocab)).sum() / n_bytes)


def _trigrams(documents: Sequence[Tokens]) -> tuple[Ints, Ints, Ints]:
    padded = np.concatenate([np.concatenate([[BOS_ID, BOS_ID], ids]) for ids in documents]).astype(np.int64)
    predicted = padded[2:] != BOS_ID
    return padded[:-2][predicted], padded[1:-1][predicted], padded[2:][predicted]


def _look_up(keys: Ints, values: NDArray[np.generic], wanted: Ints, default: float) -> Floats:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at].astype(np.float64), default)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--vocab-size", type=int, default=4096)
    args = parser.parse_args()
    n_bytes = json.loads((args.work / "figures.json").read_text(encoding="utf-8"))["held_out_bytes"]
    train, test = load_pieces(args.work, "train_documents"), load_pieces(args.work, "held_out_documents")
    docs = load_pieces(args.work, "docs")
    figures = {
        "kneser_ney_bits_per_byte": bits_per_byte(train, test, n_bytes, args.vocab_size),
        "kneser_ney_on_documentation_alone": bits_per_byte(docs, test, n_bytes, args.vocab_size),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
