"""How a GPU makes an encoder's product: at what precision, and how much of its result at once.

A device flows in; settings that a shard's bytes depend on flow out, and are in force where they are asked to be. A CPU
knows none of it.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from autointerp.subject.codes import DENSE_LIMIT, at_most_dense

MOST_DENSE = 2**29
"""Values of a dense table: 2 GB of float32. From 2^31 on `nonzero` could not count them."""
SHARE = 16
"""The free memory is so many times a dense table; encoding holds up to four."""

Precision = Literal["ieee", "tf32"]


class Products(NamedTuple):
    """What a pass keeps of a GPU's ways, so that all its shards are made alike."""

    precision: Precision = "ieee"
    dense_limit: int = DENSE_LIMIT
    """Most values of a dense `[rows, d_sae]` intermediate."""

    @classmethod
    def fitting(cls, device: str, dtype: str) -> "Products":
        """For a device with a model of that precision and the dictionaries on it.

        Tensor cores round an encoder's inputs to ten bits (TF32); that is a hundredth of what a bfloat16 model already
        rounds, and no part of a float32 one.
        """
        if torch.device(device).type != "cuda":
            return cls()
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        values = free // 4 // SHARE
        limit = min(max(1 << max(values.bit_length() - 1, 0), DENSE_LIMIT), MOST_DENSE)
        return cls("ieee" if dtype == "float32" else "tf32", limit)

    @contextlib.contextmanager
    def in_force(self, device: torch.device) -> Iterator[None]:
        """Inside it products on a CUDA device are made so, whatever the process does else."""
        if device.type != "cuda":
            yield
            return
        matmul = torch.backends.cuda.matmul
        named = hasattr(matmul, "fp32_precision")  # torch 2.9 and newer
        setting, wanted = ("fp32_precision", self.precision) if named else ("allow_tf32", self.precision == "tf32")
        before = getattr(matmul, setting)
        setattr(matmul, setting, wanted)
        try:
            with at_most_dense(self.dense_limit):
                yield
        finally:
            setattr(matmul, setting, before)
