"""What every reader returns: a dictionary that may still lack its hook point, and the step that completes it.

Weights and rules flow in, an `Sae` with checked shapes and a digest flows out. Knows no file format.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from autointerp.subject.activations import Activation
from autointerp.subject.sae import Sae, digest_of
from autointerp.subject.scaling import NO_SCALING, Scaling


@dataclass(frozen=True, eq=False, kw_only=True)
class SaeParts:
    """The fields of `Sae` as far as files alone tell them."""

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, " d_out"]
    activation: Activation
    architecture: str
    hook_point: str | None
    transcoder: bool = False
    """Whether it predicts another place's activations."""
    hook_out: str | None = None
    """Where a transcoder writes, if its files say."""
    W_skip: Float[Tensor, "d_out d_in"] | None = None
    W_glu: Float[Tensor, "d_in d_sae"] | None = None
    b_glu: Float[Tensor, " d_sae"] | None = None
    scaling: Scaling = NO_SCALING
    subtract_b_dec: bool = False
    center_input: bool = False
    cannot_decode: str | None = None
    prepend_bos: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is odd about the files, in sentences."""
        if self.transcoder and self.hook_out is None:
            return (*self.notes, "It is a transcoder, but its files do not say where it writes.")
        return self.notes

    def with_glu(self, weight: Float[Tensor, "d_in d_sae"], bias: Float[Tensor, " d_sae"]) -> "SaeParts":
        """The same with a gated linear unit in its encoder."""
        return replace(self, W_glu=weight, b_glu=bias)

    def build(self, hook_point: str) -> Sae:
        """The dictionary, reading at `hook_point`."""
        sae = Sae(
            W_enc=self.W_enc.contiguous(),
            b_enc=self.b_enc,
            W_dec=self.W_dec.contiguous(),
            b_dec=self.b_dec,
            activation=self.activation,
            architecture=self.architecture,
            hook_point=hook_point,
            hook_out=self.hook_out or hook_point,
            weights_digest="",
            W_skip=self.W_skip,
            W_glu=self.W_glu,
            b_glu=self.b_glu,
            scaling=self.scaling,
            subtract_b_dec=self.subtract_b_dec,
            center_input=self.center_input,
            restores_input=not self.transcoder,
            cannot_decode=self.cannot_decode,
            prepend_bos=self.prepend_bos,
            notes=self.remarks,
        )
        return replace(sae, weights_digest=digest_of(sae))
