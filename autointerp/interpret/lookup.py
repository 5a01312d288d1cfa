"""The path without an LLM: an explainer and a simulator that share one readable grammar, and the baseline beside them.

    fires on "import" (8); on "as" after "import" (5); else 0

The explainer writes that text from what the explain part says of each token. The simulator parses it and sees nothing
else.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from autointerp.examples import MOST_PAIRS
from autointerp.interpret.simulate import Tokens
from autointerp.provenance import digest
from autointerp.records import Example, Explanation, Failed, FeatureRecord, Level, Simulation, TokenTable, Window

MOST_ENTRIES = 20
MOST_TOKENS = 256
"""Single tokens considered, the heaviest first."""
LEAST_GAIN = 0.003
"""The explainer stops at an entry that adds less than this share of what the entries before it explain."""
NO_PATTERN = "no clear pattern"
DOUBT = 8
"""An entry seen n times counts n / (n + DOUBT) of what it explains there: rare pairs are mostly chance."""
_QUOTED = r'"([^"]*)"'
_ENTRY = re.compile(rf"on {_QUOTED}(?: after {_QUOTED})? \((10|[0-9])\)")
_TEXT = re.compile(rf"fires ({_ENTRY.pattern}(?:; {_ENTRY.pattern})*); else 0")
_QUOTE = "\\u{22}"
_QUOTE_OR_BACKSLASH = re.compile(r"\\\\|\\u\{22\}")


class Entry(NamedTuple):
    """One line of a look-up explanation."""

    token: str
    previous: str | None
    level: int


def format_entries(entries: Sequence[Entry]) -> str:
    """The explanation's text; at least one entry."""
    return "fires " + "; ".join(_format_entry(entry) for entry in entries) + "; else 0"


def _format_entry(entry: Entry) -> str:
    after = f' after "{_quote(entry.previous)}"' if entry.previous is not None else ""
    return f'on "{_quote(entry.token)}"{after} ({entry.level})'


def _quote(token: str) -> str:
    return token.replace('"', _QUOTE)


def _unquote(quoted: str) -> str:
    return _QUOTE_OR_BACKSLASH.sub(lambda match: '"' if match[0] == _QUOTE else match[0], quoted)


def parse_entries(text: str) -> list[Entry] | None:
    """The inverse of `format_entries`; None for a text outside the grammar."""
    whole = _TEXT.fullmatch(text)
    if whole is None:
        return None
    return [
        Entry(
            _unquote(match[1]),
            _unquote(match[2]) if match[2] is not None else None,
            int(match[3]),
        )
        for match in _ENTRY.finditer(whole[1])
    ]


def words_of(text: str) -> str:
    """The words by which an explanation can be looked up in text: a look-up's tokens without its levels and grammar."""
    entries = parse_entries(text)
    if entries is None:
        return text
    return " ".join(part for entry in entries for part in (entry.previous, entry.token) if part is not None)


class LookupExplainer:
    """Names the tokens, alone or after another, that carry most of the activation."""

    author = "lookup"

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        """One explanation; `n_candidates` makes no difference."""
        table = record.token_table or count_tokens(record.splits.explain)
        entries = choose_entries(table)
        return [
            Explanation(
                feature=record.feature,
                text=format_entries(entries) if entries else NO_PATTERN,
                no_pattern=not entries,
                author=self.author,
                method="lookup",
                examples_digest=digest(table.model_dump()),
            )
        ]


class LookupSimulator:
    """Reads the levels off an explanation's entries; the most specific match wins, and nothing matches as 0."""

    name = "lookup"

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        """Levels of every window, or every window failed where the text is outside the grammar."""
        entries = parse_entries(explanation.text)
        if entries is None:
            return Simulation(
                levels=(None,) * len(windows), failures=tuple((i, "outside_grammar") for i in range(len(windows)))
            )
        return Simulation(levels=tuple(asked_for(w, read_levels(entries, w.tokens)) for w in windows))


