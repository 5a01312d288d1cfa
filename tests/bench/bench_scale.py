"""Ten thousand items and a hundred thousand: peak memory, and how soon a finished run that is resumed starts work.

    python tests/bench/bench_scale.py [--items 10000,100000]

An item is a question to the language model: an explanation, six of ten windows each, and the shuffled controls. Planted
features go through the real pipeline into a real store and reply cache, each size in processes of its own; the model
answers in the process, at once, so that nothing but the path is measured. The resumed run has 50 features more.
"""

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autointerp import pipeline
from autointerp.config import ScoreConfig
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.protocols import make_plan
from autointerp.interpret.simulate_llm import StructuredSimulator
from autointerp.llm.base import ChatReply, ChatRequest, Endpoint
from autointerp.llm.pace import Paced
from autointerp.llm.wrappers import Cached, Metered, Retrying
from autointerp.plans import Interpretation
from autointerp.provenance import seed_of
from autointerp.records import Example, FeatureId, FeatureRecord, Usage
from autointerp.store.replies import SqliteReplyCache
from autointerp.store.runs import RunStore
from tests.flows.planted import N_FEATURES, feature_record

ITEMS_A_FEATURE = 7.6
"""One explanation, six questions, six more for the tenth that gets a shuffled control."""
MORE = 50
_ASKED_FOR = re.compile(r"passages 1 to (\d+):")


@dataclass
class Answering:
    """Answers at once, something else to every question."""

    name: str = "fake:answering"
    first: float | None = None
    """When it was asked first, in seconds since 1970."""
    n: int = 0

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Levels, or an explanation."""
        self.first, self.n = self.first or time.time(), self.n + 1
        await asyncio.sleep(0)
        asked = request.messages[-1].content
        n_levels = _ASKED_FOR.search(asked)
        seed = seed_of(asked)
        if n_levels is None:
            text = f"Explanation: the word number {seed % 10**6}"
        else:
            text = json.dumps({str(i): (seed >> 2 * i) % 4 * 3 for i in range(1, int(n_levels[1]) + 1)})
        usage = Usage(calls=1, input_tokens=len(asked) // 4, output_tokens=len(text) // 4)
        return ChatReply(text=text, finish_reason="stop", model="m", usage=usage)


class Planted:
    """The twenty planted features over and over, every window with a token of its own."""

    def __init__(self, design: str) -> None:
        self._base = [feature_record(i, design, targets=True) for i in range(N_FEATURES)]

    def feature_record(self, feature: int) -> FeatureRecord:
        """The record of one feature."""
        base = self._base[feature % N_FEATURES]

        def own(examples: tuple[Example, ...]) -> tuple[Example, ...]:
            return tuple(
                e.model_copy(
                    update={"record": e.record.model_copy(update={"tokens": (f" n{feature}", *e.record.tokens[1:])})}
                )
                for e in examples
            )

        splits = base.splits
        parts = {"explain": own(splits.explain), "select": own(splits.select), "score": own(splits.score)}
        return base.model_copy(
            update={
                "feature": FeatureId(dictionary="planted", index=feature),
                "splits": splits.model_copy(update=parts),
            }
        )

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        """None."""
        return ()


async def interpret(folder: Path, n_features: int) -> Answering:
    """Explain and score so many features, or what is missing of them."""
    model, store = Answering(), RunStore(folder / "store.sqlite")
    plan = make_plan("graded", ScoreConfig())
    with SqliteReplyCache(folder / "replies.sqlite") as cache:
        endpoint = Endpoint(provider="fake", base_url="http://127.0.0.1/v1", model="m")
        wrapped = Cached(Metered(Retrying(Paced(model, 64))), cache, endpoint)
        interpretation = Interpretation(
            store=store,
            dictionary="planted",
            features=range(n_features),
            plan=plan,
            explainer_key="bench",
            simulator_key="bench",
            maker=Planted(plan.design.name),
            explainer=TsvExplainer(wrapped),
            refiner=None,
            simulator=StructuredSimulator(wrapped),
            simulator_is_free=False,
            candidates=1,
            guided=0,
            interval="jackknife",
            seed=0,
            concurrency=64,
            progress=lambda stage, done, total: None,
        )
        await pipeline.interpret([interpretation])
    store.close()
    return model


def child(folder: Path, n_features: int) -> None:
    """One process's run; prints what the parent reads."""
    model = asyncio.run(interpret(folder, n_features))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"first": model.first, "asked": model.n, "peak_mb": peak_mb}))


def measured(folder: Path, n_features: int) -> tuple[dict[str, float], float, float]:
    """What a child says, how soon after its start it asked, and how long it took, in seconds."""
    began = time.time()
    command = [sys.executable, __file__, "--child", str(folder), str(n_features)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout)
    return said, said["first"] - began, time.time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", default="10000,100000")
    parser.add_argument("--child", nargs=2)
    args = parser.parse_args()
    if args.child:
        child(Path(args.child[0]), int(args.child[1]))
        return
    columns = ("items", "features", "peak MB", "of first", "s", "items/s", "resumed: peak MB", "starts work after s")
    print(" ".join(f"{name:>{max(9, len(name))}}" for name in columns))
    first = 0.0
    for items in map(int, args.items.split(",")):
        n_features = round(items / ITEMS_A_FEATURE)
        with tempfile.TemporaryDirectory() as folder:
            said, _, seconds = measured(Path(folder), n_features)
            again, start_s, _ = measured(Path(folder), n_features + MORE)
        first = first or said["peak_mb"]
        row = (said["asked"], n_features, said["peak_mb"], said["peak_mb"] / first, seconds, said["asked"] / seconds)
        cells = [
            f"{value:.2f}" if isinstance(value, float) else str(value) for value in (*row, again["peak_mb"], start_s)
        ]
        print(" ".join(f"{c:>{max(9, len(name))}}" for c, name in zip(cells, columns, strict=True)), flush=True)


if __name__ == "__main__":
    main()
