"""The one in-memory form of every linear sparse dictionary: SAEs, transcoders and skip transcoders.

A reader's weights and rules flow in; codes, activations and reconstructions of model activations flow out. A new file
format needs a reader, never a change here. Knows no file and no model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.provenance import canonical_json, digest_bytes
from autointerp.subject.activations import Activation
from autointerp.subject.codes import SparseCode, join_codes, rows_a_chunk
from autointerp.subject.scaling import NO_SCALING, Scaling


@dataclass(frozen=True, eq=False)
class Sae:
    """`encode`: centre, scale, subtract `b_dec`, `@ W_enc + b_enc`, activation. `decode`: `@ W_dec + b_dec`, unscale.

    All tensors are float32 and share a device until `to` says otherwise.
    """

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_out"]
    b_dec: Float[Tensor, " d_out"]
    activation: Activation
    architecture: str
    """The format's own word for it."""
    hook_point: str
    """Where it reads."""
    hook_out: str
    """Where its decoder writes; `hook_point` for all but transcoders."""
    weights_digest: str
    W_skip: Float[Tensor, "d_out d_in"] | None = None
    """Added to the output as `x @ W_skip.T`, with x as it came."""
    W_glu: Float[Tensor, "d_in d_sae"] | None = None
    b_glu: Float[Tensor, " d_sae"] | None = None
    """With `W_glu`: pre-activations are multiplied by `sigmoid(z @ W_glu + b_glu)`."""
    scaling: Scaling = NO_SCALING
    subtract_b_dec: bool = False
    center_input: bool = False
    """Subtract each input's mean over d_in first: residual streams of models with centred writing weights."""
    restores_input: bool = True
    """Its output is meant to be its input, so scaling and centring are undone; False for transcoders."""
    cannot_decode: str | None = None
    """Why its output is not to be had from its own weights, where it is not."""
    prepend_bos: bool | None = None
    """Whether its training text began with BOS; None where its files do not say."""
    notes: tuple[str, ...] = ()
    """What is odd about its files, in sentences."""

    @property
    def d_in(self) -> int:
        """Width of its input."""
        return self.W_enc.shape[0]

    @property
    def d_out(self) -> int:
        """Width of its output; `d_in` for all but transcoders."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.W_enc.shape[1]

    @property
    def kind(self) -> str:
        """Architecture and encoding in words, such as `topk k=16`."""
        words = self.activation.words
        return words if words.split()[0] == self.architecture else f"{self.architecture}, {words}"

    @property
    def signed(self) -> bool:
        """Whether an activation can be negative."""
        return self.activation.signed

    @torch.no_grad()
    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The non-zero activations of each row, by chunks so that memory stays bounded."""
        room = self.W_enc.new_empty(min(len(x), rows_a_chunk(self.d_sae, self.W_enc.device)), self.d_sae)
        return join_codes((first, self.activation.sparse(pre)) for first, pre in self._pre_activations(x, room))

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations. Heads (`[..., head, d_head]`) are flattened first.

        Raises:
            UsageError: they have another width, or are on another device.
        """
        rows = self._flatten_heads(x)
        flat = rows.reshape(-1, self.d_in)
        acts = torch.cat([self.activation.dense(pre) for _, pre in self._pre_activations(flat)])
        return acts.reshape(*rows.shape[:-1], self.d_sae)

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_out"]:
        """What the activations stand for, in the units of the model's activations.

        With `center_input` the input's mean is added back where `x` is given.

        Raises:
            UsageError: `x` is missing where the scaling of each input or a skip connection needs it, or nothing can be
                decoded.
        """
        self._check_device(acts)
        return self._finish(acts.to(self.W_dec.dtype) @ self.W_dec, x)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """`decode` of the code of rows `x`, without making it dense.

        Raises:
            UsageError: as `decode`.
        """
        if self.cannot_decode is not None:
            raise UsageError(self.cannot_decode)
        self._check_device(x)
        starts = torch.searchsorted(code.row, torch.arange(len(x), device=x.device))
        written = torch.nn.functional.embedding_bag(
            code.feature, self.W_dec, starts, mode="sum", per_sample_weights=code.value.to(self.W_dec.dtype)
        )
        return self._finish(written, x)

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """`decode(encode(x), x)`, with the code kept sparse."""
        rows = self._flatten_heads(x)
        flat = rows.reshape(-1, self.d_in)
        return self.decode_sparse(self.encode_sparse(flat), flat).reshape(*rows.shape[:-1], self.d_out)

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"]:
        """What each feature writes, one row a feature."""
        return self.W_dec

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"]:
        """What each feature reads, one row a feature."""
        return self.W_enc.T

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "Sae":
        """The same dictionary elsewhere or at another precision."""
        tensors = {name: tensor.to(device, dtype) for name, tensor in self._own_tensors().items()}
        return replace(self, activation=self.activation.to(device, dtype), **tensors)  # type: ignore[arg-type]

    def _own_tensors(self) -> dict[str, Tensor]:
        named = {name: getattr(self, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "W_glu", "b_glu")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _flatten_heads(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.d_in and x.ndim > 1 and x.shape[-2] * x.shape[-1] == self.d_in:
            return x.flatten(-2)
        if x.shape[-1] != self.d_in:
            raise UsageError(f"the dictionary reads activations of width {self.d_in}, not {x.shape[-1]}")
        return x

    def _check_device(self, x: Tensor) -> None:
        if x.device != self.W_dec.device:
            raise UsageError(
                f"the dictionary is on {self.W_dec.device} and its input on {x.device}; "
                f'move the dictionary there with .to("{x.device}")'
            )

    def _center(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.center_input else x

    def _pre_activations(
        self, x: Float[Tensor, "n d_in"], room: Float[Tensor, "chunk d_sae"] | None = None
    ) -> Iterator[tuple[int, Float[Tensor, "chunk d_sae"]]]:
        """Chunks of pre-activations with their first row's number; one empty chunk where there are no rows.

        Where there is `room`, every chunk is written into it: fresh memory for each costs a tenth of the product.
        """
        size = rows_a_chunk(self.d_sae, self.W_enc.device)
        self._check_device(x)
        for first in range(0, max(len(x), 1), size):
            z = self.scaling.scale(self._center(x[first : first + size].to(self.W_enc.dtype)))
            if self.subtract_b_dec:
                z = z - self.b_dec
            yield first, z if self.activation.reads_input else self._project(z, room)

    def _project(
        self, z: Float[Tensor, "n d_in"], room: Float[Tensor, "chunk d_sae"] | None
    ) -> Float[Tensor, "n d_sae"]:
        pre = torch.addmm(self.b_enc, z, self.W_enc, out=None if room is None else room[: len(z)])
        if self.W_glu is None or self.b_glu is None:
            return pre
        return pre * torch.addmm(self.b_glu, z, self.W_glu).sigmoid()

    def _finish(self, written: Tensor, x: Tensor | None) -> Tensor:
        if self.cannot_decode is not None:
            raise UsageError(self.cannot_decode)
        out = written + self.b_dec
        if x is None:
            if self.W_skip is not None or (self.restores_input and self.scaling.needs_input):
                raise UsageError(f"decoding this {self.architecture} dictionary needs its input too: decode(acts, x)")
            return out
        source = self._flatten_heads(x).to(self.W_dec.dtype)
        if self.restores_input:
            centred = self._center(source)
            out = self.scaling.unscale(out, centred) + (source - centred)
        if self.W_skip is not None:
            out = out + source @ self.W_skip.T
        return out


def digest_of(sae: Sae) -> str:
    """A digest of everything that decides its codes and reconstructions, the same on every device."""
    rules = {
        "activation": sae.activation.words,
        "scaling": sae.scaling.words,
        "subtract_b_dec": sae.subtract_b_dec,
        "center_input": sae.center_input,
    }
    return digest_tensors(rules, sae._own_tensors() | sae.activation.tensors())


def digest_tensors(rules: dict[str, object], tensors: dict[str, Tensor]) -> str:
    """A digest of settings and named float32 tensors."""

    def pieces() -> Iterator[bytes]:
        yield canonical_json(rules).encode()
        for name, tensor in sorted(tensors.items()):
            yield canonical_json([name, list(tensor.shape)]).encode()
            yield tensor.detach().float().cpu().contiguous().numpy().tobytes()

    return digest_bytes(pieces())