def asked_for(window: Window, levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The target's level alone, or all levels of a window without one."""
    return levels if window.target is None else (levels[window.target],)


def read_levels(entries: Sequence[Entry], window: Tokens) -> tuple[int, ...]:
    """A window's levels off the entries: the most specific match, else 0."""
    level = {(entry.previous, entry.token): entry.level for entry in entries}
    return tuple(
        level.get((previous, token), level.get((None, token), 0))
        for previous, token in zip([None, *window], window, strict=False)
    )


def choose_entries(table: TokenTable) -> list[Entry]:
    """At most 20 entries, most telling first: each explains most squared level beyond those before it.

    An entry's level is the mean over the occurrences that no more specific entry covers, rounded; entries that round
    to 0 are left out.
    """
    weights = _Weights(table)
    chosen: list[_Key] = []
    gained = 0.0
    while len(chosen) < MOST_ENTRIES and weights.gains:
        key = max(weights.gains, key=weights.gains.__getitem__)
        gain = weights.gains[key]
        if gain <= LEAST_GAIN * gained:
            break
        chosen.append(key)
        gained += gain
        weights.choose(key)
    entries = []
    for token, previous in chosen:
        level = min(10, int(weights.mean(token, previous) + 0.5))
        if level:
            entries.append(Entry(token, previous, level))
    return entries


_Key = tuple[str, str | None]
"""A token, and the one before it or None for the token wherever it stands."""


class _Weights:
    """What each candidate entry would explain, kept true as entries are chosen."""

    def __init__(self, table: TokenTable) -> None:
        self._count = dict(zip(table.tokens, table.counts, strict=True))
        self._total = dict(zip(table.tokens, table.level_sums, strict=True))
        # Only the heaviest pairs: those after them are in the table because scored windows hold them.
        columns = zip(table.pairs, table.pair_counts, table.pair_level_sums, strict=True)
        pairs = {(t, p): (n, total) for (p, t), n, total in islice(columns, MOST_PAIRS) if total}
        self._pair_count = {key: n for key, (n, _) in pairs.items()}
        self._pair_total = {key: total for key, (_, total) in pairs.items()}
        self._alone: set[str] = set()
        heaviest = sorted(table.tokens, key=lambda token: -self._total[token])[:MOST_TOKENS]
        self._keys: dict[str, list[_Key]] = {token: [(token, None)] for token in heaviest if self._total[token]}
        for token, previous in self._pair_count:
            self._keys.setdefault(token, []).append((token, previous))
        self.gains = {key: self._gain(*key) for keys in self._keys.values() for key in keys}

    def mean(self, token: str, previous: str | None) -> float:
        """Mean level over the occurrences of a pair, or of a token outside the chosen pairs."""
        if previous is not None:
            return self._pair_total[token, previous] / self._pair_count[token, previous]
        return self._total[token] / self._count[token] if self._count[token] else 0.0

    def choose(self, key: _Key) -> None:
        """Take an entry; the other entries of its token are weighed anew."""
        token, previous = key
        if previous is None:
            self._alone.add(token)
        else:
            self._count[token] -= self._pair_count[token, previous]
            self._total[token] -= self._pair_total[token, previous]
        self._keys[token].remove(key)
        del self.gains[key]
        for other in self._keys[token]:
            self.gains[other] = self._gain(*other)

    def _gain(self, token: str, previous: str | None) -> float:
        """Squared level explained beyond what the chosen entries predict there; 0 for what rounds to level 0."""
        if previous is None:
            n, total, now = self._count[token], self._total[token], 0.0
        else:
            n, total = self._pair_count[token, previous], self._pair_total[token, previous]
            now = self.mean(token, None) if token in self._alone else 0.0
        if not n or total < n / 2:
            return 0.0
        return n * (total / n - now) ** 2 * n / (n + DOUBT)


def count_tokens(examples: Sequence[Example]) -> TokenTable:
    """A token table of the examples alone, for records that come without a corpus."""
    counts: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    pair_counts: Counter[tuple[str, str]] = Counter()
    pair_sums: Counter[tuple[str, str]] = Counter()
    for example in examples:
        previous: str | None = None
        for token, level in zip(example.record.tokens, example.levels, strict=True):
            counts[token] += 1
            sums[token] += level
            if previous is not None:
                pair_counts[previous, token] += 1
                pair_sums[previous, token] += level
            previous = token
    pairs = [pair for pair, total in pair_sums.most_common() if total]
    return TokenTable(
        tokens=tuple(counts),
        counts=tuple(counts.values()),
        level_sums=tuple(sums[token] for token in counts),
        pairs=tuple(pairs),
        pair_counts=tuple(pair_counts[pair] for pair in pairs),
        pair_level_sums=tuple(pair_sums[pair] for pair in pairs),
        mean_level=sums.total() / max(counts.total(), 1),
    )
