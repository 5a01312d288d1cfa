"""What a dictionary is to the rest of the program, and how one is had from what a user names.

A path or `neurons@HOOK` flows in, a `Dictionary` flows out. Knows no model: the width of a hook point is asked for.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.codes import SparseCode
from autointerp.subject.loaders.table import read_parts
from autointerp.subject.neurons import NEURON_K, NeuronBasis
from autointerp.subject.sae import Sae

__all__ = ["NEURONS_PREFIX", "NEURON_K", "Dictionary", "NeuronBasis", "Sae", "SparseCode", "load_dictionary"]

log = logging.getLogger(__name__)
NEURONS_PREFIX = "neurons@"


class Dictionary(Protocol):
    """Any map from activations at a hook point to a sparse code, and back."""

    @property
    def hook_point(self) -> str:
        """Where it reads."""

    @property
    def hook_out(self) -> str:
        """Where its decoder writes; `hook_point` for all but transcoders."""

    @property
    def d_in(self) -> int:
        """Width of its input."""

    @property
    def d_sae(self) -> int:
        """Number of features."""

    @property
    def kind(self) -> str:
        """Architecture and encoding in words, such as `topk k=16`."""

    @property
    def weights_digest(self) -> str:
        """Tagged digest of all that decides its codes and reconstructions."""

    @property
    def prepend_bos(self) -> bool | None:
        """Whether its training text began with BOS; None where its files do not say."""

    @property
    def signed(self) -> bool:
        """Whether an activation can be negative."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about it, in sentences."""

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The non-zero activations of each row."""

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations."""

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_out"]:
        """What activations stand for; `x` is needed where each input is scaled by itself, or skips."""

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """`decode(encode(x), x)`."""

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"] | None:
        """What each feature writes at `hook_out`; None for the identity."""

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"] | None:
        """What each feature reads; None for the identity or where it is no direction."""

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "Dictionary":
        """The same elsewhere or at another precision."""


def load_dictionary(
    path_or_id: str | Path,
    format: str | None = None,  # noqa: A002 - the word users know it by
    hook_point: str | None = None,
    width_at: Callable[[str], int] | None = None,
) -> Dictionary:
    """The dictionary that a user names: a folder or file with weights, or `neurons@HOOK`.

    `hook_point` serves dictionaries whose files name none. `width_at` (`Subject.width_at`) gives the neuron basis
    its width.

    Raises:
        UsageError: nothing there, an unknown or damaged checkpoint, or no hook point known.
    """
    text = str(path_or_id)
    if text.startswith(NEURONS_PREFIX):
        return _neuron_basis(text.removeprefix(NEURONS_PREFIX), width_at)
    path = Path(path_or_id).expanduser()
    _, parts = read_parts(path, format)
    named = parts.hook_point or hook_point
    if named is None:
        raise UsageError(f"{path} does not say where it reads; give its hook point, such as blocks.3.hook_resid_post")
    if hook_point is not None and hook_point != named:
        log.info("%s reads at %s, as its own files say, not at %s", path, named, hook_point)
    return parts.build(named)


def _neuron_basis(hook_point: str, width_at: Callable[[str], int] | None) -> NeuronBasis:
    if not hook_point:
        raise UsageError("neurons@ lacks its hook point; write for instance neurons@blocks.1.mlp.hook_post")
    if width_at is None:
        raise UsageError(f"neurons@{hook_point} takes its width from a model; load one and pass its width_at")
    return NeuronBasis(hook_point, width_at(hook_point))
