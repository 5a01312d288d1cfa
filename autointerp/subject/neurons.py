"""The neuron basis: a hook point's own coordinates as features, the strongest positive ones of each token kept.

Activations `[n, d_in]` flow in, `SparseCode` flows out. Has no weights and needs no file.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.provenance import digest
from autointerp.subject.activations import TopK
from autointerp.subject.codes import SparseCode

NEURON_K = 16
"""Positive values kept per token."""


@dataclass(frozen=True)
class NeuronBasis:
    """Feature i is coordinate i; a token keeps its 16 largest positive values."""

    hook_point: str
    d_in: int
    prepend_bos: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def d_sae(self) -> int:
        """One feature a coordinate."""
        return self.d_in

    @property
    def hook_out(self) -> str:
        """It writes where it reads."""
        return self.hook_point

    @property
    def kind(self) -> str:
        """Architecture and encoding in words."""
        return f"neurons topk k={NEURON_K}"

    @property
    def signed(self) -> bool:
        """Only the positive tail is kept."""
        return False

    @property
    def weights_digest(self) -> str:
        """Of its rule, there being no weights."""
        return digest([self.kind, self.d_in])

    @property
    def _activation(self) -> TopK:
        return TopK(min(NEURON_K, self.d_in))

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The largest positive coordinates of each row."""
        return self._activation.sparse(self._checked(x))

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations."""
        return self._activation.dense(self._checked(x).reshape(-1, self.d_in)).reshape(x.shape)

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_in"]:
        """The activations themselves."""
        return acts

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """The input less what was not kept."""
        return self.encode(x)

    def decoder_directions(self) -> None:
        """None stands for the identity."""

    def encoder_directions(self) -> None:
        """None stands for the identity."""

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "NeuronBasis":
        """Itself: there is nothing to move."""
        return self

    def _checked(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.d_in:
            raise UsageError(f"the neuron basis at {self.hook_point} has width {self.d_in}, not {x.shape[-1]}")
        return x
