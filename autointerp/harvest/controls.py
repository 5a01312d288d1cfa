"""Dictionaries that are drawn, not loaded: random directions at the densities of another dictionary of the run.

A subject, the run's tokens and a dictionary flow in; its control flows out. The same run draws the same one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.harvest.norms import spread_pieces
from autointerp.harvest.tokenise import Progress
from autointerp.harvest.tokens import Corpus
from autointerp.listener import SILENT
from autointerp.provenance import seed_of
from autointerp.subject.dictionaries import Dictionary, Sae
from autointerp.subject.model import Subject
from autointerp.subject.random_directions import random_directions


def draw_control(
    subject: Subject, corpus: Corpus, like: Dictionary, seed: int, dictionary_id: str, progress: Progress
) -> Sae:
    """Random directions as often active on 32,768 tokens, spread over the corpus, as the features of `like`."""
    x = spread_activations(subject, corpus, like.hook_point, progress, f"draw {dictionary_id}")
    return random_directions(like, x, seed_of(seed, dictionary_id))


def spread_activations(
    subject: Subject, corpus: Corpus, hook_point: str, progress: Progress = SILENT.progress, stage: str = "read"
) -> Float[Tensor, "n d_in"]:
    """Activations of every n-th row's tokens that are neither BOS nor padding; at most 32,768, float32."""
    pieces = spread_pieces(subject, corpus, [hook_point], progress, stage)
    return torch.cat([piece[hook_point] for piece in pieces])
