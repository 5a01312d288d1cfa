"""Dictionaries that come as objects: SAELens objects, modules and functions with encode and decode.

An object in memory flows in, a `Dictionary` flows out. Knows no file format but SAELens's names, which its objects use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.codes import SparseCode, dense_chunks, join_codes, rows_a_chunk, select_nonzero
from autointerp.subject.loaders import saelens
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.hooks import hook_named
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.table import read_checkpoint
from autointerp.subject.sae import Sae, digest_tensors

Encode = Callable[[Tensor], Tensor]
N_PROBE = 64
"""Rows by which a function without weights is told from another."""


@dataclass(frozen=True, eq=False)
class CustomDictionary:
    """Anything with a dense `encode`, compacted; without a decoder it only encodes."""

    encoder: Encode
    decoder: Encode | None
    hook_point: str
    hook_out: str
    d_in: int
    d_sae: int
    kind: str
    weights_digest: str
    signed: bool
    directions: Float[Tensor, "d_sae d_out"] | None
    takes: Tensor
    """An empty tensor of the device and precision that the object wants, where it is no module that tells them."""
    module: torch.nn.Module | None = None
    prepend_bos: bool | None = None
    notes: tuple[str, ...] = ()

    def encode_sparse(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        """The non-zero activations of each row."""
        size = rows_a_chunk(self.d_sae, x.device)
        firsts = range(0, max(len(x), 1), size)
        return join_codes((first, select_nonzero(self.encode(x[first : first + size]))) for first in firsts)

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Dense activations, as the object gives them, on the input's device and at its precision."""
        with torch.no_grad():
            return self.encoder(x.to(self._takes())).to(x)

    def decode(
        self, acts: Float[Tensor, "*batch d_sae"], x: Float[Tensor, "*batch d_in"] | None = None
    ) -> Float[Tensor, "*batch d_out"]:
        """The object's own decoding.

        Raises:
            UsageError: it has none.
        """
        if self.decoder is None:
            raise UsageError(f"the dictionary {self.kind} only encodes; it has no decode")
        with torch.no_grad():
            return self.decoder(acts.to(self._takes())).to(acts)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """The object's own decoding of a code.

        Raises:
            UsageError: it has none.
        """
        return torch.cat([self.decode(acts) for acts in dense_chunks(code, len(x), self.d_sae)])

    def reconstruct(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """`decode(encode(x))`."""
        return self.decode(self.encode(x))

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"] | None:
        """What each feature writes, where decoding is affine; else None."""
        return self.directions

    def encoder_directions(self) -> None:
        """None: an encoder of any kind has no directions."""

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "CustomDictionary":
        """The same with its module, if it is one, moved in place; a function stays, and inputs are brought to it."""
        if self.module is not None:
            self.module.to(device, dtype)
        moved = None if self.directions is None else self.directions.to(device, dtype)
        return replace(self, directions=moved)

    def _takes(self) -> Tensor:
        """A tensor where and at the precision that the object computes now."""
        return self.takes if self.module is None else next(self.module.parameters(), self.takes)


def wrap_dictionary(
    thing: object, hook_point: str | None = None, d_in: int | None = None, decode: Encode | None = None
) -> "Sae | CustomDictionary":
    """A dictionary around an object in memory.

    A SAELens object is read into our own form and knows its width, and its hook point unless told another. Anything
    else is a function `[n, d_in] -> [n, d_sae]`, or an object with an `encode` of that kind and perhaps a `decode`; it
    needs `hook_point` and `d_in`.

    Raises:
        UsageError: it has no encode, or gives something else than one row of activations per row.
    """
    parts = saelens_parts(thing)
    if parts is not None:
        placed = parts.at(hook_point)
        if placed.hook_point is None:
            raise UsageError("the SAELens object does not say where it reads; pass hook_point")
        return placed.build(placed.hook_point)
    if hook_point is None or d_in is None:
        raise UsageError("a dictionary that is a function or module of your own needs hook_point and d_in")
    return _wrap(thing, hook_named(hook_point), d_in, decode)


def _wrap(thing: object, hook_point: str, d_in: int, decode: Encode | None) -> CustomDictionary:
    encode = getattr(thing, "encode", None) or thing
    if not callable(encode):
        raise UsageError(f"a {type(thing).__name__} is no dictionary: it is not callable and has no encode")
    decoder = decode or getattr(thing, "decode", None)
    module = thing if isinstance(thing, torch.nn.Module) else None
    probe = torch.randn(N_PROBE, d_in, generator=torch.Generator().manual_seed(0))
    if module is not None:
        probe = probe.to(next(module.parameters(), probe))
    probe, acts = _try(encode, probe)
    if not isinstance(acts, Tensor) or acts.ndim != 2 or len(acts) != N_PROBE:
        got = list(acts.shape) if isinstance(acts, Tensor) else type(acts).__name__
        raise UsageError(f"encode gives {got} for {N_PROBE} rows, expected [{N_PROBE}, d_sae]")
    state = module.state_dict() if module is not None else {"probe": acts.bfloat16()}
    name = type(thing).__name__ if module is not None or hasattr(thing, "encode") else "function"
    return CustomDictionary(
        encoder=encode,
        decoder=decoder,
        hook_point=hook_point,
        hook_out=hook_point,
        d_in=d_in,
        d_sae=acts.shape[1],
        kind=name,
        weights_digest=digest_tensors({"kind": name}, state),
        signed=bool((acts < 0).any()),
        directions=None if decoder is None else _affine_directions(decoder, acts),
        takes=probe[:0],
        module=module,
    )


def _try(encode: Encode, probe: Float[Tensor, "n d_in"]) -> tuple[Tensor, Tensor]:
    """The probe where and at the precision that a function takes it, and what it gives; the probe's own come first.

    Raises:
        UsageError: it takes none.
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    homes = [probe.device, *(torch.device("cuda", number) for number in range(n_cuda))]
    homes += [torch.device("mps")] if torch.backends.mps.is_available() else []
    dtypes = dict.fromkeys((probe.dtype, torch.float32, torch.bfloat16, torch.float16, torch.float64))
    first: Exception | None = None
    for home in homes:
        for dtype in dtypes:
            if home.type == "mps" and dtype == torch.float64:
                continue
            try:
                with torch.no_grad():
                    given = probe.to(home, dtype)
                    return given, encode(given)
            except (RuntimeError, TypeError, ValueError) as error:
                first = first or error
    told = next(iter(str(first).strip().splitlines()), type(first).__name__)
    raise UsageError(f"encode fails on activations [{len(probe)}, {probe.shape[1]}]: {told}") from first


def _affine_directions(decode: Encode, acts: Float[Tensor, "n d_sae"]) -> Float[Tensor, "d_sae d_out"] | None:
    """What decoding adds for a unit of each feature, where that does not depend on the rest."""
    with torch.no_grad():
        nothing = decode(torch.zeros_like(acts[:1]))
        d_sae, size = acts.shape[1], rows_a_chunk(acts.shape[1], acts.device)
        rows = torch.cat([decode(_units(low, min(low + size, d_sae), acts)) - nothing for low in range(0, d_sae, size)])
        expected = acts.float() @ rows.float() + nothing.float()
        share = 1e-3 if acts.dtype in (torch.float32, torch.float64) else 3e-2
        tolerance = share * float(expected.abs().max().clamp_min(1))
        return rows if torch.allclose(decode(acts).float(), expected, atol=tolerance, rtol=0) else None


def _units(low: int, high: int, like: Float[Tensor, "n d_sae"]) -> Float[Tensor, "m d_sae"]:
    """Rows of the identity; the whole of it would be gigabytes."""
    units = like.new_zeros(high - low, like.shape[1])
    units.diagonal(low).fill_(1)
    return units


def _saelens_config(thing: object) -> Mapping[str, Any] | None:
    config = getattr(getattr(thing, "cfg", None), "to_dict", None)
    values = config() if callable(config) and hasattr(thing, "state_dict") else None
    return values if isinstance(values, Mapping) and "architecture" in values and "d_sae" in values else None


def saelens_parts(thing: Any) -> SaeParts | None:
    """A SAELens object's weights and rules; None for anything else."""
    config = _saelens_config(thing)
    if config is None:
        return None
    state = {name: tensor.cpu() for name, tensor in thing.state_dict().items()}
    return read_checkpoint(Checkpoint.in_memory(saelens.CONFIG, dict(config), saelens.WEIGHTS, state), "saelens")
