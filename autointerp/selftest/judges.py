"""Judges with dials: simulators that know the rule behind each explanation and answer it as badly as they are told to.

Explanations and bare windows flow in, a `Simulation` flows out, as from any simulator. The same judge serves as an
answer function for the rehearsal server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.format import MAX_LEVEL
from autointerp.interpret.lookup import asked_for, parse_entries, read_levels
from autointerp.interpret.oracle import oracle
from autointerp.interpret.simulate import WINDOWS_A_REQUEST, Tokens
from autointerp.llm.answers import AnswerFunction
from autointerp.provenance import generator
from autointerp.records import Explanation, Simulation, Usage, Window
from autointerp.selftest.planted import Rule, planted_texts
from autointerp.selftest.text import Grid, split_again


@dataclass(frozen=True)
class Dials:
    """How a judge errs."""

    recall: float = 1.0
    """Chance to see a token to which the explanation applies."""
    false_alarms: float = 0.0
    """Chance to see one where it does not."""
    level_sd: float = 0.0
    """Noise on the level of what it sees."""
    failures: float = 0.0
    """Share of requests whose answer cannot be read."""


JUDGES: dict[str, Dials] = {
    "careful": Dials(recall=0.95, false_alarms=0.01, level_sd=1.0),
    "hasty": Dials(recall=0.7, false_alarms=0.1, level_sd=3.0),
    "unreadable": Dials(recall=0.95, false_alarms=0.01, level_sd=1.0, failures=0.3),
}


def known_claims() -> dict[str, Rule]:
    """The rule behind every explanation of the planted features, true or not, by its text."""
    claims = [claim for planted in planted_texts() for claim in (planted.true, *planted.near.values())]
    return {claim.text: claim.rule for claim in claims}


@dataclass(frozen=True)
class DialledJudge:
    """A simulator with a known rule and dialled errors; one seed is one asking."""

    dials: Dials
    claims: Mapping[str, Rule]
    seed: int

    name = "dialled"

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        """Levels as the rule and the dials have it; every window failed where the explanation is not known."""
        rule = self.claims.get(explanation.text)
        if rule is None:
            reasons = tuple((i, "not_understood") for i in range(len(windows)))
            return Simulation(levels=(None,) * len(windows), failures=reasons)
        rng = generator("judge", self.seed, explanation.feature, explanation.text, len(windows))
        strengths = rule(Grid.of([window.tokens for window in windows]))
        size = WINDOWS_A_REQUEST if windows and windows[0].target is not None else 1
        n_requests = -(-len(windows) // size)
        failed = np.repeat(rng.random(n_requests) < self.dials.failures, size)[: len(windows)]
        answered = self._answer(strengths, rng)
        levels = [
            None if lost else asked_for(window, tuple(row[: len(window.tokens)].tolist()))
            for window, row, lost in zip(windows, answered, failed.tolist(), strict=True)
        ]
        return Simulation(
            levels=tuple(levels),
            failures=tuple((i, "malformed") for i in np.flatnonzero(failed).tolist()),
            usage=Usage(calls=n_requests),
        )

    def _answer(self, strengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        applies = strengths > 0
        seen = rng.random(strengths.shape) < np.where(applies, self.dials.recall, self.dials.false_alarms)
        meant = np.where(applies, MAX_LEVEL * strengths, rng.integers(1, MAX_LEVEL + 1, strengths.shape))
        noisy = np.rint(meant + self.dials.level_sd * rng.standard_normal(strengths.shape)).clip(1, MAX_LEVEL)
        return np.where(seen, noisy, 0).astype(int)


def rehearsal_levels(explanation: str, tokens: Tokens) -> list[int] | None:
    """What a judge without errors says of pieces of text; None for an explanation that is none of ours."""
    entries = parse_entries(explanation)
    if entries is not None:
        return list(read_levels(entries, tokens))
    rule = known_claims().get(explanation)
    if rule is None:
        return None
    words = split_again(tokens)
    levels = np.rint(MAX_LEVEL * rule(Grid.of([words]))[0]).astype(int)
    ends = np.cumsum([len(word) for word in words])
    places = np.searchsorted(ends, np.cumsum([len(token) for token in tokens]))
    return [int(levels[min(place, len(levels) - 1)]) for place in places]


rehearsal: AnswerFunction = oracle(rehearsal_levels)
"""For `autointerp testserver --answer autointerp.selftest.judges:rehearsal`: a judge to rehearse `selftest --llm`."""
