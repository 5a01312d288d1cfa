"""Rows of a corpus through the model: one row or many documents a row, the same activations.

A subject, a corpus and row numbers flow in; activations and which places hold text flow out. Knows no dictionary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autointerp.harvest.tokens import Corpus, Places
from autointerp.subject.model import Subject


class CapturedRows(NamedTuple):
    """What the model did on some rows."""

    activations: dict[str, Float[Tensor, "row place width"]]
    """By hook point, on the model's device."""
    places: Places
    """What stands there."""


def capture_rows(
    subject: Subject, corpus: Corpus, rows: Int[np.ndarray, " row"], hook_points: Sequence[str]
) -> CapturedRows:
    """Activations at each hook point of rows, cut behind the fullest; no document of a row sees another.

    Raises:
        UsageError: a hook point does not exist or gives nothing.
    """
    places = corpus.places(rows)
    tokens = torch.from_numpy(corpus.tokens[rows, : places.text.shape[1]].astype(np.int64))
    if not corpus.packed:
        return CapturedRows(subject.capture(tokens, hook_points), places)
    return CapturedRows(subject.capture(tokens, hook_points, torch.from_numpy(places.document)), places)
