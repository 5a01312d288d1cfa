"""Several documents in one row of a forward pass, none of which sees another.

Document numbers of places flow in; what the model is given beside the tokens flows out, and a trial of whether the
model obeys it. Knows no corpus and no dictionary.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.devices import is_out_of_memory, no_room

TRIAL_CONTEXT = 1024
LEAKS_ABOVE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
"""Relative difference between a document in a packed row and the same alone, above which it has seen its neighbours."""


class Captures(Protocol):
    """The part of `subject.model.Subject` that is used here."""

    name: str
    d_vocab: int
    device: torch.device
    dtype: torch.dtype

    def capture(
        self,
        token_ids: Int[Tensor, "batch pos"],
        hook_points: Sequence[str],
        documents: Int[Tensor, "batch pos"] | None = None,
    ) -> Mapping[str, Float[Tensor, "batch pos width"]]: ...


def packed_inputs(documents: Int[Tensor, "batch pos"]) -> dict[str, Tensor]:
    """Positions that begin anew with each document, and which places each place may attend to: its own document's.

    Padding, document -1, is a document too, so that no place attends to nothing.
    """
    place = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    first = torch.where(begins, place, 0).cummax(dim=1).values
    same = documents[:, :, None] == documents[:, None, :]
    return {"position_ids": place - first, "attention_mask": (same & (place[:, None] >= place))[:, None]}


def check_packing(subject: Captures, hook_points: Sequence[str], context: int) -> None:
    """Nothing, where a document's activations in a packed row are those that it has alone.

    Tried with random tokens at each hook point, with a short document before a long one and the other way round, so
    that attention windows show as well.

    Raises:
        UsageError: the model lets documents of a row see each other, or takes no such rows.
    """
    width = min(context, TRIAL_CONTEXT)
    lengths = ((width // 4, width - width // 4), (width - width // 3, width // 3 - 1))
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(subject.d_vocab, (len(lengths), width), generator=draw).to(subject.device)
    documents = torch.tensor(
        [[0] * first + [1] * second + [-1] * (width - first - second) for first, second in lengths],
        device=subject.device,
    )
    refusal = f"{subject.name} cannot keep documents in one row apart; set [harvest] pack = false"
    try:
        together = subject.capture(tokens, hook_points, documents)
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise no_room(f"two rows of {width} tokens", "free some, or set [harvest] context lower") from None
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"{refusal} ({reason})") from None
    for row, (first, second) in enumerate(lengths):
        for piece in (slice(0, first), slice(first, first + second)):
            alone = subject.capture(tokens[row : row + 1, piece], hook_points)
            for hook_point in hook_points:
                wanted = alone[hook_point][0].float()
                off = (together[hook_point][row, piece].float() - wanted).norm() / wanted.norm().clamp_min(1e-9)
                if not off <= LEAKS_ABOVE[subject.dtype]:
                    raise UsageError(f"{refusal} (at {hook_point} a document differs from itself alone by {off:.1%})")
