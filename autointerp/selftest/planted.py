"""Planted features of real text: for each kind a rule, a true explanation, and near-misses with rules of their own.

A grid of tokens flows in, strengths 0..1 flow out; `plant_activations` makes raw activations of them. A rule looks at
the token and what stands before it, as a model does. Knows no judge and no score.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float

from autointerp.provenance import generator
from autointerp.selftest.text import NEWLINE, Grid

Strengths = Float[np.ndarray, "row tok"]
Rule = Callable[[Grid], Strengths]
NearMiss = Literal["broad", "narrow", "tokens", "neighbour", "unrelated"]
NEAR_MISSES: tuple[NearMiss, ...] = get_args(NearMiss)
UNRELATED_STEP = 5
"""An unrelated explanation is the true one of the feature so many places on."""


class Claim(NamedTuple):
    """An explanation in words, and the rule that someone who understands it would apply."""

    text: str
    rule: Rule


@dataclass(frozen=True)
class PlantedText:
    """One planted feature; a near-miss that would be the truth itself is left out."""

    kind: str
    true: Claim
    near: dict[NearMiss, Claim]
    spread: float = 0.25
    """Standard deviation of the log of the activation around its strength."""
    holes: float = 0.0
    """Share of the places its rule names on which the feature is silent all the same (absorption)."""


def plant_activations(planted: PlantedText, grid: Grid, seed: int) -> Float[np.ndarray, "row tok"]:
    """Raw activations: the rule's strength times log-normal noise, silent at the feature's holes."""
    rng = generator(seed, "planted text", planted.kind)
    noise = np.exp(planted.spread * rng.standard_normal(grid.shape))
    return np.where(rng.random(grid.shape) < planted.holes, 0.0, planted.true.rule(grid) * noise)


def _word(pattern: str) -> str:
    return rf" ?({pattern})"


def _like(pattern: str, grid: Grid, strength: float = 1.0) -> Strengths:
    return strength * grid.like(_word(pattern))


def _is(pattern: str) -> Rule:
    """Tokens that match, all alike."""
    return partial(_like, pattern)


def _strongest(*rules: Strengths) -> Strengths:
    return np.asarray(np.maximum.reduce(rules))


def _where(mask: Callable[[Grid], Bool[np.ndarray, "row tok"]]) -> Rule:
    return lambda grid: mask(grid).astype(float)


def _listed(*tokens: str) -> Claim:
    """The explanation that is a list of tokens."""
    quoted = ", ".join(f'"{token}"' for token in tokens)
    return Claim(f"the tokens {quoted}", _is("|".join(map(re.escape, tokens))))


def _returned(pattern: str, mark: str, n: int) -> Rule:
    return _where(lambda g: g.like(_word(pattern)) & g.within(g.like(_word(mark)), n))


def _opened(sign: str, pattern: str) -> Rule:
    return _where(lambda g: g.after(g.like(sign)) & g.like(_word(pattern)))


def _prompt(grid: Grid) -> Bool[np.ndarray, "row tok"]:
    return np.asarray(grid.since(grid.like(">>>"), grid.like(NEWLINE)) & ~grid.like(NEWLINE))


def _indented(grid: Grid) -> Bool[np.ndarray, "row tok"]:
    return np.asarray(grid.since(grid.like(" {3,}"), grid.like(NEWLINE)) & ~grid.like(NEWLINE))


def _line_start(pattern: str, n: int = 1) -> Rule:
    return _where(lambda g: g.within(g.like(NEWLINE), n) & g.like(_word(pattern)))


def _paragraph_start(grid: Grid) -> Strengths:
    newline = grid.like(NEWLINE)
    return np.asarray((grid.after(newline & grid.after(newline)) & grid.like(_word(r"\w+"))).astype(float))


def _by_digits(grid: Grid) -> Strengths:
    return _strongest(*(_like(rf"\d{{{n}}}", grid, s) for n, s in ((2, 0.4), (3, 0.7), ("4,", 1.0))))


def _by_length(grid: Grid) -> Strengths:
    return _strongest(*(_like(f"[a-z]{{{n}}}", grid, min(n, 12) / 12) for n in range(4, 13)), _like("[a-z]{12,}", grid))


_TIME = r"[Dd]ates?|[Tt]imes?|hours?|days?|months?|years?|minutes?|seconds?|timezones?"
_WRONG = r"[Rr]ais\w+|[Ff]ail\w*|invalid|missing|[Ww]arnings?|not|cannot"
_COLLECTIONS = "[Ll]ists?|[Tt]uples?|[Ss]ets?|[Dd]icts?|dictionary|[Ss]equences?"
_MODULES = "import|[Mm]odules?|packages?|library"
_RETURN = "[Rr]eturns?"
_ERRORS = r"[Ee]rrors?|[Ee]xceptions?|\w+Error"


def _passage(topic: str, pattern: str = "[a-z]{3,}", n: int = 12) -> Rule:
    """Words within n tokens after a word of the topic, and that word itself twice as much."""
    return lambda g: _strongest(
        _like(topic, g), 0.5 * (g.within(g.like(_word(topic)), n) & g.like(_word(pattern))).astype(float)
    )


_SPECS: tuple[PlantedText, ...] = (
    PlantedText(
        "single token",
        Claim('the word "import"', _is("import")),
        {
            "broad": Claim(
                "words about modules: import, module, package, library", _is("import|[Mm]odules?|packages?|library")
            ),
            "narrow": Claim('"import" typed at the prompt', _where(lambda g: _prompt(g) & g.like(_word("import")))),
            "neighbour": Claim('the word "from"', _is("from")),
        },
    ),
    PlantedText(
        "token in context",
        Claim(
            '"True" where the text says what is returned, within three words after "return"',
            _returned("True", "[Rr]eturns?", 3),
        ),
        {
            "broad": Claim("the words True and False, wherever they stand", _is("True|False")),
            "narrow": Claim('"True" directly after "Returns"', _returned("True", "Returns", 1)),
            "tokens": _listed("True"),
            "neighbour": Claim(
                '"False" or "None" within three words after "return"', _returned("False|None", "[Rr]eturns?", 3)
            ),
        },
    ),
    PlantedText(
        "after-token",
        Claim("the word or number right after an opening parenthesis", _opened(r"\(", r"\w+")),
        {
            "broad": Claim(
                "everything inside parentheses",
                _where(lambda g: g.since(g.like(r"\("), g.like(r"\)")) & ~g.like(r"\)")),
            ),
            "narrow": Claim("a number right after an opening parenthesis", _opened(r"\(", r"\d+")),
            "tokens": _listed("self", "x", "default", "e", "see"),
            "neighbour": Claim("the word or number right after an opening square bracket", _opened(r"\[", r"\w+")),
        },
    ),
    PlantedText(
        "position",
        Claim("the first word of a line", _line_start(r"\w+")),
        {
            "broad": Claim("the first four words and signs of a line", _line_start(r"\S+", 4)),
            "narrow": Claim("the first word of a paragraph, after an empty line", _paragraph_start),
            "tokens": _listed("Return", "The", "If", "This", "Returns"),
            "neighbour": Claim("the first word after a full stop", _opened(r"\.", r"\w+")),
        },
    ),
    PlantedText(
        "code against prose",
        Claim('code typed at the interactive prompt, on lines that begin with ">>>"', _where(_prompt)),
        {
            "broad": Claim("code and anything indented", _where(lambda g: _prompt(g) | _indented(g))),
            "narrow": Claim('the first word after ">>>"', _where(lambda g: g.after(g.like(">>>")))),
            "tokens": _listed("(", ")", "=", "[", "]"),
            "neighbour": Claim("indented text that is not at the prompt", _where(lambda g: _indented(g) & ~_prompt(g))),
        },
    ),
    PlantedText(
        "number format",
        Claim("numbers of two or more digits, the more digits the stronger", _by_digits),
        {
            "broad": Claim("anything with a digit in it", _is(r"\w*\d\w*")),
            "narrow": Claim("numbers of four or more digits", _is(r"\d{4,}")),
            "tokens": _listed("10", "16", "32", "100"),
            "neighbour": Claim("single digits", _is(r"\d")),
        },
    ),
    PlantedText(
        "capitalisation",
        Claim("words of two or more letters, all capitals", _is("[A-Z]{2,}")),
        {
            "broad": Claim("words that begin with a capital", _is(r"[A-Z]\w*")),
            "narrow": Claim("words of five or more letters, all capitals", _is("[A-Z]{5,}")),
            "tokens": _listed("RFC", "XML", "HTTP", "URL", "ASCII"),
            "neighbour": Claim("names in CamelCase", _is(r"[A-Z][a-z]+[A-Z]\w*")),
        },
    ),
    PlantedText(
        "two-sense",
        Claim(
            'the word "file" or "files", and apart from that the word "time"',
            lambda g: _strongest(_like("[Ff]iles?", g), _like("[Tt]imes?", g, 0.6)),
        ),
        {
            "broad": Claim(
                "words about files and folders, and words about dates and times",
                _is(rf"[Ff]iles?|[Pp]aths?|directory|directories|folders?|names?|{_TIME}"),
            ),
            "narrow": Claim('the word "time"', _is("[Tt]imes?")),
            "tokens": _listed("file", "path", "date"),
            "neighbour": Claim('the words "path" and "date"', _is("[Pp]aths?|[Dd]ates?")),
        },
    ),
    PlantedText(
        "dense",
        Claim("words of four or more small letters, the longer the stronger", _by_length),
        {
            "broad": Claim("any word", _is("[A-Za-z]+")),
            "narrow": Claim("words of nine or more small letters", _is("[a-z]{9,}")),
            "tokens": _listed("with", "that", "from", "this", "will"),
            "neighbour": Claim("words of up to three small letters", _is("[a-z]{1,3}")),
        },
    ),
    PlantedText(
        "very rare",
        Claim('the word "warning" or "warnings"', _is("[Ww]arnings?")),
        {
            "broad": Claim(
                "words for trouble: warning, error, exception, failure", _is(rf"[Ww]arnings?|{_ERRORS}|[Ff]ail\w*")
            ),
            "narrow": Claim('"warnings", in the plural', _is("[Ww]arnings")),
            "tokens": _listed("warning", "error"),
            "neighbour": Claim("names that end in Warning", _is(r"\w+Warning")),
        },
    ),
    PlantedText(
        "with holes",
        Claim('the word "list" or "lists"', _is("[Ll]ists?")),
        {
            "broad": Claim("words for collections: list, tuple, set, dict, sequence", _is(_COLLECTIONS)),
            "narrow": Claim('"lists", in the plural', _is("[Ll]ists")),
            "tokens": _listed("list", "tuple"),
            "neighbour": Claim('the word "tuple"', _is("[Tt]uples?")),
        },
        holes=0.05,
    ),
    PlantedText("dead", Claim("nothing in this text", _where(lambda g: np.zeros(g.shape, dtype=bool))), {}),
    PlantedText(
        "heavy-tailed",
        Claim(
            "words for errors and exceptions, and most of all names that end in Error",
            lambda g: _strongest(_like(_ERRORS, g, 0.5), _like(r"\w+Error", g)),
        ),
        {
            "broad": Claim(
                "words for anything that goes wrong or is raised, fails, is invalid or missing",
                _is(rf"{_ERRORS}|{_WRONG}"),
            ),
            "narrow": Claim("names that end in Error", _is(r"\w+Error")),
            "tokens": _listed("error", "exception"),
            "neighbour": Claim('forms of the verb "raise"', _is(r"[Rr]ais\w+")),
        },
        spread=1.5,
    ),
    PlantedText(
        "bursty",
        Claim("words in a passage about dates and times, above all the words for time themselves", _passage(_TIME)),
        {
            "broad": Claim("any word of three or more letters", _is("[A-Za-z]{3,}")),
            "narrow": Claim("the words for dates and times themselves", _is(_TIME)),
            "tokens": _listed("date", "day", "year", "hour", "the"),
            "neighbour": Claim("words in a passage about files and folders", _passage("[Ff]iles?|[Pp]aths?|directory")),
        },
    ),
)


def planted_texts() -> tuple[PlantedText, ...]:
    """All planted features, each with another one's truth as its unrelated explanation."""
    alive = [spec for spec in _SPECS if spec.near]
    unrelated = {spec.kind: alive[(i + UNRELATED_STEP) % len(alive)].true for i, spec in enumerate(alive)}
    return tuple(replace(s, near={**s.near, "unrelated": unrelated[s.kind]}) if s.near else s for s in _SPECS)
