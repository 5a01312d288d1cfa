"""Non-linearities of sparse dictionaries: from pre-activations to activations, dense or sparse.

Pre-activations `[n, d_sae]` flow in; activations or `SparseCode` flow out. Every comparison with a threshold is strict,
and NaN passes through so that the harvest can report it. Knows no weights but its own and no file format.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.subject.codes import SparseCode, densify, select_indices, select_nonzero, select_where, top_indices


@dataclass(frozen=True)
class Activation:
    """One non-linearity; a subclass gives `dense`, and `sparse` where a faster way exists."""

    @property
    def words(self) -> str:
        """Name and settings, such as `topk k=16`."""
        raise NotImplementedError

    @property
    def signed(self) -> bool:
        """Whether an activation can be negative."""
        return False

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        """Activations, zeros included."""
        raise NotImplementedError

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        """The non-zero activations."""
        return select_nonzero(self.dense(pre))

    def tensors(self) -> dict[str, Tensor]:
        """Its own weights by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """The same with its weights elsewhere."""
        return replace(self, **{name: tensor.to(device, dtype) for name, tensor in self.tensors().items()})


@dataclass(frozen=True)
class Relu(Activation):
    """max(pre, 0)."""

    @property
    def words(self) -> str:
        return "relu"

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return pre.relu()

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        return select_where(pre, ~(pre <= 0))


@dataclass(frozen=True)
class JumpRelu(Activation):
    """pre where it exceeds its feature's threshold and 0, else 0; a negative threshold lets nothing negative out."""

    threshold: Float[Tensor, " d_sae"]

    @property
    def words(self) -> str:
        return "jumprelu"

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return pre.masked_fill(pre <= self.threshold.clamp_min(0), 0)

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        return select_where(pre, ~(pre <= self.threshold.clamp_min(0)))


@dataclass(frozen=True)
class TopK(Activation):
    """The k largest pre-activations of each row, then ReLU, so fewer than k may stay; lowest index first among ties."""

    k: int

    @property
    def words(self) -> str:
        return f"topk k={self.k}"

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return densify(self.sparse(pre), *pre.shape).to(pre.dtype)

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        positive = pre.relu()
        return select_indices(positive, top_indices(positive, self.k))
