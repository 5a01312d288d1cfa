"""What a dictionary is to the rest of the program, and how one is had from what a user names.

A path, an id or `neurons@HOOK` flows in, a `Dictionary` flows out. Knows no model: a hook point's width is asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.codes import SparseCode
from autointerp.subject.custom import saelens_parts, wrap_dictionary
from autointerp.subject.hub import is_registry_id, load_registered, localise
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.table import read_parts
from autointerp.subject.neurons import NEURON_K, NeuronBasis
from autointerp.subject.sae import Sae

__all__ = [
    "BOTH_TAILS_PREFIX",
    "NEURONS_PREFIX",
    "NEURON_K",
    "Dictionary",
    "NeuronBasis",
    "Sae",
    "SparseCode",
    "load_dictionary",
    "wrap_dictionary",
]

NEURONS_PREFIX = "neurons@"
BOTH_TAILS_PREFIX = "neurons-both@"


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

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """`decode` of the code of rows `x`, a bounded part of it dense at a time at most."""

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
    center_input: bool | None = None,
    default_hook_point: str | None = None,
) -> Dictionary:
    """The dictionary that a user names.

    A local folder or file with weights; `neurons@HOOK`, or `neurons-both@HOOK` with the negative tails as features of
    their own; a path in a Hugging Face repository (`hf://ORG/NAME/PATH`, or without the prefix); a SAELens registry id
    (`RELEASE:SAE_ID`) where sae-lens is installed. `hook_point` is where it reads, whatever its files say;
    `default_hook_point` serves where they say nothing. Both may name a module, such as `model.layers.3.mlp`, for its
    output. `width_at` (`Subject.width_at`) gives the neuron basis its width. `center_input` overrides whether each
    input's mean is subtracted first.

    Raises:
        UsageError: nothing there, an unknown or damaged checkpoint, or no hook point known.
    """
    text = str(path_or_id)
    for prefix in (NEURONS_PREFIX, BOTH_TAILS_PREFIX):
        if text.startswith(prefix):
            return _neuron_basis(text.removeprefix(prefix), width_at, both_tails=prefix == BOTH_TAILS_PREFIX)
    if format is None and is_registry_id(text) and not Path(text).exists():
        parts = _registered(text)
    else:
        _, parts = read_parts(localise(path_or_id), format)
    placed = parts.at(hook_point, default_hook_point).centred(center_input)
    if placed.hook_point is None:
        raise UsageError(
            f"{path_or_id} does not say where it reads; give its hook point, such as blocks.3.hook_resid_post"
        )
    return placed.build(placed.hook_point)


def _registered(name: str) -> SaeParts:
    thing, centred = load_registered(name)
    parts = saelens_parts(thing)
    if parts is None:
        raise UsageError(f"SAELens gives {name} as a {type(thing).__name__}, which is not known here")
    return parts.centred(True if centred else None)


def _neuron_basis(hook_point: str, width_at: Callable[[str], int] | None, both_tails: bool) -> NeuronBasis:
    if not hook_point:
        raise UsageError("neurons@ lacks its hook point; write for instance neurons@blocks.1.mlp.hook_post")
    if width_at is None:
        raise UsageError(f"neurons@{hook_point} takes its width from a model; load one and pass its width_at")
    return NeuronBasis(hook_point, width_at(hook_point), both_tails)
