"""Every path through torch on a pretended device: what is harvested there is what is harvested on the CPU."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autointerp.config import RunConfig, check_config
from autointerp.harvest.events import Harvest
from tests.device import pretended
from tests.every_dictionary import every_dictionary
from tests.small_run import SmallRun, make_texts
from tests.unit.harvest.conftest import run_harvest

Configure = Callable[..., RunConfig]
HARD = {
    "pack": True,
    "keep": "sample",
    "keep_tokens": 1024,
    "keep_strongest": 2,
    "max_norm": 1.05,
    "skip_tokens": 2,
    "special_tokens": True,
}


@pytest.fixture(scope="module")
def few(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Configure:
    """Makes a configuration over a few documents of unlike lengths, with some of all dictionaries or every one."""
    root = tmp_path_factory.mktemp("few")
    words = [text.split() for text in make_texts(24).values()]
    lines = [json.dumps({"text": " ".join(some[: 20 + 9 * i % 60])}) + "\n" for i, some in enumerate(words)]
    (root / "text.jsonl").write_text("".join(lines), encoding="utf-8")
    tables = every_dictionary(small, root / "dictionaries")

    def configure(out: Path, names: Sequence[str] = (), **harvest: object) -> RunConfig:
        asked = [table for table in tables if not names or table["id"] in names]
        settings = {"batch_size": 4, "shard_tokens": 1024, "threads": 1, "loss_tokens": 120, "device": "cpu"}
        return check_config(
            {"model": str(small.model), "corpus": str(root / "text.jsonl"), "dictionary": asked, "out": out,
             "harvest": {**settings, **harvest}},
            "test",
        )  # fmt: skip

    return configure


def figures(harvest: Harvest) -> dict[str, float]:
    """Every metric by its path."""
    found: dict[str, float] = {}

    def walk(values: dict[str, Any], path: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{path}{name}.")
            elif value is not None:
                found[path + name] = value

    walk(harvest.metrics.model_dump(), "")
    return found


def alike(one: Path, other: Path, ids: Sequence[str]) -> None:
    """Both harvests hold the same events, facts and metrics of each dictionary."""
    for name in ids:
        a, b = Harvest(one, name), Harvest(other, name)
        assert figures(b) == pytest.approx(figures(a), rel=1e-4), name  # Apple's devices have no float64
        for field, x, y in zip(a.facts._fields, a.facts, b.facts, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{name} {field}")
        for feature in range(a.spec.d_sae):
            here, there = a.read(feature), b.read(feature)
            np.testing.assert_array_equal(here.slot, there.slot, err_msg=f"{name} {feature}")
            np.testing.assert_array_equal(here.value, there.value, err_msg=f"{name} {feature}")


@pytest.fixture(scope="module")
def of_all(few: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every dictionary on the CPU; not to be written to."""
    return run_harvest(few(tmp_path_factory.mktemp("of-all")))


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_every_dictionary_is_harvested_as_on_the_cpu(few: Configure, of_all: Path, tmp_path: Path, device: str) -> None:
    """random@ met its dictionary on the CPU; on the second card events were read before they had arrived."""
    config = few(tmp_path, device=device)
    with pretended(0 if device == "mps" else 2, mps=device == "mps") as machine:
        folder = run_harvest(config)
    assert machine.highest[device if device != "mps" else "mps:0"] > 0
    assert not machine.highest["cuda:0"], "a tensor on the card that was not asked for"
    alike(of_all, folder, [d.id for d in config.dictionary])
