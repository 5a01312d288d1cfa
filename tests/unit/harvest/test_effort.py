"""What a harvest says while it closes, and how many tokens losses may take."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autointerp.config import check_config
from autointerp.harvest import effort
from autointerp.harvest.effort import loss_tokens_for, work_a_token
from autointerp.harvest.encode import Reader
from autointerp.harvest.events import Harvest
from autointerp.harvest.session import harvest_dictionaries
from autointerp.records import DictionarySpec
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.model import Subject, load_model
from tests.small_run import D_MODEL, SmallRun
from tests.unit.harvest.conftest import small_config


def reader(path: Path, name: str) -> Reader:
    dictionary = load_dictionary(str(path))
    spec = DictionarySpec(
        id=name, role="trained", model="m", hook_point=dictionary.hook_point, d_in=dictionary.d_in,
        d_sae=dictionary.d_sae, kind=dictionary.kind, source="s", weights_digest="w",
    )  # fmt: skip
    return Reader(spec, dictionary, Path("nowhere"))


@pytest.fixture(scope="module")
def subject(small: SmallRun) -> Subject:
    return load_model(small.model, device="cpu")


def test_work_by_hand(small: SmallRun, subject: Subject) -> None:
    """Two blocks of 12 d² weights, a vocabulary out; losses at two hook points are four whole passes each.

    Query, key and value are held both joined and apart, which counts a fourth of a block twice.
    """
    block, out = subject.work_until(["blocks.0.hook_resid_pre"]), D_MODEL * subject.d_vocab
    assert block == pytest.approx(15 * D_MODEL**2, rel=0.01)
    assert subject.work_until(None) == 2 * block + out
    assert subject.work_until(["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]) == 2 * block
    readers = [reader(small.planted, "planted"), reader(small.topk, "topk")]
    encoding = sum(D_MODEL * r.spec.d_sae for r in readers)
    measuring = 8 * (2 * block + out) + 2 * 2 * block + encoding
    assert work_a_token(subject, readers) == pytest.approx(measuring / (2 * block + encoding))


def test_on_a_cpu_losses_take_a_quarter_of_the_pass_at_most(
    small: SmallRun, subject: Subject, topk: Harvest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16,384 tokens, fit for a GPU, took as long as 350,000 tokens of the pass itself."""
    readers = [reader(small.topk, "topk")]
    corpus = topk.corpus
    assert loss_tokens_for(None, subject, readers, corpus) == 2**14, "ten seconds are no trouble"
    assert loss_tokens_for(700, subject, readers, corpus) == 700
    assert loss_tokens_for(0, subject, readers, corpus) == 0
    monkeypatch.setattr(effort, "SMALL_WORK", 0.0)
    n = loss_tokens_for(None, subject, readers, corpus)
    assert n == int(corpus.n_tokens / 4 / work_a_token(subject, readers))
    assert 512 < n < 1000
    monkeypatch.setattr(effort, "MOST_OF_PASS", 1e-6)
    assert loss_tokens_for(None, subject, readers, corpus) == 512
    monkeypatch.setattr(subject, "device", torch.device("cuda"))
    assert loss_tokens_for(None, subject, readers, corpus) == 2**14


def test_every_stage_of_closing_is_told(small: SmallRun, tmp_path: Path) -> None:
    """Half of a harvest was silent after its bar said 100 %, and no one could tell it from a hang."""
    told: list[tuple[str, int, int]] = []
    config = small_config(small, tmp_path, loss_tokens=500)
    config = check_config({**config.model_dump(), "dictionary": [d.model_dump() for d in config.dictionary]}, "test")
    harvest_dictionaries(
        tmp_path / "harvest", config, config.dictionary, tmp_path / "cache", lambda *one: told.append(one), print
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    after = stages[stages.index("harvest planted, topk") + 1 :]
    losses = ["measure losses at blocks.0.hook_resid_pre", "measure losses at blocks.1.hook_resid_post"]
    assert after == [*losses, "statistics", "facts from weights", "checksums"]
    for stage in after:
        done, total = zip(*[(d, t) for s, d, t in told if s == stage], strict=True)
        assert len(set(total)) == 1
        assert (done[0], done[-1]) == (0, total[0]), "told before it begins, and at its end"
        assert (np.diff(done) >= 0).all()
    assert len([s for s, _, _ in told if s == losses[0]]) > 5
