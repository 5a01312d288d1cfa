"""Devices by name, and how too little memory is told from other errors."""

import pytest
import torch

from autointerp.errors import UsageError
from autointerp.subject.devices import choose_device, in_chunks, is_out_of_memory, room_for
from tests.device import pretended


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB, max allowed: 18 GB)"),
        RuntimeError("Invalid buffer size: 17.90 GB"),
        RuntimeError("HIP out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_too_little_memory_has_many_names(error: Exception) -> None:
    """Only torch's own class was known, so that most of these ended in a traceback."""
    assert is_out_of_memory(error)
    with (
        pytest.raises(UsageError, match="too little memory on the device for the model"),
        room_for("the model", "wait"),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory")]
)
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    """A bug must not be told as a lack of memory."""
    assert not is_out_of_memory(error)
    with pytest.raises(type(error), match=str(error)), room_for("the model", "wait"):
        raise error


def test_chunks_shrink_until_they_fit() -> None:
    """Every thing is done once, though some were tried with others for which there was no room."""
    done: list[int] = []

    def work(part: slice) -> None:
        if part.stop - part.start > 3:
            raise torch.OutOfMemoryError
        done.extend(range(part.start, part.stop))

    assert in_chunks(20, 16, work, "cpu", "rows", "wait") == 2
    assert done == list(range(20))
    with pytest.raises(UsageError, match="for one row; wait"):
        in_chunks(5, 4, lambda part: work(slice(0, 9)), "cpu", "one row", "wait")


def test_devices_by_name() -> None:
    """With two cards `cuda:5` was taken for there, and `mps` for the CPU."""
    with pretended(2):
        assert choose_device("auto") == "cuda"
        assert choose_device("cuda:1") == "cuda:1"
        for name in ("cuda:2", "cuda:5", "mps"):
            with pytest.raises(UsageError, match=f"device {name} was asked for"):
                choose_device(name)
    with pretended(0, mps=True):
        assert choose_device("mps") == "mps"
        assert choose_device("auto") == "cpu"
    with pytest.raises(UsageError, match="no device is called 'gpu'"):
        choose_device("gpu")
