"""One small harvest a session, and what it takes to make another."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from autointerp.config import RunConfig, check_config
from autointerp.harvest.events import Harvest
from autointerp.harvest.session import harvest_dictionaries
from tests.small_run import SmallRun, make_texts

MakeConfig = Callable[..., RunConfig]


def small_config(small: SmallRun, out: Path, **harvest: object) -> RunConfig:
    """Both dictionaries over the small corpus, in shards of 16 documents and batches of 8."""
    return check_config(
        {
            "model": str(small.model),
            "corpus": str(small.corpus),
            "dictionary": [{"id": "planted", "path": str(small.planted)}, {"id": "topk", "path": str(small.topk)}],
            "out": out,
            "harvest": {"batch_size": 8, "shard_tokens": 2048, "threads": 1, "device": "cpu", **harvest},
        },
        "test",
    )


def run_harvest(config: RunConfig, only: Sequence[str] | None = None) -> Path:
    """Harvest what is missing, or only some dictionaries; returns the harvest's folder."""
    folder = config.out / "harvest"
    asked = [d for d in config.dictionary if only is None or d.id in only]
    harvest_dictionaries(
        folder, config, asked, config.out / "cache", lambda stage, done, total: None, lambda text: None
    )
    return folder


@pytest.fixture(scope="session")
def harvested(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished harvest of the small run; not to be written to."""
    return run_harvest(small_config(small, tmp_path_factory.mktemp("harvested")))


@pytest.fixture(scope="session")
def planted(harvested: Path) -> Harvest:
    """The planted dictionary's harvest."""
    return Harvest(harvested, "planted")


@pytest.fixture(scope="session")
def topk(harvested: Path) -> Harvest:
    """The random TopK dictionary's harvest."""
    return Harvest(harvested, "topk")


@pytest.fixture(scope="session")
def short(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The small run over documents of 5 to 30 words."""
    file = tmp_path_factory.mktemp("short") / "text.jsonl"
    texts = [text.split() for text in make_texts(100).values()]
    lines = [json.dumps({"text": " ".join(words[: 5 + 7 * i % 26])}) + "\n" for i, words in enumerate(texts)]
    file.write_text("".join(lines), encoding="utf-8")
    return small._replace(corpus=file)
