"""Where tensors live: the device that a user names, and what it says when it has no room.

A name flows in; a device's name for torch flows out. Knows no model and no dictionary.
"""

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from autointerp.errors import UsageError

_NAME = re.compile(r"auto|cpu|mps(:0)?|cuda(:\d+)?")
_NO_ROOM = re.compile(
    r"out of memory|_STATUS_ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED|can(no|')t allocate memory|not enough memory|"
    r"Invalid buffer size|Failed to allocate",
    re.IGNORECASE,
)
"""What torch's allocators and the libraries beneath it say, under many types of error."""


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


def choose_dtype(name: str, device: str | torch.device) -> str:
    """The precision of a model; `auto` is bfloat16 on a CUDA device that has it, else float32.

    Never float16, whose range some models' residual streams leave.
    """
    if name != "auto":
        return name
    if torch.device(device).type != "cuda":
        return "float32"
    with on_device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_ROOM.search(str(error)) is not None


def release_memory(device: str | torch.device) -> None:
    """Give back what nothing holds any more, so that others find it free.

    A model's parts hold each other, so that they go only when garbage is collected.
    """
    gc.collect()
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()


def no_room(what: str, advice: str) -> UsageError:
    """The one sentence of too little memory."""
    return UsageError(f"there is too little memory on the device for {what}; {advice}")


@contextlib.contextmanager
def room_for(what: str, advice: str) -> Iterator[None]:
    """Work that cannot be made smaller; where there is no room for it, a sentence says so.

    Raises:
        UsageError: there is too little memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise no_room(what, advice) from None


def in_chunks(
    n: int, size: int, work: Callable[[slice], None], device: str | torch.device, what: str, advice: str
) -> int:
    """Do `n` things, `size` at a time, or fewer from where there is no room for so many.

    `work` is given the same things again, half of them, where it ran out of memory.

    Returns:
        The size that there is room for.

    Raises:
        UsageError: there is no room for one.
    """
    low = 0
    while low < n:
        part, short = slice(low, min(low + size, n)), False
        try:
            work(part)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            short = True
        if not short:
            low = part.stop
            continue
        if part.stop - part.start == 1:
            raise no_room(what, advice)
        size = (part.stop - part.start + 1) // 2
        release_memory(device)  # not while the error is at hand, whose frames hold what was made
    return size
