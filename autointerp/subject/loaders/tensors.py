"""Reading weights from a file without running anything in it, and taking them by name and shape.

A path flows in; `Weights`, whose every tensor is finite and float32 (or an integer), flows out. Knows no format.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autointerp.errors import UsageError


class Weights:
    """The named tensors of one file."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Checks for NaN and infinity and widens to float32.

        Raises:
            UsageError: a tensor holds NaN or infinity.
        """
        self.path = path
        self._tensors = {name: _checked(path, name, tensor) for name, tensor in tensors.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the file's order."""
        return tuple(self._tensors)

    def take(self, name: str, *shape: int | None) -> Tensor:
        """The tensor of this name; None in `shape` accepts any length.

        Raises:
            UsageError: it is missing or has another shape.
        """
        if name not in self._tensors:
            raise UsageError(f"{self.path} has no tensor {name} (it has {_list(self.names)}); is the format right?")
        tensor = self._tensors[name]
        fits = len(tensor.shape) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise UsageError(f"{self.path}: {name} has shape {list(tensor.shape)}, expected [{wanted}]")
        return tensor


def read_safetensors(path: Path) -> Weights:
    """All tensors of a safetensors file.

    Raises:
        UsageError: the file is missing, truncated or no safetensors file, or holds NaN.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing; the dictionary's folder is not complete")
    try:
        return Weights(path, load_file(path))
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); it is truncated or no safetensors file, so copy or download it again"
        ) from error


def _checked(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        raise UsageError(f"{path}: {name} holds NaN or infinite values; the checkpoint is damaged, so get it again")
    return tensor.float()


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
