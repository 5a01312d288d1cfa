"""Planted features of text: tokens, rules against hand-made lines, judges with dials, the judge card's figures."""

import asyncio
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.records import Explanation, FeatureId, Simulation, Window
from autointerp.selftest.judges import DialledJudge, Dials, known_claims, rehearsal_levels
from autointerp.selftest.planted import NEAR_MISSES, plant_activations, planted_texts
from autointerp.selftest.text import NEWLINE, Grid, TextRows, split_again, split_tokens
from autointerp.subject.corpus.sources import Source

PLANTED = {planted.kind: planted for planted in planted_texts()}


def fires(kind: str, text: str, claim: str = "true") -> str:
    """The tokens on which a claim's rule fires, joined by bars."""
    planted = PLANTED[kind]
    rule = (planted.true if claim == "true" else planted.near[claim]).rule  # type: ignore[index]
    tokens = split_tokens(text)
    return "|".join(token.strip() for token, s in zip(tokens, rule(Grid.of([tokens]))[0], strict=True) if s > 0)


@given(st.text(max_size=60))
def test_tokens_lose_nothing_and_pieces_give_the_same_tokens(text: str) -> None:
    """A rehearsal judge sees a passage as text: its tokens must be the corpus' tokens again."""
    tokens = split_tokens(text)
    assert split_again(tokens) == tokens
    assert split_again(["".join(tokens)] if tokens else []) == tokens


def test_rows_are_pieces_of_sources() -> None:
    rows = TextRows([Source("a", "word " * 200), Source("b", "one two")])
    assert [rows.sources[i] for i in rows.source] == ["a", "a", "b"]
    assert rows.length.tolist() == [128, 201 - 128, 2]
    assert [rows.vocabulary[t] for t in rows.tokens[2, :2]] == ["one", " two"]


def test_a_grid_looks_only_to_the_left() -> None:
    """A rule that looked ahead could be told by no model."""
    grid = Grid.of([["a", "(", "b", ")", "c", "\\n", "d"]])
    a, newline = grid.like("a"), grid.like(NEWLINE)
    assert grid.after(a)[0].tolist() == [False, True, False, False, False, False, False]
    assert grid.within(a, 2)[0].tolist() == [False, True, True, False, False, False, False]
    assert grid.since(grid.like(r"\("), grid.like(r"\)"))[0].tolist() == [
        False,
        False,
        True,
        False,
        False,
        False,
        False,
    ]
    assert grid.after(newline)[0].tolist() == [False] * 6 + [True]


def test_padding_never_matches() -> None:
    grid = Grid.of([["x"], ["x", "x", "x"]])
    assert grid.like("x").tolist() == [[True, False, False], [True, True, True]]
    assert grid.within(grid.like("x"), 2).tolist() == [[False, False, False], [False, True, True]]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("single token", "to import or imported", "import"),
        ("token in context", "Return True if so. It is True. Returns the value True", "True|True"),
        ("after-token", "call (self, x) or [y] (3)", "self|3"),
        ("position", "Return it\nThe other one\n\n  if x", "The"),
        ("code against prose", ">>> f(x)\n3\nno code", "f|(|x|)"),
        ("number format", "7 of 42 and 2001", "42|2001"),
        ("capitalisation", "an HTTP Server for XML_2 or A", "HTTP"),
        ("two-sense", "a File at the time of files", "File|time|files"),
        ("dense", "the long words ARE here", "long|words|here"),
        ("very rare", "Warning and warnings, UserWarning", "Warning|warnings"),
        ("heavy-tailed", "an error: ValueError", "error|ValueError"),
        ("bursty", "no. The date of a day in May", "date|day"),
        ("dead", "anything at all", ""),
    ],
)
def test_true_rules_on_hand_made_lines(kind: str, text: str, expected: str) -> None:
    assert fires(kind, text) == expected


def test_near_misses_on_hand_made_lines() -> None:
    assert fires("after-token", "f(a b) c", "broad") == "a|b"
    assert fires("position", "x.\nOne two three four five", "broad") == "One|two|three|four"
    assert fires("position", "x\n\nOne\nTwo", "narrow") == "One"
    assert fires("code against prose", ">>> f(x)", "tokens") == "(|)"
    assert fires("token in context", "return None or True", "neighbour") == "None"


