"""What every reader returns: a dictionary that may still lack its hook point, and the step that completes it.

Weights and rules flow in, an `Sae` with checked shapes and a digest flows out. Knows no file format.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from autointerp.subject.activations import Activation
from autointerp.subject.loaders.hooks import hook_named
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
    centring_unsaid: bool = False
    """Its inputs may have been centred in training, and its files do not say."""
    cannot_decode: str | None = None
    prepend_bos: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is odd about the files, in sentences."""
        notes = self.notes
        if self.transcoder and self.hook_out is None:
            notes += ("It is a transcoder, but its files do not say where it writes.",)
        if self.center_input:
            notes += ("Its model had centred writing weights, so each input's mean is subtracted first.",)
        if self.centring_unsaid:
            notes += (
                "Its files do not say whether its model's writing weights were centred, which matters where norms "
                "subtract the mean (GPT-2, Pythia); it is read uncentred, so set center_input = true if they were.",
            )
        return notes

    def centred(self, asked: bool | None) -> "SaeParts":
        """The same with each input's mean subtracted first, or not; as it was where nothing is asked."""
        return self if asked is None else replace(self, center_input=asked, centring_unsaid=False)

    def at(self, asked: str | None, default: str | None = None) -> "SaeParts":
        """The same, reading where a user asked for, else where its files say, else at the default.

        Names of modules are written as hook points; a note says whose word did not count.
        """
        said = self.hook_point
        if asked is not None:
            place = hook_named(asked)
            differs = said is not None and said != place
            note = (f"Its files, or their folder's name, say that it reads at {said}; it reads at {place}, as asked.",)
            return replace(self, hook_point=place, notes=self.notes + (note if differs else ()))
        if said is None or default is None or hook_named(default) == said:
            return replace(self, hook_point=said or (hook_named(default) if default else None))
        note = (
            f"It reads at {said}, as its files or their folder's name say; {default} is only for dictionaries that do "
            "not say, so give this one a hook_point of its own if it is to read elsewhere.",
        )
        return replace(self, notes=self.notes + note)

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
