"""What a dictionary in the place of the model's activations costs in next-token loss, beside zero and mean ablation.

A subject, dictionaries at one hook point and a few documents flow in; `LossMetrics` flow out. Nothing is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autointerp.harvest.encode import Reader
from autointerp.harvest.masks import TextMask
from autointerp.metrics import LossMetrics
from autointerp.subject.devices import in_chunks, room_for
from autointerp.subject.model import Subject

LOGITS_AT_ONCE = 2**25
"""A large vocabulary's logits of a whole document would take gigabytes, several times over."""
ADVICE = "what is finished stays, so free some and start it again, or do so with [harvest] loss_tokens = 0"


class _Document(NamedTuple):
    """One document, on the device."""

    tokens: Int[Tensor, "1 pos"]
    looked_at: Bool[Tensor, " pos"]
    """Where activations are replaced; the others stay as they are."""
    predicts: Bool[Tensor, " pos"]
    """Where the next token is text that is looked at."""


@torch.inference_mode()
def measure_losses(
    subject: Subject,
    readers: Sequence[Reader],
    text: TextMask,
    mean: Float[np.ndarray, " d_out"],
    n_tokens: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[LossMetrics | None]:
    """Losses of each reader, all at one hook point, on documents spread over the corpus with about `n_tokens` tokens.

    Cross-entropy and KL are means over tokens whose next token is text. Replaced is every token that the harvest looks
    at, outlier norms included, so that BOS and padding keep their own activations. `mean` is the target's mean. None
    where no token that is looked at follows another. `tell` hears how many of how many tokens are done.
    """
    average = torch.from_numpy(mean).to(subject.device, subject.dtype)
    ce = np.zeros(3 + len(readers))
    kl = np.zeros(3 + len(readers))
    n = 0
    size = max(1, LOGITS_AT_ONCE // subject.d_vocab)
    for document in _told(_documents(subject, text, n_tokens), tell):
        wanted = document.tokens[0, 1:][document.predicts[:-1], None]
        if not len(wanted):
            continue
        what = f"the losses on a document of {document.tokens.shape[1]} tokens"
        with room_for(what, ADVICE):
            states = _final_states(subject, document, readers, average)

        def compare(places: slice, states: list[Tensor] = states, wanted: Tensor = wanted) -> None:
            found = np.zeros((2, len(states)))
            own = None
            for i, one in enumerate(states):
                said = _log_probs(subject, one[places])
                own = said if own is None else own
                found[0, i] = -float(said.gather(1, wanted[places]).sum())
                found[1, i] = float((own.exp() * (own - said)).sum(dim=1).sum())
            np.add(ce, found[0], out=ce)
            np.add(kl, found[1], out=kl)

        size = in_chunks(len(wanted), size, compare, subject.device, what, ADVICE)
        n += len(wanted)
    if not n:
        return [None] * len(readers)
    ce, kl = ce / n, kl / n
    shared = {"n_tokens": n, "ce": ce[0], "ce_zero": ce[1], "ce_mean": ce[2], "kl_zero": kl[1], "kl_mean": kl[2]}
    return [
        LossMetrics.model_validate({**shared, "ce_dictionary": c, "kl_dictionary": k})
        for c, k in zip(ce[3:], kl[3:], strict=True)
    ]


def _told(documents: Sequence[_Document], tell: Callable[[int, int], None]) -> Iterator[_Document]:
    """The documents one after the other, telling how many of all their tokens are behind."""
    done, total = 0, sum(document.tokens.shape[1] for document in documents)
    for document in documents:
        tell(done, total)
        yield document
        done += document.tokens.shape[1]
    tell(total, total)


def _documents(subject: Subject, text: TextMask, n_tokens: int) -> list[_Document]:
    """Single documents, so that none sees its neighbours in a packed row."""
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


def _final_states(
    subject: Subject, document: _Document, readers: Sequence[Reader], mean: Float[Tensor, " d_out"]
) -> list[Float[Tensor, "n width"]]:
    """What logits are made of at the predicting places: of the model itself, with zero, the mean, each reconstruction.

    Of a model whose unembedding cannot be run alone it is the logits themselves, on the host.
    """
    read, written = readers[0].spec.hook_point, readers[0].dictionary.hook_out
    at_hook = subject.capture(document.tokens, sorted({read, written}))
    x = at_hook[read][0, document.looked_at].float()

    def states(values: Float[Tensor, "n d"] | None) -> Tensor:
        replaced = {}
        if values is not None:
            replaced[written] = at_hook[written].clone()
            replaced[written][0, document.looked_at] = values.to(at_hook[written].dtype)
        if subject.unembeds_alone:
            return subject.final_states(document.tokens, replaced)[0, document.predicts]
        return subject.logits(document.tokens, replaced)[0, document.predicts].cpu()

    found = [states(None), states(torch.zeros_like(at_hook[written][0, document.looked_at]))]
    found.append(states(mean.expand(len(x), -1)))
    return found + [states(r.dictionary.decode_sparse(r.dictionary.encode_sparse(x), x)) for r in readers]


def _log_probs(subject: Subject, states: Float[Tensor, "n width"]) -> Float[Tensor, "n d_vocab"]:
    """Log-probabilities of the next token."""
    logits = subject.unembed(states) if subject.unembeds_alone else states.to(subject.device)
    return logits.float().log_softmax(dim=-1)