def test_every_kind_has_its_near_misses_and_they_are_others() -> None:
    """A near-miss that fires exactly where the truth does could never be told from it."""
    text = " ".join(f"{a} {b}" for a, b in zip(_words(), reversed(_words()), strict=True))
    lines = "\nThe date (x y) of 10 files\n>>> import f(x)\nReturns True [y] 2001, return True."
    lines += "\n    x = 1\n\nOne PEP and error 7"
    grid = Grid.of([split_tokens(text + lines)])
    for planted in PLANTED.values():
        if planted.kind == "dead":
            continue
        assert set(planted.near) >= set(NEAR_MISSES) - {"tokens"}, planted.kind
        true = planted.true.rule(grid) > 0
        for name, claim in planted.near.items():
            assert claim.text != planted.true.text
            assert ((claim.rule(grid) > 0) != true).any(), (planted.kind, name)
            if name == "narrow":
                assert not ((claim.rule(grid) > 0) & ~true).any(), planted.kind
            if name == "broad":
                assert not (true & ~(claim.rule(grid) > 0)).any(), planted.kind


def _words() -> list[str]:
    texts = [claim.text for planted in PLANTED.values() for claim in (planted.true, *planted.near.values())]
    return sorted(set(re.findall(r"\w+", " ".join(texts))))


def test_activations_are_silent_off_the_rule_and_spread_on_it() -> None:
    grid = Grid.of([["error", " x"] * 3_000])
    heavy, light = PLANTED["heavy-tailed"], PLANTED["single token"]
    values = plant_activations(heavy, grid, 0)
    assert not values[:, 1::2].any()
    assert np.log(values[:, ::2] / 0.5).std() == pytest.approx(heavy.spread, rel=0.05)
    holes = plant_activations(PLANTED["with holes"], Grid.of([["list"] * 4_000]), 0)
    assert (holes == 0).mean() == pytest.approx(0.05, abs=0.01)
    assert light.holes == 0


def asked(judge: DialledJudge, text: str, windows: Sequence[Window]) -> Simulation:
    explanation = Explanation(
        feature=FeatureId(dictionary="planted", index=0), text=text, author="human", method="x", examples_digest=""
    )
    return asyncio.run(judge.simulate(explanation, windows))


WINDOWS = [Window(("to", " import", " it"), i % 3) for i in range(3_000)]


def test_a_judge_errs_as_its_dials_say() -> None:
    dials = Dials(recall=0.8, false_alarms=0.1, level_sd=1.0, failures=0.2)
    answer = asked(DialledJudge(dials, known_claims(), 0), 'the word "import"', WINDOWS)
    failed = np.array([levels is None for levels in answer.levels])
    assert failed.mean() == pytest.approx(0.2, abs=0.08)
    assert [i for i, _ in answer.failures] == np.flatnonzero(failed).tolist()
    # A request of ten windows fails as a whole.
    assert (failed.reshape(-1, 10).all(axis=1) | ~failed.reshape(-1, 10).any(axis=1)).all()
    levels = np.array([0 if given is None else given[0] for given in answer.levels])
    target = np.array([window.target == 1 for window in WINDOWS])
    assert (levels[target & ~failed] > 0).mean() == pytest.approx(0.8, abs=0.05)
    assert (levels[~target & ~failed] > 0).mean() == pytest.approx(0.1, abs=0.03)
    assert answer.usage.calls == 300


def test_a_perfect_judge_repeats_itself_and_an_unknown_text_fails() -> None:
    judge = DialledJudge(Dials(), known_claims(), 0)
    assert asked(judge, 'the word "import"', WINDOWS).levels == tuple(
        (10,) if window.target == 1 else (0,) for window in WINDOWS
    )
    whole = asked(judge, 'the word "import"', [Window(("to", " import", " it"), None)])
    assert whole.levels == ((0, 10, 0),)
    unknown = asked(judge, "something else", WINDOWS[:2])
    assert unknown.levels == (None, None)
    assert {reason for _, reason in unknown.failures} == {"not_understood"}


def test_the_rehearsal_judge_reads_pieces_as_the_rule_reads_tokens() -> None:
    """Through HTTP a passage arrives as text around its target, cut into other pieces than the corpus' tokens."""
    text = "the word or number right after an opening parenthesis"
    pieces = ("cal", "l", " (", "s", "elf", ",", " x", ")", "\\n")
    assert rehearsal_levels(text, pieces) == [0, 0, 0, 10, 10, 0, 0, 0, 0]
    assert rehearsal_levels("no such explanation", pieces) is None
    assert rehearsal_levels('fires on "(" (4); else 0', ("(", "a")) == [4, 0]
