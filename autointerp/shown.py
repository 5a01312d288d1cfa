"""Which text of the corpus is shown to an endpoint: explainers and simulators with a note of the windows they get.

A plan flows in and out; windows that went into questions without an answer in the cache are counted, each once for a
feature. Changes no question and no answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autointerp.interpret.explain import Explainer, Refiner
from autointerp.interpret.simulate import Simulator
from autointerp.llm.foreseen import Foreseen
from autointerp.llm.purpose import purpose
from autointerp.plans import Interpretation
from autointerp.records import Explanation, Failed, FeatureRecord, Simulation, Window


class Shown:
    """Watches which windows are shown to an endpoint in questions that the cache does not answer."""

    def __init__(self, model: Foreseen) -> None:
        self._model = model
        self._windows: dict[str, set[tuple[str, ...]]] = {}
        self._sums = [0.0, 0.0]

    def watching(self, plan: Interpretation) -> Interpretation:
        """The plan with all that is shown noted."""
        refiner = _WatchedRefiner(self, plan.refiner) if plan.refiner else None
        return replace(
            plan,
            explainer=_WatchedExplainer(self, plan.explainer),
            refiner=refiner,
            simulator=_WatchedSimulator(self, plan.simulator),
        )

    def note(self, before: int, windows: Sequence[tuple[str, ...]]) -> None:
        """These were shown, where more was asked meanwhile than `before`."""
        if self.asked > before:
            self._windows.setdefault(purpose().feature, set()).update(windows)

    @property
    def asked(self) -> int:
        """Calls so far for what is asked for here and now."""
        return self._model.by_purpose[purpose()]

    def scale(self, factor: float) -> None:
        """Put away what was shown of a sample."""
        shown = [window for windows in self._windows.values() for window in windows]
        self._sums[0] += factor * len(shown)
        self._sums[1] += factor * sum(len(token) for window in shown for token in window)
        self._windows.clear()

    @property
    def total(self) -> tuple[int, int]:
        """Windows and their characters, of all samples put away."""
        return round(self._sums[0]), round(self._sums[1])


@dataclass(frozen=True)
class _WatchedExplainer:
    shown: Shown
    inner: Explainer

    @property
    def author(self) -> str:
        return self.inner.author

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        before = self.shown.asked
        answer = await self.inner.explain(record, n_candidates)
        self.shown.note(before, [example.record.tokens for example in record.splits.explain])
        return answer


@dataclass(frozen=True)
class _WatchedRefiner:
    shown: Shown
    inner: Refiner

    @property
    def refine_digest(self) -> str:
        return self.inner.refine_digest

    async def refine(
        self, record: FeatureRecord, explanation: Explanation, simulated: Simulation
    ) -> Explanation | Failed:
        before = self.shown.asked
        answer = await self.inner.refine(record, explanation, simulated)
        self.shown.note(before, [example.record.tokens for example in record.splits.select])
        return answer


@dataclass(frozen=True)
class _WatchedSimulator:
    shown: Shown
    inner: Simulator

    @property
    def name(self) -> str:
        return self.inner.name

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        before = self.shown.asked
        simulation = await self.inner.simulate(explanation, windows)
        self.shown.note(before, [window.tokens for window in windows])
        return simulation
