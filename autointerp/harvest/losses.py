"""What a dictionary in the place of the model's activations costs in next-token loss, beside zero and mean ablation.

A subject, dictionaries at one hook point and a few documents flow in; `LossMetrics` flow out. Nothing is kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autointerp.harvest.encode import Reader
from autointerp.harvest.masks import TextMask
from autointerp.metrics import LossMetrics
from autointerp.subject.model import Subject


class _Document(NamedTuple):
    """One document, on the device."""

    tokens: Int[Tensor, "1 pos"]
    looked_at: Bool[Tensor, " pos"]
    """Where activations are replaced; the others stay as they are."""
    predicts: Bool[Tensor, " pos"]
    """Where the next token is text that is looked at."""


@torch.inference_mode()
def measure_losses(
    subject: Subject, readers: Sequence[Reader], text: TextMask, mean: Float[np.ndarray, " d_out"], n_tokens: int
) -> list[LossMetrics | None]:
    """Losses of each reader, all at one hook point, on documents spread over the corpus with about `n_tokens` tokens.

    Cross-entropy and KL are means over tokens whose next token is text. Replaced is every token that the harvest looks
    at, outlier norms included, so that BOS and padding keep their own activations. `mean` is the target's mean. None
    where no token that is looked at follows another.
    """
    hook = readers[0].dictionary.hook_out
    average = torch.from_numpy(mean).to(subject.device, subject.dtype)
    ce = np.zeros(3 + len(readers))
    kl = np.zeros(3 + len(readers))
    n = 0
    for document in _documents(subject, text, n_tokens):
        wanted = document.tokens[0, 1:][document.predicts[:-1], None]
        if not len(wanted):
            continue
        at_hook = subject.capture(document.tokens, sorted({hook, readers[0].spec.hook_point}))
        x = at_hook[readers[0].spec.hook_point][0, document.looked_at].float()
        instead = [None, torch.zeros_like(at_hook[hook][0, document.looked_at]), average.expand(len(x), -1)]
        instead += [reader.dictionary.decode_sparse(reader.dictionary.encode_sparse(x), x) for reader in readers]
        own = None
        for i, values in enumerate(instead):
            said = _log_probs(subject, document, hook, at_hook[hook], values)
            own = said if own is None else own
            ce[i] -= float(said.gather(1, wanted).sum())
            kl[i] += float((own.exp() * (own - said)).sum(dim=1).sum())
        n += len(wanted)
    if not n:
        return [None] * len(readers)
    ce, kl = ce / n, kl / n
    shared = {"n_tokens": n, "ce": ce[0], "ce_zero": ce[1], "ce_mean": ce[2], "kl_zero": kl[1], "kl_mean": kl[2]}
    return [
        LossMetrics.model_validate({**shared, "ce_dictionary": c, "kl_dictionary": k})
        for c, k in zip(ce[3:], kl[3:], strict=True)
    ]


def _documents(subject: Subject, text: TextMask, n_tokens: int) -> list[_Document]:
    """Single documents, so that a large vocabulary's logits fit, and none sees its neighbours in a packed row."""
    corpus = text.corpus
    slots = corpus.tokens.reshape(-1)
    documents = []
    for number in range(0, len(corpus.length), max(1, corpus.n_tokens // n_tokens)):
        start, length = int(corpus.start[number]), int(corpus.length[number])
        ids = np.asarray(slots[start : start + length])
        mask = torch.from_numpy(text.of_document(ids)).to(subject.device)
        predicts = torch.zeros_like(mask)
        predicts[:-1] = mask[:-1] & mask[1:]
        documents.append(_Document(torch.from_numpy(ids.astype(np.int64)).to(subject.device)[None], mask, predicts))
    return documents


def _log_probs(
    subject: Subject,
    document: _Document,
    hook: str,
    at_hook: Float[Tensor, "1 pos d"],
    values: Float[Tensor, "n d"] | None,
) -> Float[Tensor, "n d_vocab"]:
    """Log-probabilities of the next token at the predicting places, with some activations replaced."""
    spliced = None
    if values is not None:
        spliced = at_hook.clone()
        spliced[0, document.looked_at] = values.to(spliced.dtype)
    logits = subject.logits(document.tokens, {} if spliced is None else {hook: spliced})
    return logits[0, document.predicts].float().log_softmax(dim=-1)
