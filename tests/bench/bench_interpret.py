"""What one feature costs after the harvest, stage by stage, on the demo's own run (`make demo` first).

    python tests/bench/bench_interpret.py

Prints milliseconds of processor time a feature, best of 5 passes over 60 features, and each stage's share of the sum.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from autointerp.examples import Chooser
from autointerp.harvest.events import Harvest
from autointerp.interpret.lookup import LookupExplainer, LookupSimulator
from autointerp.interpret.protocols import PROTOCOLS
from autointerp.interpret.score import Shuffled, Terms, score_feature
from autointerp.records import Explanation, FeatureRecord
from autointerp.scores import FeatureScore
from autointerp.selection import select_features
from autointerp.splits import CorpusIndex

RUN = Path("runs/demo")
N_FEATURES = 60
PASSES = 5


def main() -> int:
    """Measure and print."""
    if not (RUN / "summary.json").is_file():
        print("run `make demo` first: this measures on its harvest", file=sys.stderr)
        return 2
    harvest = Harvest(RUN / "harvest", "topk")
    chooser = Chooser(harvest, CorpusIndex(harvest.corpus, 0), "topk", PROTOCOLS["graded"].design)
    features = select_features(f"sample:{N_FEATURES}", harvest.stats.n_active, "topk", 0)
    records = [chooser.feature_record(feature) for feature in features]
    explained = [_explain(record) for record in records]
    stages: dict[str, Callable[[], object]] = {
        "choose examples": lambda: [chooser.feature_record(feature) for feature in features],
        "explain (look-up)": lambda: [_explain(record) for record in records],
        "simulate and score with controls": lambda: [_score(*pair) for pair in zip(records, explained, strict=True)],
    }
    best = {name: min(_seconds(work) for _ in range(PASSES)) / len(features) for name, work in stages.items()}
    whole = sum(best.values())
    print("| stage | ms a feature | share |\n| --- | --- | --- |")
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1e3:.1f} | {seconds / whole:.0%} |")
    print(f"| all | {whole * 1e3:.1f} | 100% |")
    return 0


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _explain(record: FeatureRecord) -> Explanation:
    found = asyncio.run(LookupExplainer().explain(record, 1))
    assert isinstance(found, Sequence)
    return found[0]


def _score(record: FeatureRecord, explanation: Explanation) -> FeatureScore:
    examples = [example for example in record.splits.score if example.block == 0]
    simulation = asyncio.run(LookupSimulator().simulate(explanation, [example.window for example in examples]))
    return score_feature(
        record,
        examples,
        simulation.levels,
        Terms("graded-60", "lookup", "bca"),
        no_pattern=explanation.no_pattern,
        shuffled=Shuffled(simulation.levels),
    )


if __name__ == "__main__":
    sys.exit(main())
