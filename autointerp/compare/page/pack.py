"""The features that two arms differ on most, as the page carries them, and every feature for the tips.

Contrasts and arms flow in; compressed chunks and blocks of text flow out, in the form of `report.pack`. A pair's
windows are opened when its pair is.
"""

from collections.abc import Iterator, Sequence

from autointerp.compare.data import Arm, Contrast, FeaturePair
from autointerp.report.pack import TextStore, deflate, pack_windows, short, to_json

PAIRS_PER_CHUNK = 8


def pairs_of(contrasts: Sequence[Contrast]) -> list[FeaturePair]:
    """All pairs of the page; their places here name them."""
    return [pair for contrast in contrasts for pair in contrast.differing]


def text_of(pairs: Sequence[FeaturePair]) -> TextStore:
    """The text under all pairs, each stretch once."""
    return TextStore([window for pair in pairs for side in (pair.a, pair.b) for window in side.windows])


def make_chunks(pairs: Sequence[FeaturePair], store: TextStore) -> Iterator[str]:
    """Compressed windows, `PAIRS_PER_CHUNK` pairs at a time, a's and b's in turn."""
    for start in range(0, len(pairs), PAIRS_PER_CHUNK):
        sides = [side for pair in pairs[start : start + PAIRS_PER_CHUNK] for side in (pair.a, pair.b)]
        yield deflate(to_json(pack_windows([side.windows for side in sides], store)))


def make_points(arm: Arm) -> str:
    """Compressed columns of an arm's features: number, density, score, look-up."""
    p = arm.points
    columns = [p.index, [short(v) for v in p.density], [short(v, 3) for v in p.value], [short(v, 3) for v in p.lookup]]
    return deflate(to_json(columns))
