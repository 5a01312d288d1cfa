"""Which features of two arms pair, and the pairs whose scores differ most, with their text.

Arms flow in; `Pairs`, splittings and `FeaturePair` records flow out. What pairs is settled by weights or numbers, never
by scores.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from autointerp.compare.arms import ReadArm
from autointerp.compare.card import Splitting
from autointerp.compare.contrast import Pairs
from autointerp.compare.data import By, FeaturePair, FeatureSide
from autointerp.compare.runs import OpenArm
from autointerp.compare.splitting import split_between
from autointerp.nearest import COSINE_FLOOR, Directions, Nearest, mutual, nearest
from autointerp.records import Simulation
from autointerp.report.collect import report_window
from autointerp.report.data import ReportWindow

N_PAIR = 12
"""Pairs shown of a planned contrast."""
N_WINDOW = 3
"""Windows shown of each part and feature."""


class Matcher:
    """Nearest neighbours between dictionaries, each two of them compared once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Nearest | str] = {}

    def pairs(self, a: ReadArm, b: ReadArm, by: By) -> Pairs | str:
        """How two arms pair, or why they cannot."""
        if by != "dictionary":
            return _same_features(a, b, by)
        found = self.nearest(a.open, b.open)
        if isinstance(found, str):
            return found
        matched = mutual(found)
        row_a, row_b = _rows(a, len(found.of_a)), _rows(b, len(found.of_b))
        both = (row_a[matched.a] >= 0) & (row_b[matched.b] >= 0)
        return Pairs(
            same_feature=False,
            rows_a=row_a[matched.a][both],
            rows_b=row_b[matched.b][both],
            cosine=matched.cosine[both],
            same_windows=False,
            has_partner_a=np.isin(a.features.index, matched.a),
            has_partner_b=np.isin(b.features.index, matched.b),
            n_matched_a=len(matched.a),
            n_matched_b=len(matched.b),
            floor=COSINE_FLOOR,
            median_cosine=round(float(np.median(matched.cosine)), 6) if len(matched.cosine) else None,
        )

    def nearest(self, a: OpenArm, b: OpenArm) -> Nearest | str:
        """Nearest decoder directions both ways, or why there are none."""
        name = (a.key, b.key)
        if name not in self._found:
            sides = _directions(a, b)
            self._found[name] = sides if isinstance(sides, str) else nearest(*sides)
        return self._found[name]

    def splitting(self, a: OpenArm, b: OpenArm) -> Splitting | None:
        """What becomes of the narrower of two trained dictionaries; None for equal widths or where nothing matches."""
        if a.spec.d_sae == b.spec.d_sae:
            return None
        found = self.nearest(a, b)
        if isinstance(found, str):
            return None
        a_is_small = a.spec.d_sae < b.spec.d_sae
        small, large = (a.key, b.key) if a_is_small else (b.key, a.key)
        return split_between(small, large, found, a_is_small=a_is_small)


def _directions(a: OpenArm, b: OpenArm) -> tuple[Directions, Directions] | str:
    """Decoder directions that can be held against each other."""
    for arm in (a, b):
        if arm.kind == "random":
            return f"{arm.key} has random directions, which stand for no learned feature"
    one, other = a.harvest(), b.harvest()
    if one is None or other is None:
        return "bare records hold no decoder directions"
    if one.spec.model != other.spec.model:
        return f"{a.key} and {b.key} read different models, whose directions cannot be held against each other"
    if one.spec.hook_point != other.spec.hook_point:
        return f"{a.key} reads at {one.spec.hook_point} and {b.key} at {other.spec.hook_point}"
    for arm, harvest in ((a, one), (b, other)):
        if not len(harvest.facts.direction):
            return f"{arm.key} has no decoder directions"
    if one.facts.direction.shape[1] != other.facts.direction.shape[1]:
        return f"{a.key} and {b.key} write different numbers of dimensions"
    return one.facts.direction, other.facts.direction


def _rows(arm: ReadArm, n: int) -> Int[np.ndarray, " d_sae"]:
    """The row of each of a dictionary's features among those scored; -1 where it is not."""
    rows = np.full(n, -1, np.int64)
    rows[arm.features.index] = np.arange(len(arm.features))
    return rows


def _same_features(a: ReadArm, b: ReadArm, by: By) -> Pairs | str:
    """One dictionary's features, scored two ways."""
    if a.open.spec.weights_digest != b.open.spec.weights_digest:
        return f"{a.key} and {b.key} are different dictionaries"
    both, rows_a, rows_b = np.intersect1d(a.features.index, b.features.index, return_indices=True)
    digests = [r.store.record_digests(r.dictionary, r.design) for r in (a.open.results, b.open.results)]
    alike = all(digests[0].get(i) == digests[1].get(i) for i in both.tolist())
    return Pairs(
        same_feature=True,
        rows_a=rows_a,
        rows_b=rows_b,
        cosine=np.full(len(both), np.nan),
        same_windows=alike and by != "protocol",
        has_partner_a=np.isin(a.features.index, both),
        has_partner_b=np.isin(b.features.index, both),
        n_matched_a=len(both),
        n_matched_b=len(both),
    )


def differing_pairs(a: ReadArm, b: ReadArm, pairs: Pairs | str) -> tuple[FeaturePair, ...]:
    """The scored pairs whose scores differ most, largest difference first, with text to look at."""
    if isinstance(pairs, str):
        return ()
    gap = np.abs(a.features.value[pairs.rows_a] - b.features.value[pairs.rows_b])
    chosen = np.argsort(-gap, kind="stable")[:N_PAIR].tolist()
    return tuple(
        FeaturePair(
            a=_side(a, int(pairs.rows_a[i])),
            b=_side(b, int(pairs.rows_b[i])),
            cosine=None if pairs.same_feature else round(float(pairs.cosine[i]), 4),
        )
        for i in chosen
    )


def _side(arm: ReadArm, row: int) -> FeatureSide:
    f, results = arm.features, arm.open.results
    index = int(f.index[row])
    feature = results.feature(index)
    own = results.store.explanation(feature, results.design, results.explainer_key)
    return FeatureSide(
        index=index,
        score=round(float(f.value[row]), 6),
        density=float(f"{f.density[row]:.6g}"),
        explanation=own.explanation.text if own else None,
        no_pattern=bool(own and own.explanation.no_pattern),
        windows=_windows(arm, index),
    )


def _windows(arm: ReadArm, index: int) -> tuple[ReportWindow, ...]:
    """The strongest windows explained from, and those scored windows that were answered worst."""
    results = arm.open.results
    feature = results.feature(index)
    record = results.store.record(feature, results.design)
    simulation = results.store.simulation(feature, results.key, "explanation") or Simulation(levels=())
    if record is None:
        return ()
    explain = sorted(record.splits.explain, key=lambda e: -max(e.record.activations))[:N_WINDOW]
    answered = [
        (_error(example.scored_levels, levels), example, levels)
        for example, levels in zip(record.splits.score, simulation.levels, strict=False)
        if levels is not None
    ]
    worst = sorted(answered, key=lambda item: -item[0])[:N_WINDOW]
    return (
        *(report_window("explain", example, None) for example in explain),
        *(report_window("score", example, levels) for _, example, levels in worst),
    )


def _error(truth: Sequence[int], said: Sequence[int]) -> float:
    return sum(abs(t - s) for t, s in zip(truth, said, strict=True)) / max(1, len(truth))
