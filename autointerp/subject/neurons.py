"""The neuron basis: a hook point's own coordinates as features, the strongest of each token kept.

Activations `[n, d_in]` flow in, `SparseCode` flows out. Has no weights and needs no file.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.provenance import digest
from autointerp.subject.activations import TopK
from autointerp.subject.codes import SparseCode, dense_chunks, join_codes, rows_a_chunk

NEURON_K = 16
"""Values kept per token."""


@dataclass(frozen=True)
class NeuronBasis:
    """Feature i is coordinate i; a token keeps its 16 largest positive values.

    With `both_tails` feature d_in + i is minus coordinate i, and a token keeps the 16 values of largest magnitude.
    """

    hook_point: str
    d_in: int
    both_tails: bool = False
    prepend_bos: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def d_sae(self) -> int:
        """One feature a coordinate, or one a tail."""
        return 2 * self.d_in if self.both_tails else self.d_in

    @property
    def hook_out(self) -> str:
        """It writes where it reads."""
        return self.hook_point

    @property
    def kind(self) -> str:
        """Architecture and encoding in words."""
        return f"neurons{', both tails,' if self.both_tails else ''} topk k={NEURON_K}"

    @property
    def signed(self) -> bool:
        """A negative tail is a feature of its own, so no activation is negative."""
        return False

    @property
    def weights_digest(self) -> str:
        """Of its rule, there being no weights."""
        return digest([self.kind, self.d_in])

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The kept coordinates of each row."""
        size = rows_a_chunk(self.d_sae, x.device)
        firsts = range(0, max(len(x), 1), size)
        return join_codes((first, self._activation.sparse(self._tails(x[first : first + size]))) for first in firsts)

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations."""
        acts = self._activation.dense(self._tails(x).reshape(-1, self.d_sae))
        return acts.reshape(*x.shape[:-1], self.d_sae)

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_in"]:
        """The coordinates that the activations are."""
        if not self.both_tails:
            return acts
        return acts[..., : self.d_in] - acts[..., self.d_in :]

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """The coordinates that a code is."""
        return torch.cat([self.decode(acts) for acts in dense_chunks(code, len(x), self.d_sae)])

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """The input less what was not kept."""
        return self.decode(self.encode(x))

    def decoder_directions(self) -> Float[Tensor, "d_sae d_in"] | None:
        """None stands for the identity."""
        return torch.cat([torch.eye(self.d_in), -torch.eye(self.d_in)]) if self.both_tails else None

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"] | None:
        """As `decoder_directions`."""
        return self.decoder_directions()

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "NeuronBasis":
        """Itself: there is nothing to move."""
        return self

    @property
    def _activation(self) -> TopK:
        return TopK(min(NEURON_K, self.d_sae))

    def _tails(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        if x.shape[-1] != self.d_in:
            raise UsageError(f"the neuron basis at {self.hook_point} has width {self.d_in}, not {x.shape[-1]}")
        return torch.cat([x, -x], dim=-1) if self.both_tails else x
