"""Where tensors live: the device that a user names, held against what is there.

A name flows in; a device's name for torch flows out. Knows no model and no dictionary.
"""

import contextlib
import re
from contextlib import AbstractContextManager

import torch

from autointerp.errors import UsageError

_NAME = re.compile(r"auto|cpu|mps(:0)?|cuda(:\d+)?")


def choose_device(name: str | torch.device) -> str:
    """The device that a user means; `auto` takes CUDA where it is there, else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    wanted = str(name)
    if not _NAME.fullmatch(wanted):
        raise UsageError(f"no device is called {wanted!r}; write auto, cpu, cuda, cuda:1 or mps")
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if n_cuda else "cpu"
    there = torch.backends.mps.is_available() if wanted.startswith("mps") else True
    if wanted.startswith("cuda"):
        there = int(wanted.partition(":")[2] or 0) < n_cuda
    if not there:
        found = f"torch sees {n_cuda} of CUDA, counted from 0" if n_cuda else "torch sees none"
        raise UsageError(f"device {wanted} was asked for, but {found}; use cpu or auto for [harvest] device")
    return wanted


def on_device(device: str | torch.device) -> AbstractContextManager[object]:
    """Inside it a CUDA device is the current one: what names no device, such as an event, is of the current one."""
    wanted = torch.device(device)
    return torch.cuda.device(wanted) if wanted.type == "cuda" else contextlib.nullcontext()


def describe_device(device: str | torch.device) -> str:
    """What stands behind a device, in a few words."""
    wanted = torch.device(device)
    if wanted.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(wanted)}"
    return "Apple GPU (mps)" if wanted.type == "mps" else f"CPU, {torch.get_num_threads()} threads"
