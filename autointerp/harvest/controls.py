"""Dictionaries that are drawn, not loaded: random directions at the densities of another dictionary of the run.

A subject, the run's tokens and a dictionary flow in; its control flows out. The same run draws the same one.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.harvest.capture import capture_rows
from autointerp.harvest.tokens import Corpus
from autointerp.provenance import seed_of
from autointerp.subject.dictionaries import Dictionary, Sae
from autointerp.subject.model import Subject
from autointerp.subject.random_directions import random_directions

MATCHED_TOKENS = 2**15
"""Tokens on which densities are matched."""
_ROWS = 4
"""Rows a forward pass here, whatever the run's own batches: the draw must not depend on them."""


def draw_control(subject: Subject, corpus: Corpus, like: Dictionary, seed: int, dictionary_id: str) -> Sae:
    """Random directions as often active on 32,768 tokens, spread over the corpus, as the features of `like`."""
    return random_directions(like, spread_activations(subject, corpus, like.hook_point), seed_of(seed, dictionary_id))


def spread_activations(subject: Subject, corpus: Corpus, hook_point: str) -> Float[Tensor, "n d_in"]:
    """Activations of every n-th row's tokens that are neither BOS nor padding; at most `MATCHED_TOKENS`, float32.

    Rows are spread because neighbouring documents are alike: the first ones alone know few of the corpus's words.
    """
    pieces, left = [], MATCHED_TOKENS
    spread = np.arange(0, corpus.n_row, max(1, corpus.n_tokens // MATCHED_TOKENS))
    for low in range(0, len(spread), _ROWS):
        rows = spread[low : low + _ROWS]
        captured, places = capture_rows(subject, corpus, rows, [hook_point])
        x = captured[hook_point][torch.from_numpy(places.text).to(subject.device)][:left].float()
        pieces.append(x)
        left -= len(x)
        if left <= 0:
            break
    return torch.cat(pieces)
