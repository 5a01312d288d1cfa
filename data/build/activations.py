"""The residual stream at the dictionaries' hook point.

In: the demo model and documents. Out: activations of all tokens but BOS and padding, and a way to run the model
with that point replaced.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from dictionary import HOOK_LAYER
from kneser_ney import BOS_ID
from prepare_tokens import Tokens
from train_model import pad_documents
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from autointerp.subject.rerandomise import rerandomise

BATCH = 16


class _Captured(Exception):
    """Raised by the capturing hook, so that later blocks do not run."""


def load_model(folder: Path, rerandomise_seed: int | None = None) -> GPT2LMHeadModel:
    """The demo model in single precision; with a seed, its matrices redrawn."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if rerandomise_seed is not None:
        rerandomise(model, rerandomise_seed)
    return model.eval()


@torch.inference_mode()
def capture(model: GPT2LMHeadModel, documents: Sequence[Tokens]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows of ids [batch, pos] and the activations [tok, d_in] of those that are not BOS, batch by batch."""
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        kept.append(output)
        raise _Captured

    handle = model.transformer.h[HOOK_LAYER].register_forward_hook(keep)
    try:
        for ids in pad_documents(documents, BATCH):
            try:
                model(input_ids=ids)
            except _Captured:
                yield ids, kept.pop()[ids != BOS_ID]
    finally:
        handle.remove()


@torch.inference_mode()
def log_probs(
    model: GPT2LMHeadModel, ids: torch.Tensor, replace: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> torch.Tensor:
    """Log-probabilities [tok, vocab] that follow each token but BOS, the hook point there replaced by `replace`."""
    told = ids != BOS_ID

    def splice(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        if replace is None:
            return output
        spliced = output.clone()
        spliced[told] = replace(output[told])
        return spliced

    handle = model.transformer.h[HOOK_LAYER].register_forward_hook(splice)
    try:
        hidden = model.transformer(input_ids=ids).last_hidden_state
    finally:
        handle.remove()
    followed = told[:, :-1] & told[:, 1:]
    logits: torch.Tensor = model.lm_head(hidden[:, :-1][followed])
    return logits.log_softmax(-1)


def next_tokens(ids: torch.Tensor) -> torch.Tensor:
    """The token after each place that `log_probs` gives."""
    told = ids != BOS_ID
    return ids[:, 1:][told[:, :-1] & told[:, 1:]]
