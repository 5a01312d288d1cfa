"""How a dictionary scales its inputs before encoding and undoes it after decoding.

Activations `[..., d_in]` flow in and out. Knows no weights and no file format.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-5


@dataclass(frozen=True)
class Scaling:
    """One rule; `unscale` sees the input that `scale` saw."""

    words = "none"
    needs_input = False

    def scale(self, x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        """The input as the encoder wants it."""
        return x

    def unscale(self, out: Float[Tensor, "*n d_in"], x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        """The decoder's output in the input's own units."""
        return out


NO_SCALING = Scaling()
"""Inputs as they are; also for rules that were folded into the weights when the file was read."""


@dataclass(frozen=True)
class LayerNormScaling(Scaling):
    """Centred and divided by the unbiased standard deviation plus 1e-5; undone without the 1e-5."""

    words = "layer_norm"
    needs_input = True

    def scale(self, x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.std(dim=-1, keepdim=True) + EPSILON)

    def unscale(self, out: Float[Tensor, "*n d_in"], x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        mean = x.mean(dim=-1, keepdim=True)
        return out * (x - mean).std(dim=-1, keepdim=True) + mean


@dataclass(frozen=True)
class ConstantNormScaling(Scaling):
    """Each input rescaled to norm sqrt(d_in)."""

    words = "constant_norm_rescale"
    needs_input = True

    def scale(self, x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        return x * self._factor(x)

    def unscale(self, out: Float[Tensor, "*n d_in"], x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
        return out / self._factor(x)

    @staticmethod
    def _factor(x: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n 1"]:
        norm: Tensor = x.norm(dim=-1, keepdim=True)
        return math.sqrt(x.shape[-1]) / norm
