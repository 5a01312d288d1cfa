"""Tokens with massive activations: how many a pass met, what they do to a dictionary's figures, and what to do.

A real model puts a few tokens in ten thousand, often the first of a document, ten to a thousand times as far out as the
others (Sun et al. 2024). They can hold most of the variance, so that explained variance says how a dictionary does on
them. Finished shards flow in; counts, marked features and sentences flow out. Knows no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.events import MASSIVE_FILE, MassiveArrays
from autointerp.harvest.metrics import reconstruction_metrics
from autointerp.harvest.shards import Shard
from autointerp.harvest.tokens import Corpus
from autointerp.metrics import MASSIVE, OUTSIZED, DictionaryMetrics, MassiveTokens, share_of


def find_massive(
    shards: Sequence[Shard],
    corpus: Corpus,
    largest: Float[np.ndarray, " d_sae"],
    ninth_decile: Float[np.ndarray, " d_sae"],
) -> MassiveArrays | None:
    """Slots and marked features from finished shards of all documents; None where the pass did not count."""
    if not all("massive" in shard.more for shard in shards):
        return None
    slots = [shard.more["massive"].astype(np.int64) + shard.first_row * corpus.context for shard in shards]
    slot = np.concatenate(slots)
    marked = np.zeros(len(largest), np.bool_)
    for feature in np.flatnonzero(largest > OUTSIZED * ninth_decile).tolist() if len(slot) else ():
        marked[feature] = _stands_on(shards, feature, slot)
    return MassiveArrays(slot, marked)


def _stands_on(shards: Sequence[Shard], feature: int, slot: Int[np.ndarray, " n"]) -> bool:
    """Whether a feature's largest activation is on one of these slots; a sample's strongest windows hold it too."""
    best, at = 0.0, -1
    for shard in shards:
        events = (shard.events if shard.strongest is None else shard.strongest).read(feature)
        if len(events.value) and float(events.value.max()) > best:
            best, at = float(events.value.max()), int(events.slot[int(events.value.argmax())])
    return bool(np.isin(at, slot))


def count_massive(
    found: MassiveArrays, shards: Sequence[Shard], corpus: Corpus, skip_tokens: int, median_norm: float
) -> MassiveTokens:
    """What such tokens are to a dictionary: its figures without them."""
    place = found.slot - corpus.start[corpus.document_of(found.slot)]
    share = reconstruction = None
    if len(shards[0].more["sum_in"]):
        names = ("sums", "sum_in", "massive_sums", "massive_sum_in")
        every, total, of_massive, at_massive = (np.sum([s.more[name] for s in shards], axis=0) for name in names)
        mean = total / max(every[0], 1.0)
        n, squares = of_massive[0], of_massive[1]
        away = squares - 2 * float(mean @ at_massive) + n * float(mean @ mean)
        share = share_of(float(away), float(every[1] - every[0] * (mean @ mean)))
        reconstruction = reconstruction_metrics([every - of_massive], [total - at_massive])
    return MassiveTokens(
        n_tokens=len(found.slot),
        n_first=int((place == corpus.first + skip_tokens).sum()),
        skip_tokens=skip_tokens,
        median_norm=median_norm,
        share_of_variance=share,
        reconstruction=reconstruction,
        n_maxima=int(found.maximum.sum()),
    )


def save_massive(folder: Path, found: MassiveArrays) -> str:
    """Write what was found beside a dictionary's shards; returns the file's name."""
    save_arrays(folder / MASSIVE_FILE, found._asdict())
    return MASSIVE_FILE


def tell_massive(metrics: Mapping[str, DictionaryMetrics], places: Mapping[str, str]) -> Iterator[str]:
    """Sentences on dictionaries, by id, with where each reads: the tokens of each hook point are told once."""
    for hook in dict.fromkeys(places.values()):
        met = {i: m.massive for i, m in metrics.items() if places[i] == hook and m.massive and m.massive.n_tokens}
        if not met:
            continue
        most = max(met.values(), key=lambda one: one.n_tokens)
        n = metrics[next(i for i, one in met.items() if one is most)].n_tokens
        held = [one.share_of_variance for one in met.values() if one.share_of_variance is not None]
        variance = f" and hold {max(held):.1%} of the variance" if held else ""
        yield (
            f"{hook}: {most.n_tokens:,} of {n:,} tokens have activations over {MASSIVE:.0f} times the median norm "
            f"({most.median_norm:.4g}){variance}. "
            f"{_explained(metrics, met)}{_maxima(met)}"
            f"[harvest] max_norm = {MASSIVE:.0f} leaves such tokens out; skip_tokens = {most.skip_tokens + 1} leaves "
            f"out the {most.n_first:,} of them that come first in their documents"
        )


def _explained(metrics: Mapping[str, DictionaryMetrics], met: Mapping[str, MassiveTokens]) -> str:
    said = []
    for name, one in met.items():
        all_tokens = metrics[name].reconstruction
        if all_tokens and one.reconstruction:
            pair = (all_tokens.explained_variance, one.reconstruction.explained_variance)
            said.append(f"{name} " + " / ".join("undefined" if v is None else f"{v:.3f}" for v in pair))
    return f"Explained variance with / without them: {', '.join(said)}. " if said else ""


def _maxima(met: Mapping[str, MassiveTokens]) -> str:
    said = [f"{name} {one.n_maxima:,}" for name, one in met.items() if one.n_maxima]
    if not said:
        return ""
    return f"Features whose maximum is on one of them, over {OUTSIZED:.0f} times the 9th decile: {', '.join(said)}. "
