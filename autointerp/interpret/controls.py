"""Predictions without an explanation: what token, pair, place or nothing at all say of a feature.

A record's tables and windows flow in, levels flow out, to be scored beside the explanation's. Free; knows no simulator.
"""

from collections.abc import Sequence

import numpy as np

from autointerp.interpret.lookup import asked_for
from autointerp.records import Example, FeatureRecord, Level, PositionTable, TokenTable, Window

Levels = tuple[tuple[Level, ...], ...]
PRIOR = 2
"""Occurrences that the token alone counts for beside those of a pair."""


def lookup_levels(table: TokenTable, windows: Sequence[Window]) -> Levels:
    """The look-up baseline: mean level per token over the explain part; an unseen token gets the part's mean."""
    levels = {token: _rounded(mean) for token, mean in _token_means(table).items()}
    unseen = _rounded(table.mean_level)
    return tuple(asked_for(w, tuple(levels.get(token, unseen) for token in w.tokens)) for w in windows)


def bigram_levels(table: TokenTable, windows: Sequence[Window]) -> Levels:
    """Mean level per pair of neighbouring tokens over the explain part, drawn to the token's own mean where rare.

    The first token of a window, and a pair that the table does not name, go by the token alone.
    """
    tokens = _token_means(table)
    pairs = {
        pair: _rounded((total + PRIOR * tokens.get(pair[1], table.mean_level)) / (n + PRIOR))
        for pair, n, total in zip(table.pairs, table.pair_counts, table.pair_level_sums, strict=True)
    }
    alone = {token: _rounded(mean) for token, mean in tokens.items()}
    unseen = _rounded(table.mean_level)
    return tuple(
        asked_for(
            w,
            tuple(
                pairs.get((previous, token), alone.get(token, unseen))
                for previous, token in zip(["", *w.tokens], w.tokens, strict=False)
            ),
        )
        for w in windows
    )


def position_levels(table: PositionTable, examples: Sequence[Example]) -> Levels:
    """The level of the bin that each token's place in its document falls into."""
    starts = np.array(table.starts)
    levels = []
    for example in examples:
        first = example.record.start if example.record.place is None else example.record.place
        places = first + np.arange(len(example.levels))
        bins = np.searchsorted(starts, places, side="right") - 1
        levels.append(asked_for(example.window, tuple(table.levels[i] for i in bins.clip(0).tolist())))
    return tuple(levels)


def control_levels(record: FeatureRecord, examples: Sequence[Example]) -> dict[str, Levels]:
    """The free controls that the record has tables for, and the constant prediction."""
    windows = [example.window for example in examples]
    levels = {"constant": tuple((0,) * len(example.scored_levels) for example in examples)}
    if record.token_table is not None:
        levels["lookup"] = lookup_levels(record.token_table, windows)
        levels["bigram"] = bigram_levels(record.token_table, windows)
    if record.position_table is not None:
        levels["position"] = position_levels(record.position_table, examples)
    return levels


def _token_means(table: TokenTable) -> dict[str, float]:
    columns = zip(table.tokens, table.counts, table.level_sums, strict=True)
    return {token: total / n if n else table.mean_level for token, n, total in columns}


def _rounded(mean: float) -> int:
    return int(mean + 0.5)
