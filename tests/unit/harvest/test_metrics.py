"""Dictionary metrics against plain formulas on dense tables, and against a second way of splicing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from autointerp.errors import UsageError
from autointerp.harvest.encode import _compare
from autointerp.harvest.events import Harvest
from autointerp.harvest.metrics import reconstruction_metrics
from autointerp.metrics import LossMetrics
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.model import load_model
from tests.small_run import SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config


def sums_of(x: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    norm, norm_out = np.linalg.norm(x, axis=1), np.linalg.norm(out, axis=1)
    product = (x * out).sum(axis=1)
    error = ((x - out) ** 2).sum(axis=1)
    per_token = [np.ones(len(x)), norm**2, norm_out**2, error, product, product / norm / norm_out, norm_out / norm]
    return np.array(per_token).sum(axis=1), x.sum(axis=0)


@pytest.mark.parametrize("offset", [0.0, 1.0, 5.0])
def test_explained_variance_does_not_move_with_a_mean_offset(offset: float) -> None:
    """The common formula subtracts the square of a scalar mean and says 0.94 to 0.99 where the truth is 0.84."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 8)) + offset * np.arange(8)
    out = x + 0.4 * rng.normal(size=x.shape)
    halves = [sums_of(x[:7_000], out[:7_000]), sums_of(x[7_000:], out[7_000:])]
    made = reconstruction_metrics(*(list(parts) for parts in zip(*halves, strict=True)))
    assert made is not None
    truth = 1 - ((x - out) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert made.explained_variance == pytest.approx(truth, abs=1e-9)
    assert truth == pytest.approx(0.84, abs=0.01)
    assert made.mse == pytest.approx(((x - out) ** 2).mean())


def test_explained_variance_of_a_residual_stream_far_from_its_origin() -> None:
    """Squares and sums in float32 lose the variance between them: half of it at a mean 2,000 times the spread."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4_000, 32, generator=generator)
    x[:, 3] += 10_000
    out = x + 0.4 * torch.randn(x.shape, generator=generator)
    parts = [slice(low, low + 500) for low in range(0, len(x), 500)]
    sums = [_compare(x[part], out[part]).sum(dim=1).numpy() for part in parts]
    sums_in = [x[part].sum(dim=0, dtype=torch.float64).numpy() for part in parts]
    made = reconstruction_metrics(sums, sums_in)
    assert made is not None
    wide = x.double()
    truth = 1 - (wide - out).square().sum() / (wide - wide.mean(dim=0)).square().sum()
    assert made.explained_variance == pytest.approx(float(truth), abs=1e-6)


def test_by_hand() -> None:
    """x = (3, 4) and (0, 2); outputs (3, 0) and (0, 1): errors 16 and 1, cosines 0.6 and 1, norms 5, 2 to 3, 1."""
    made = reconstruction_metrics(
        *([part] for part in sums_of(np.array([[3.0, 4], [0, 2]]), np.array([[3.0, 0], [0, 1]])))
    )
    assert made is not None
    assert made.mse == pytest.approx(17 / 4)
    assert made.cosine == pytest.approx(0.8)
    assert made.l2_ratio == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert made.relative_bias == pytest.approx((9 + 1) / (9 + 2))
    assert made.explained_variance == pytest.approx(1 - 17 / (4.5 + 2))


def test_nothing_to_recover_is_no_number() -> None:
    """A share of zero is neither 0 nor NaN, and NaN in a manifest is no JSON."""
    same = LossMetrics(
        n_tokens=1, ce=2.0, ce_dictionary=2.5, ce_zero=2.0, ce_mean=3.0, kl_dictionary=0.1, kl_zero=0.0, kl_mean=0.2
    )
    assert same.recovered_zero is None
    assert same.kl_recovered is None
    assert same.recovered_mean == pytest.approx(0.5)
    constant = np.ones((5, 3))
    made = reconstruction_metrics(*([part] for part in sums_of(constant, constant)))
    assert made is not None
    assert made.explained_variance is None


def test_metrics_of_a_harvest_by_brute_force(small: SmallRun, topk: Harvest) -> None:
    """Batches, padding and BOS must not count; the dense route knows only whole documents."""
    subject, sae = load_model(small.model, device="cpu"), load_dictionary(small.topk)
    corpus = topk.corpus
    inputs = []
    for row in range(corpus.n_row):
        tokens = torch.from_numpy(corpus.tokens[row, : corpus.length[row]].astype(np.int64))[None]
        inputs.append(subject.capture(tokens, [sae.hook_point])[sae.hook_point][0, corpus.first :])
    x = torch.cat(inputs)
    acts, out = sae.encode(x), sae.reconstruct(x)
    made = topk.metrics
    assert made.n_tokens == len(x) == topk.n_tokens
    assert made.l0 == pytest.approx(float((acts != 0).sum() / len(x)))
    assert made.l1 == pytest.approx(float(acts.abs().sum() / len(x)), rel=1e-3)
    assert made.share_alive == pytest.approx(float((acts != 0).any(dim=0).float().mean()))
    assert made.reconstruction is not None
    variance = float((x - x.mean(dim=0)).square().sum())
    assert made.reconstruction.explained_variance == pytest.approx(1 - float((x - out).square().sum()) / variance, 1e-3)
    assert made.reconstruction.mse == pytest.approx(float((x - out).square().mean()), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(x, out, dim=1).mean()
    assert made.reconstruction.cosine == pytest.approx(float(cosine), rel=1e-4)


@torch.inference_mode()
def test_loss_by_another_way_of_splicing(small: SmallRun, topk: Harvest) -> None:
    """Hooks that replace the wrong place, BOS or a shifted target all give a plausible loss.

    The second way is the Hugging Face model, cut after its last block: the hook point is that block's output.
    """
    model, sae = GPT2LMHeadModel.from_pretrained(small.model).eval(), load_dictionary(small.topk)
    corpus = topk.corpus
    documents = [torch.from_numpy(corpus.tokens[r, : corpus.length[r]].astype(np.int64)) for r in range(corpus.n_row)]
    caught: list[torch.Tensor] = []
    handle = model.transformer.h[-1].register_forward_hook(
        lambda module, args, out: caught.append(out[0] if isinstance(out, tuple) else out)
    )
    for ids in documents:
        model(ids[None])
    handle.remove()
    mean = torch.cat([c.reshape(-1, c.shape[-1])[1:] for c in caught]).mean(dim=0)

    def losses(replace: str) -> tuple[float, float, int]:
        ce = kl = 0.0
        n = 0
        for ids, at_hook in zip(documents, caught, strict=True):
            own = at_hook.reshape(len(ids), -1)
            new = own.clone()
            if replace != "nothing":
                kinds = {"zero": torch.zeros_like(own), "mean": mean.expand_as(own), "sae": sae.reconstruct(own)}
                new[1:] = kinds[replace][1:]
            clean, said = (model.lm_head(model.transformer.ln_f(h)).log_softmax(-1)[1:-1] for h in (own, new))
            ce -= float(said.gather(1, ids[2:, None]).sum())
            kl += float((clean.exp() * (clean - said)).sum())
            n += len(said)
        return ce / n, kl / n, n

    loss = topk.metrics.loss
    assert loss is not None
    assert losses("nothing") == pytest.approx((loss.ce, 0.0, loss.n_tokens), abs=1e-4)
    assert losses("zero")[:2] == pytest.approx((loss.ce_zero, loss.kl_zero), abs=1e-4)
    assert losses("mean")[:2] == pytest.approx((loss.ce_mean, loss.kl_mean), abs=1e-4)
    assert losses("sae")[:2] == pytest.approx((loss.ce_dictionary, loss.kl_dictionary), abs=1e-4)


def test_losses_of_nothing_are_none(small: SmallRun, tmp_path: Path) -> None:
    """Where no looked-at token follows another, a loss of 0.0 was stored for every splice."""
    corpus = tmp_path / "words.jsonl"
    corpus.write_text("".join(json.dumps({"text": word}) + "\n" for word in ["the", "cat", "the", "mat"] * 4))
    folder = run_harvest(small_config(small._replace(corpus=corpus), tmp_path, skip_tokens=2), only=["topk"])
    metrics = Harvest(folder, "topk").metrics
    assert (metrics.n_tokens, metrics.loss) == (16, None)
    assert metrics.reconstruction is not None


def test_a_harvest_of_nothing_is_refused(small: SmallRun, tmp_path: Path) -> None:
    """All masked, it ended well, with an L0 of 0 and every feature dead."""
    with pytest.raises(
        UsageError, match=r"none of the corpus's .* tokens would be looked at: .* set skip_tokens lower"
    ):
        run_harvest(small_config(small, tmp_path, skip_tokens=1000), only=["topk"])
