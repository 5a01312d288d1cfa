"""Which of a dictionary's features are asked for: `all`, ranges, a file, or a sample spread over density.

A text and the harvest's counts flow in, feature numbers flow out.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Int

from autointerp.errors import UsageError
from autointerp.provenance import generator


def select_features(spec: str, n_active: Int[np.ndarray, " d_sae"], dictionary: str, seed: int) -> list[int]:
    """The features that `all`, `0-999,7`, `@file` or `sample:N` name, ascending.

    A sample is systematic over live features in order of density, from a seeded start, so every density has its share.
    """
    d_sae = len(n_active)
    if spec == "all":
        return list(range(d_sae))
    if spec.startswith("sample:"):
        size = int(spec.removeprefix("sample:"))
        return sorted(spread_over_density(np.flatnonzero(n_active), n_active, size, dictionary, seed, "sample"))
    chosen: set[int] = set()
    for low, high in read_ranges(spec):
        if high >= d_sae:
            raise UsageError(f"features: dictionary {dictionary} has 0 to {d_sae - 1}, not {high}")
        chosen.update(range(low, high + 1))
    return sorted(chosen)


def spread_over_density(
    pool: Int[np.ndarray, " n"], n_active: Int[np.ndarray, " d_sae"], size: int, dictionary: str, seed: int, what: str
) -> list[int]:
    """At most `size` features of a pool: systematic over them in order of density, from a start seeded by `what`."""
    rng = generator(seed, dictionary, what)
    order = pool[np.lexsort((rng.permutation(len(pool)), n_active[pool]))]
    if size >= len(order):
        return [int(i) for i in order]
    places = (np.arange(size) + rng.random()) * (len(order) / max(size, 1))
    return [int(i) for i in order[places.astype(np.int64)]]


def read_ranges(spec: str) -> list[tuple[int, int]]:
    """First and last feature of each range that `0-999,7` or the file of `@file` names; none for `all` and samples.

    Raises:
        UsageError: the file cannot be read, or names something else.
    """
    if spec == "all" or spec.startswith(("sample:", "matched:")):
        return []
    text = _read_feature_file(Path(spec[1:])) if spec.startswith("@") else spec
    ranges = []
    for item in re.split(r"[\s,]+", text.strip()):
        bounds = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", item)
        if not bounds or int(bounds[1]) > int(bounds[2] or bounds[1]):
            raise UsageError(f"features: {item!r} is neither a number nor a range such as 0-999")
        ranges.append((int(bounds[1]), int(bounds[2] or bounds[1])))
    return ranges


def _read_feature_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the feature list {path}: {error}") from None
