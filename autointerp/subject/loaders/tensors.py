"""Reading weights from a file without running anything in it, and taking them by name and shape.

A path flows in; `Weights`, whose every tensor is finite and float32 (or an integer), flows out. Knows no format.
"""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.limits import LARGE_ARRAY, is_bomb

TORCH_SUFFIXES = (".pt", ".pth")


class Weights:
    """The named tensors of one file, and whatever plain values lie among them."""

    def __init__(self, path: Path, values: Mapping[str, object]) -> None:
        """Checks for NaN and infinity and widens to float32.

        Raises:
            UsageError: a tensor holds NaN or infinity.
        """
        self.path = path
        self._taken: set[str] = set()
        self._tensors = {k: _checked(path, k, v.detach()) for k, v in values.items() if isinstance(v, Tensor)}
        self.others: dict[str, object] = {k: v for k, v in values.items() if not isinstance(v, Tensor)}
        """Strings, numbers and nested objects."""

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def names(self) -> tuple[str, ...]:
        """Tensor names in the file's order."""
        return tuple(self._tensors)

    def first(self, *names: str) -> str:
        """The first of several names for one thing that is there.

        Raises:
            UsageError: none is.
        """
        found = next((name for name in names if name in self._tensors), None)
        if found is None:
            raise UsageError(f"{self.path} has no tensor {names[0]} (it has {_list(self.names)}); is the format right?")
        self._taken.add(found)
        return found

    def left(self) -> list[str]:
        """Tensors that nobody took and that are not zero throughout."""
        return [name for name, tensor in self._tensors.items() if name not in self._taken and bool(tensor.any())]

    def take(self, name: str, *shape: int | None) -> Tensor:
        """The tensor of this name; None in `shape` accepts any length.

        Raises:
            UsageError: it is missing or has another shape.
        """
        tensor = self._tensors[self.first(name)]
        if not _fits(tensor, shape):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise UsageError(f"{self.path}: {name} has shape {list(tensor.shape)}, expected [{wanted}]")
        return tensor

    def take_either_way(self, name: str, rows: int, columns: int) -> Tensor:
        """A matrix that may be stored transposed, as `[rows, columns]`.

        Raises:
            UsageError: it is missing, has another shape, or is square, so that nothing tells which way it lies.
        """
        tensor = self._tensors[self.first(name)]
        if rows == columns:
            raise UsageError(
                f"{self.path}: {name} is square, so its orientation is ambiguous, and this format's files lie either "
                "way; convert it to SAELens' layout"
            )
        return tensor.T if tuple(tensor.shape) == (columns, rows) else self.take(name, rows, columns)

    def take_spread(self, name: str, length: int) -> Tensor:
        """A vector of this length, or one number repeated to it."""
        tensor = self._tensors[self.first(name)]
        return torch.full((length,), self.scalar(name)) if tensor.numel() == 1 else self.take(name, length)

    def scalar(self, name: str) -> float:
        """The one number in a tensor without dimensions, or with a single entry."""
        tensor = self._tensors[self.first(name)]
        if tensor.numel() != 1:
            raise UsageError(f"{self.path}: {name} has shape {list(tensor.shape)}, expected one number")
        return float(tensor.item())

    def length(self, *names: str) -> int:
        """The length of a vector."""
        name = self.first(*names)
        return self.take(name, None).shape[0]


def read_weights(path: Path) -> Weights:
    """All tensors of a file, by its suffix.

    Raises:
        UsageError: the file is missing, damaged, would run code, or holds NaN.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing; the dictionary's folder is not complete")
    if path.suffix == ".npz":
        return Weights(path, _read_npz(path))
    if path.suffix in TORCH_SUFFIXES:
        return Weights(path, _read_torch(path))
    return Weights(path, _read_safetensors(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # of a damaged file these libraries raise anything; so do the two below
        raise _unreadable(path, "safetensors", error) from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                bombs = [i.filename for i in packed.infolist() if is_bomb(i.compress_size, i.file_size, LARGE_ARRAY)]
            if bombs:
                raise UsageError(f"{path} holds {bombs[0]}, which is packed to fill the memory; get it again")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
    except UsageError:
        raise
    except MemoryError as error:
        raise UsageError(f"{path} needs more memory than there is ({error})") from None
    except Exception as error:
        if isinstance(error, ValueError) and ("pickle" in str(error).lower() or "object" in str(error).lower()):
            raise _would_run_code(path) from error
        raise _unreadable(path, "numpy", error) from error


def _read_torch(path: Path) -> dict[str, object]:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _would_run_code(path) from error
    except Exception as error:
        raise _unreadable(path, "torch", error) from error
    if not isinstance(values, Mapping):
        raise UsageError(f"{path} holds no named tensors but a {type(values).__name__}; save a state dict instead")
    return {str(name): value for name, value in values.items()}


def _unreadable(path: Path, kind: str, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(
        f"{path} cannot be read ({reason}); it is truncated or no {kind} file, so copy or download it again"
    )


def _would_run_code(path: Path) -> UsageError:
    return UsageError(
        f"{path} holds pickled Python objects, and reading those can run any code, so it is refused; convert it with "
        "the tool that wrote it to plain tensors (safetensors, or a state dict)"
    )


def _checked(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        raise UsageError(f"{path}: {name} holds NaN or infinite values; the checkpoint is damaged, so get it again")
    return tensor.float()


def _fits(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    return len(tensor.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
