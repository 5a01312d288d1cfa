"""`matched:N` on dictionaries whose pairs are planted, and the sentences where there can be none."""

import numpy as np
import pytest

from autointerp.errors import UsageError
from autointerp.matched import Side, draw_matched

D, N_SHARED = 64, 120
RNG = np.random.default_rng(0)
FRAME = RNG.standard_normal((600, D)).astype(np.float32)


def side(name: str, rows: np.ndarray, n_active: np.ndarray, *, trained: bool = True, hook: str = "h") -> Side:
    return Side(name, trained, "model", hook, FRAME[rows], n_active)


def counts(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 10_000, n)


@pytest.fixture
def sides() -> list[Side]:
    """300 and 180 features of which 120 are the same, in another order; and a control."""
    wide = np.arange(300)
    narrow = np.r_[np.random.default_rng(1).permutation(N_SHARED), np.arange(400, 460)]
    return [
        side("wide", wide, counts(300, 2)),
        side("narrow", narrow, counts(180, 3)),
        side("random", np.arange(300), counts(300, 4), trained=False),
    ]


def pairs_in(sides: list[Side], drawn: dict[str, list[int]]) -> int:
    """How many planted pairs are drawn whole."""
    a = {tuple(sides[0].directions[i]) for i in drawn["wide"]}
    return sum(tuple(sides[1].directions[i]) in a for i in drawn["narrow"])


def test_drawn_together_samples_hold_pairs(sides: list[Side]) -> None:
    """Samples of 200 from 9,216 and 4,608 features met in none: "paired, 0 features: too few pairs"."""
    drawn = dict(draw_matched(sides, 50, 0))
    assert {name: len(features) for name, features in drawn.items()} == {"wide": 50, "narrow": 50, "random": 50}
    assert pairs_in(sides, drawn) == 50
    assert drawn == dict(draw_matched(sides, 50, 0))
    assert drawn != dict(draw_matched(sides, 50, 1))
    for name, features in drawn.items():
        assert features == sorted(set(features)), name
    density = np.sort(sides[0].n_active[drawn["wide"]])
    every = np.sort(sides[0].n_active[:N_SHARED])
    assert density[25] == pytest.approx(np.median(every), rel=0.15), "spread over density"


def test_where_pairs_end_the_rest_is_a_sample(sides: list[Side]) -> None:
    """A draw that is too large gives all pairs, and features without a partner beside them."""
    drawn = dict(draw_matched(sides, 150, 0))
    assert {name: len(features) for name, features in drawn.items()} == {"wide": 150, "narrow": 150, "random": 150}
    assert pairs_in(sides, drawn) == N_SHARED
    assert set(range(N_SHARED)) <= set(drawn["wide"])


def test_dead_features_pair_with_nothing(sides: list[Side]) -> None:
    """A partner that fires nowhere has no score, and its pair none."""
    sides[1].n_active[:100] = 0
    drawn = dict(draw_matched(sides, 50, 0))
    assert pairs_in(sides, drawn) == N_SHARED - 100
    assert all(sides[1].n_active[i] > 0 for i in drawn["narrow"])


def test_of_three_dictionaries_common_features_come_first() -> None:
    """Pairs of the first two alone would leave the third without a partner."""
    rows = np.arange(200), np.arange(20, 180), np.r_[np.arange(100, 160), np.arange(500, 560)]
    three = [side(name, r, counts(len(r), i)) for i, (name, r) in enumerate(zip("abc", rows, strict=True))]
    drawn = draw_matched(three, 40, 0)
    assert all(100 <= i < 160 for i in drawn["a"])
    assert [20 + i for i in drawn["b"]] == list(drawn["a"]) == [100 + i for i in drawn["c"]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: s[:1], "pairs those of two or more trained dictionaries, and this run has wide"),
        (lambda s: [s[0], s[2]], "pairs those of two or more trained dictionaries"),
        (lambda s: [s[0], s[1]._replace(hook_point="g")], "wide at h and narrow at g are of different places"),
        (lambda s: [s[0], s[1]._replace(directions=np.zeros((0, D)))], "narrow has no decoder directions"),
    ],
)
def test_what_cannot_be_paired_is_a_sentence(sides: list[Side], make: object, said: str) -> None:
    """Each says what to do instead."""
    with pytest.raises(UsageError, match=said):
        draw_matched(make(sides), 10, 0)  # type: ignore[operator]
