"""A signed dictionary as one without signs: the two tails of a feature are two features.

A signed `Dictionary` flows in; one with twice its features, none of them negative, flows out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.subject.codes import SparseCode
from autointerp.subject.dictionaries import Dictionary


@dataclass(frozen=True)
class BothTails:
    """Feature i is the positive tail of the signed feature i, feature i + d its negative tail."""

    signed_dictionary: Dictionary

    @property
    def signed(self) -> bool:
        """No longer."""
        return False

    @property
    def hook_point(self) -> str:
        """As the signed dictionary's; so are the next five."""
        return self.signed_dictionary.hook_point

    @property
    def hook_out(self) -> str:
        """Where it writes."""
        return self.signed_dictionary.hook_out

    @property
    def d_in(self) -> int:
        """Width of its input."""
        return self.signed_dictionary.d_in

    @property
    def weights_digest(self) -> str:
        """Of the signed dictionary."""
        return self.signed_dictionary.weights_digest

    @property
    def prepend_bos(self) -> bool | None:
        """Whether its training text began with BOS."""
        return self.signed_dictionary.prepend_bos

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about it."""
        return self.signed_dictionary.notes

    @property
    def d_sae(self) -> int:
        """Two a signed feature."""
        return 2 * self.signed_dictionary.d_sae

    @property
    def kind(self) -> str:
        """The signed dictionary's, and that the tails are apart."""
        return f"{self.signed_dictionary.kind}, tails apart"

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The non-zero activations of each row by magnitude; rows ascend, features within a row need not."""
        code = self.signed_dictionary.encode_sparse(x)
        return SparseCode(code.row, code.feature + self.signed_dictionary.d_sae * (code.value < 0), code.value.abs())

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations, none negative."""
        acts = self.signed_dictionary.encode(x)
        return torch.cat([acts.clamp_min(0), (-acts).clamp_min(0)], dim=-1)

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_out"]:
        """What activations stand for."""
        positive, negative = acts.chunk(2, dim=-1)
        return self.signed_dictionary.decode(positive - negative, x)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """What a code stands for."""
        d = self.signed_dictionary.d_sae
        negative = code.feature >= d
        value = torch.where(negative, -code.value, code.value)
        return self.signed_dictionary.decode_sparse(SparseCode(code.row, code.feature - d * negative, value), x)

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """As the signed dictionary's."""
        return self.signed_dictionary.reconstruct(x)

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"] | None:
        """A negative tail writes the opposite."""
        return _with_opposites(self.signed_dictionary.decoder_directions())

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"] | None:
        """A negative tail reads the opposite."""
        return _with_opposites(self.signed_dictionary.encoder_directions())

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "BothTails":
        """The same elsewhere or at another precision."""
        return BothTails(self.signed_dictionary.to(device, dtype))


def _with_opposites(directions: Tensor | None) -> Tensor | None:
    return None if directions is None else torch.cat([directions, -directions])
