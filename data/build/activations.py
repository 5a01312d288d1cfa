"""The residual stream at the dictionaries' hook point.

In: the demo model and documents. Out: activations of all tokens but BOS and padding, and a way to go on from that
point with something else in their place.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from dictionary import HOOK_LAYER
from kneser_ney import BOS_ID
from prepare_tokens import Tokens
from train_model import pad_documents
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from autointerp.subject.rerandomise import rerandomise

BATCH = 16


class _EnoughError(Exception):
    """Raised by the capturing hook, so that later blocks do not run."""


def load_model(folder: Path, rerandomise_seed: int | None = None) -> GPT2LMHeadModel:
    """The demo model in single precision; with a seed, its matrices redrawn."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if rerandomise_seed is not None:
        rerandomise(model, rerandomise_seed)
    return model.eval()


@torch.no_grad()
def residuals(model: GPT2LMHeadModel, ids: torch.Tensor) -> torch.Tensor:
    """The activations [batch, pos, d_in] at the hook point; later blocks do not run."""
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        kept.append(output)
        raise _EnoughError

    handle = model.transformer.h[HOOK_LAYER].register_forward_hook(keep)
    try:
        model.transformer(input_ids=ids)
    except _EnoughError:
        pass
    finally:
        handle.remove()
    return kept[0]


def capture(model: GPT2LMHeadModel, documents: Sequence[Tokens]) -> Iterator[torch.Tensor]:
    """The activations [tok, d_in] of all tokens that are neither BOS nor padding, batch by batch."""
    for ids in pad_documents(documents, BATCH):
        yield residuals(model, ids)[ids != BOS_ID]


def log_probs(model: GPT2LMHeadModel, ids: torch.Tensor, at_hook: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [tok, vocab] after each token but BOS, the model going on from `at_hook`.

    `at_hook` [batch, pos, d_in] stands for what the hook point gave; only the later blocks run.
    """
    hidden = at_hook
    for block in model.transformer.h[HOOK_LAYER + 1 :]:
        hidden = block(hidden)
    hidden = model.transformer.ln_f(hidden)
    logits: torch.Tensor = model.lm_head(hidden[:, :-1][_followed(ids)])
    return logits.log_softmax(-1)


def next_tokens(ids: torch.Tensor) -> torch.Tensor:
    """The token after each place that `log_probs` gives."""
    return ids[:, 1:][_followed(ids)]


def _followed(ids: torch.Tensor) -> torch.Tensor:
    told = ids != BOS_ID
    return told[:, :-1] & told[:, 1:]
