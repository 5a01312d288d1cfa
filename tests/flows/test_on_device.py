"""A whole run where the harvest has a device of its own, as the demo's: two dictionaries and random directions."""

import asyncio
from pathlib import Path

from autointerp import aio
from autointerp.config import check_config
from tests.device import pretended
from tests.small_run import SmallRun


def test_a_run_with_random_directions_is_the_cpus(small: SmallRun, tmp_path: Path) -> None:
    """`make demo` on a machine with a GPU ended in a traceback: random@ met its dictionary on the CPU."""
    dictionaries = [
        {"id": "planted", "path": str(small.planted)},
        {"id": "topk", "path": str(small.topk)},
        {"id": "random", "path": "random@topk"},
    ]
    summaries = []
    for name in ("cpu", "cuda"):
        harvest = {"device": name, "dtype": "float32", "batch_size": 8, "n_tokens": 3000, "loss_tokens": 100}
        values = {"model": str(small.model), "corpus": str(small.corpus), "dictionary": dictionaries}
        config = check_config({**values, "out": tmp_path / name, "features": "sample:10", "harvest": harvest}, "test")
        with pretended(int(name == "cuda")) as machine:
            summaries.append(asyncio.run(aio.run(config)))
            assert bool(sum(machine.highest.values())) == (name != "cpu")
    assert summaries[0].keys() == summaries[1].keys()
    for one, other in zip(summaries[0].values(), summaries[1].values(), strict=True):
        assert one.model_dump(exclude={"metrics"}) == other.model_dump(exclude={"metrics"})
