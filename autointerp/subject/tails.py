"""A signed dictionary as one that is not: each feature's negative side becomes a feature of its own.

A `Dictionary` flows in, one with twice as many features flows out. Statistics, levels and explanations are of
activations that are zero or positive; what a feature does when it is negative is another thing to explain.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.provenance import digest
from autointerp.subject.codes import SparseCode
from autointerp.subject.dictionaries import Dictionary


@dataclass(frozen=True)
class TwoTailed:
    """Feature i is the positive side of the inner feature i, feature n + i its negative side, made positive."""

    inner: Dictionary

    @property
    def hook_point(self) -> str:
        """Where it reads."""
        return self.inner.hook_point

    @property
    def hook_out(self) -> str:
        """Where it writes."""
        return self.inner.hook_out

    @property
    def d_in(self) -> int:
        """Width of its input."""
        return self.inner.d_in

    @property
    def d_sae(self) -> int:
        """Twice the inner dictionary's features."""
        return 2 * self.inner.d_sae

    @property
    def kind(self) -> str:
        """As the inner dictionary's."""
        return f"{self.inner.kind}, both tails"

    @property
    def weights_digest(self) -> str:
        """Of the inner dictionary and of being split."""
        return digest(["both tails", self.inner.weights_digest])

    @property
    def prepend_bos(self) -> bool | None:
        """As the inner dictionary's."""
        return self.inner.prepend_bos

    @property
    def signed(self) -> bool:
        """No longer."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """The inner dictionary's, and what the numbers of features mean."""
        n = self.inner.d_sae
        return (*self.inner.notes, f"Its activations have signs: feature {n} + i is the negative side of feature i.")

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The non-zero activations of each row, none negative."""
        code = self.inner.encode_sparse(x)
        feature = torch.where(code.value < 0, code.feature + self.inner.d_sae, code.feature)
        order = (code.row * self.d_sae + feature).argsort()
        return SparseCode(code.row, feature[order], code.value.abs()[order])

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations, none negative."""
        acts = self.inner.encode(x)
        return torch.cat([acts.clamp(min=0), (-acts).clamp(min=0)], dim=-1)

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_out"]:
        """The inner dictionary's decoding of the positive less the negative side."""
        n = self.inner.d_sae
        return self.inner.decode(acts[..., :n] - acts[..., n:], x)

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """As the inner dictionary's."""
        return self.inner.reconstruct(x)

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"] | None:
        """The inner directions and their negatives."""
        return _with_negatives(self.inner.decoder_directions())

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"] | None:
        """The inner directions and their negatives."""
        return _with_negatives(self.inner.encoder_directions())

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "TwoTailed":
        """The same elsewhere."""
        return TwoTailed(self.inner.to(device, dtype))


def without_signs(dictionary: Dictionary) -> Dictionary:
    """The dictionary itself where no activation is negative, else with both tails as features."""
    return TwoTailed(dictionary) if dictionary.signed else dictionary


def _with_negatives(directions: Tensor | None) -> Tensor | None:
    return None if directions is None else torch.cat([directions, -directions])
