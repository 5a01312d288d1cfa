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

    @property
    def reads_input(self) -> bool:
        """Whether it wants the encoder's input `[n, d_in]` in place of pre-activations."""
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
        return select_where(pre, lambda some: ~(some <= 0))


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
        bound = self.threshold.clamp_min(0)
        return select_where(pre, lambda some: ~(some <= bound))


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
        return select_indices(pre, top_indices(pre, self.k), torch.relu)


@dataclass(frozen=True)
class AbsTopK(Activation):
    """The k pre-activations of largest magnitude of each row, sign kept; lowest index first among ties."""

    k: int

    @property
    def words(self) -> str:
        return f"abstopk k={self.k}"

    @property
    def signed(self) -> bool:
        return True

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return densify(self.sparse(pre), *pre.shape).to(pre.dtype)

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        return select_indices(pre, top_indices(pre.abs(), self.k))


@dataclass(frozen=True)
class SignedTopK(Activation):
    """The k largest pre-activations of each row without ReLU, so negative ones may stay."""

    k: int

    @property
    def words(self) -> str:
        return f"signed topk k={self.k}"

    @property
    def signed(self) -> bool:
        return True

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return densify(self.sparse(pre), *pre.shape).to(pre.dtype)

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        return select_indices(pre, top_indices(pre, self.k))


@dataclass(frozen=True)
class GroupMax(Activation):
    """Features in k groups of neighbours; of each group the largest, where it is positive."""

    k: int

    @property
    def words(self) -> str:
        return f"groupmax k={self.k}"

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return densify(self.sparse(pre), *pre.shape).to(pre.dtype)

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        positive, size = pre.relu(), pre.shape[1] // self.k
        inside = top_indices(positive.reshape(-1, size), 1).view(len(pre), self.k)
        return select_indices(positive, inside + size * torch.arange(self.k, device=pre.device))


@dataclass(frozen=True)
class TanhRelu(Activation):
    """tanh(max(pre, 0))."""

    @property
    def words(self) -> str:
        return "tanh-relu"

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return pre.relu().tanh()


@dataclass(frozen=True)
class Identity(Activation):
    """The pre-activation itself, of either sign."""

    @property
    def words(self) -> str:
        return "identity"

    @property
    def signed(self) -> bool:
        return True

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return pre


@dataclass(frozen=True)
class Gated(Activation):
    """max(exp(r_mag) h + b_mag, 0) where h + b_gate > 0, else 0; h is the pre-activation without a bias."""

    b_gate: Float[Tensor, " d_sae"]
    r_mag: Float[Tensor, " d_sae"]
    b_mag: Float[Tensor, " d_sae"]

    @property
    def words(self) -> str:
        return "gated"

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        magnitude = (pre * self.r_mag.exp() + self.b_mag).relu()
        return magnitude.masked_fill(pre + self.b_gate <= 0, 0)


@dataclass(frozen=True)
class Rescaled(Activation):
    """Selects by pre-activation times a factor per feature; what stays keeps its own scale."""

    inner: Activation
    factor: Float[Tensor, " d_sae"]

    @property
    def words(self) -> str:
        return f"{self.inner.words} by decoder norm"

    @property
    def signed(self) -> bool:
        return self.inner.signed

    def dense(self, pre: Float[Tensor, "n d_sae"]) -> Float[Tensor, "n d_sae"]:
        return densify(self.sparse(pre), *pre.shape).to(pre.dtype)

    def sparse(self, pre: Float[Tensor, "n d_sae"]) -> SparseCode:
        code = self.inner.sparse(pre * self.factor)
        return code._replace(value=pre[code.row, code.feature].float())

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Rescaled":
        return Rescaled(self.inner.to(device, dtype), self.factor.to(device, dtype))


@dataclass(frozen=True)
class MatchingPursuit(Activation):
    """Greedy pursuit with tied directions: the feature that fits the residual best is added, again and again.

    A row ends when its support did not change, when its residual's norm is below `residual_threshold`, or after
    `max_iterations`.
    """

    directions: Float[Tensor, "d_sae d_in"]
    residual_threshold: float
    max_iterations: int
    stop_on_same_support: bool

    @property
    def words(self) -> str:
        stop = "" if self.stop_on_same_support else ", support may repeat"
        return f"matching_pursuit to residual {self.residual_threshold:g}, at most {self.max_iterations} steps{stop}"

    @property
    def reads_input(self) -> bool:
        return True

    def dense(self, pre: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_sae"]:
        residual = pre.clone()
        acts = torch.zeros(len(pre), len(self.directions), dtype=pre.dtype, device=pre.device)
        support = acts != 0
        done = torch.zeros(len(pre), dtype=torch.bool, device=pre.device)
        for _ in range(self.max_iterations):
            best = top_indices((residual @ self.directions.T).relu(), 1)
            chosen = self.directions[best[:, 0]]
            value = (residual * chosen).sum(dim=1, keepdim=True).relu().masked_fill(done[:, None], 0)
            acts.scatter_add_(1, best, value)
            residual = residual - value * chosen
            before, support = support, acts != 0
            if self.stop_on_same_support:
                done = done | (support == before).all(dim=1)
            if self.residual_threshold > 0:
                done = done | (residual.norm(dim=1) < self.residual_threshold)
            if bool(done.all()):
                break
        return acts
