"""Arrays in safetensors files: committed as a whole, mapped and not read, each with a checksum in the header.

Named arrays and a small JSON value flow in and out. Knows nothing of what they mean.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autointerp.errors import RunError
from autointerp.provenance import canonical_json, replace_file

KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8",
         "U8": "|u1", "BOOL": "|b1"}  # fmt: skip
_NAMES = {kind: name for name, kind in KINDS.items()}
REPAIR = "run `autointerp harvest` again with --repair, which makes again just what changed"


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, object] | None = None) -> None:
    """Commit arrays as a safetensors file; `meta` is one canonical JSON text, so equal content has equal bytes.

    Arrays go straight from memory into the file: safetensors' `save` holds a second copy of all, and its `save_file`
    has no errno for a full disk.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # every array is aligned to its items
    whole = {name: np.ascontiguousarray(arrays[name]) for name in order}
    seals = {name: _seal(array) for name, array in whole.items()}
    text = canonical_json({"meta": meta or {}, "arrays": seals})
    header: dict[str, object] = {"__metadata__": {"autointerp": f"{zlib.crc32(text.encode()):08x} {text}"}}
    end = 0
    for name, array in whole.items():
        offsets, end = (end, end + array.nbytes), end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.str], "shape": array.shape, "data_offsets": offsets}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with replace_file(path) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in whole.values():
            file.write(bytes_of(array))


def _seal(array: np.ndarray, *, look: bool = True) -> list[object]:
    return [array.dtype.str, list(array.shape), checksum(array) if look else 0]


def checksum(array: np.ndarray, start: int = 0) -> int:
    """CRC-32 of an array's bytes, continuing `start`."""
    return zlib.crc32(bytes_of(np.ascontiguousarray(array)), start)


def bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def map_arrays(path: Path, later: tuple[str, ...] = ()) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Memory-mapped arrays and `meta` of a file written by `save_arrays`, held against their checksums.

    Arrays named in `later` are not looked at; their reader has checksums of its own.

    Raises:
        RunError: the file is truncated, changed, or no safetensors file.
    """
    damaged = f"{path} is damaged or cut short; {REPAIR}"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_size)) if 8 + header_size <= size else None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{damaged} ({error})") from None
    if not isinstance(header, dict):
        raise RunError(damaged)
    try:
        crc, _, text = header.pop("__metadata__")["autointerp"].partition(" ")
        told = json.loads(text)
        start = 8 + header_size
        if start + max((entry["data_offsets"][1] for entry in header.values()), default=0) != size:
            raise RunError(damaged)
        if int(crc, 16) != zlib.crc32(text.encode()):
            raise RunError(damaged)
        whole = np.asarray(np.memmap(path, dtype=np.uint8, mode="r") if size > start else np.zeros(0, np.uint8))
        arrays = {}
        for name, entry in header.items():
            low, high = entry["data_offsets"]
            arrays[name] = whole[start + low : start + high].view(KINDS[entry["dtype"]]).reshape(entry["shape"])
        if told["arrays"].keys() != arrays.keys():
            raise RunError(damaged)
        for name, array in arrays.items():
            n_looked_at = 2 if name in later else 3
            if _seal(array, look=name not in later)[:n_looked_at] != told["arrays"][name][:n_looked_at]:
                raise RunError(damaged)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise RunError(f"{damaged} ({error})") from None
    meta: dict[str, object] = told["meta"]
    return arrays, meta
