"""Named arrays in one file: committed whole, mapped back without reading them.

Arrays and a small JSON object flow in and out. Knows nothing of what they mean.
"""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from autointerp.errors import RunError
from autointerp.provenance import canonical_json, write_atomically


def save_arrays(path: Path, arrays: dict[str, np.ndarray], meta: dict[str, object] | None = None) -> None:
    """Commit arrays as a safetensors file; `meta` is one canonical JSON text, so equal content has equal bytes."""
    data = safetensors.numpy.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        metadata={"autointerp": canonical_json(meta or {})},
    )
    write_atomically(path, data)


def map_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Memory-mapped arrays and `meta` of a file written by `save_arrays`.

    Raises:
        RunError: the file is truncated or no safetensors file.
    """
    kinds = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8",
             "U8": "|u1", "BOOL": "|b1"}  # fmt: skip
    damaged = f"{path} is damaged or cut short; delete it and run the harvest again, which redoes just this file"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_size)) if 8 + header_size <= size else None
    except (OSError, ValueError) as error:
        raise RunError(f"{damaged} ({error})") from None
    if not isinstance(header, dict):
        raise RunError(damaged)
    try:
        meta = json.loads(header.pop("__metadata__", {}).get("autointerp", "{}"))
        start = 8 + header_size
        if start + max((entry["data_offsets"][1] for entry in header.values()), default=0) != size:
            raise RunError(damaged)
        whole = np.memmap(path, dtype=np.uint8, mode="r", offset=0) if size > start else np.zeros(0, np.uint8)
        arrays = {}
        for name, entry in header.items():
            low, high = entry["data_offsets"]
            arrays[name] = whole[start + low : start + high].view(kinds[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RunError(f"{damaged} ({error})") from None
    return arrays, meta
