"""The median norm of activations at each hook point, from which tokens with massive activations are told apart.

A subject and the run's tokens flow in, a number for each hook point flows out. One sweep serves all of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.harvest.capture import capture_rows
from autointerp.harvest.tokenise import Progress
from autointerp.harvest.tokens import Corpus
from autointerp.subject.model import Subject

SPREAD_TOKENS = 2**15
"""Of a sweep over the corpus."""
_ROWS = 4
"""Rows a forward pass here, whatever the run's own batches: what is measured must not depend on them."""


def measure_medians(
    subject: Subject, corpus: Corpus, hook_points: Sequence[str], progress: Progress
) -> dict[str, float | None]:
    """Median norm at each hook point over at most 32,768 tokens of rows spread over the corpus, as `median_norm` does.

    Neither BOS nor padding is among them. One sweep serves all hook points.
    """
    norms: dict[str, list[Tensor]] = {hook: [] for hook in hook_points}
    for captured in spread_pieces(subject, corpus, hook_points, progress, "measure norms"):
        for hook, x in captured.items():
            norms[hook].append(x.norm(dim=1))
    return {hook: median_norm(torch.cat(found)) for hook, found in norms.items()}


def median_norm(norms: Float[Tensor, " n"]) -> float | None:
    """The lower median; None where it is 0, or none."""
    median = float(norms.median()) if len(norms) else 0.0
    return median if 0 < median < float("inf") else None


def spread_pieces(
    subject: Subject, corpus: Corpus, hook_points: Sequence[str], progress: Progress, stage: str
) -> Iterator[dict[str, Float[Tensor, "n width"]]]:
    """Activations of every n-th row's tokens that are neither BOS nor padding, at most 32,768; float32.

    Rows are spread because neighbouring documents are alike: the first ones alone know few of the corpus's words.
    """
    left = total = min(SPREAD_TOKENS, corpus.n_tokens)
    spread = np.arange(0, corpus.n_row, max(1, corpus.n_tokens // SPREAD_TOKENS))
    progress(stage, 0, total)
    for low in range(0, len(spread), _ROWS):
        captured, places = capture_rows(subject, corpus, spread[low : low + _ROWS], hook_points)
        is_text = torch.from_numpy(places.text).to(subject.device)
        pieces = {hook: captured[hook][is_text][:left].float() for hook in hook_points}
        left -= len(pieces[hook_points[0]])
        progress(stage, total - left, total)
        yield pieces
        if left <= 0:
            return
    progress(stage, total, total)
