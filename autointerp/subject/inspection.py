"""What a checkpoint is, without a model and without running it: what `autointerp inspect` shows.

A path flows in, an `InspectReport` flows out. A missing hook point is no error here.
"""

from pathlib import Path

from autointerp.records import Record
from autointerp.subject.hub import localise
from autointerp.subject.loaders.table import read_parts


class InspectReport(Record):
    """One dictionary as its files describe it."""

    format: str
    architecture: str
    kind: str
    """How it encodes, such as `topk k=16`."""
    d_in: int
    d_out: int
    """Width of its output; `d_in` for all but transcoders."""
    d_sae: int
    """Number of features."""
    hook_point: str | None
    """Where it reads; None where its files do not say."""
    hook_out: str | None
    """Where it writes; None where its files do not say."""
    scaling: str
    """How inputs are rescaled before encoding."""
    subtract_b_dec: bool
    """Whether the decoder's bias is subtracted from inputs first."""
    center_input: bool
    """Whether each input's mean is subtracted first."""
    prepend_bos: bool | None
    """Whether its training text began with BOS; None where its files do not say."""
    notes: tuple[str, ...]
    """What is odd, in sentences."""


def inspect_dictionary(path: str | Path, format: str | None = None) -> InspectReport:  # noqa: A002 - as `load_dictionary`
    """Describe the checkpoint at a local path or a path in a Hugging Face repository.

    Raises:
        UsageError: nothing there, an unknown format, or a damaged checkpoint.
    """
    name, parts = read_parts(localise(path), format)
    sae = parts.build(parts.hook_point or "unknown")
    notes = sae.notes
    if parts.hook_point is None:
        notes += ("Its files do not say where it reads; give --hook-point.",)
    return InspectReport(
        format=name,
        architecture=sae.architecture,
        kind=sae.kind,
        d_in=sae.d_in,
        d_out=sae.d_out,
        d_sae=sae.d_sae,
        hook_point=parts.hook_point,
        hook_out=parts.hook_out if parts.transcoder else parts.hook_point,
        scaling=sae.scaling.words,
        subtract_b_dec=sae.subtract_b_dec,
        center_input=sae.center_input,
        prepend_bos=sae.prepend_bos,
        notes=notes,
    )
