"""An accelerator that is not there: its tensors' values are on the CPU, their place is `cuda:1` or `mps` to Python.

    with pretended(n_cuda=2) as machine:
        ...device = "cuda:1"...

What a card would refuse is refused: operands on two devices, `.numpy()` of what is not on the host, float64 on MPS,
more memory than `machine.limit`. What a card does late is late: a copy into pinned memory brings its bytes only when
somebody waits for its device, and until then the memory holds rubbish; an event knows whose stream it is in.
Kernels are the CPU's, so a result equals the CPU's own but for what the code does otherwise on a device.
"""

import contextlib
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

_NO_FLOAT64 = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
_WAITS = {"nonzero", "_local_scalar_dense", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2", "item"}
"""Operations whose result's shape or value the host needs, so that it waits for the device."""
_COPIES = {"copy_", "_to_copy", "to", "type_as"}
_RUBBISH = 12345
_PINNED = "pretended_to_be_pinned"
CARD = 80 * 10**9
"""Bytes of memory where no limit is set."""


class Machine:
    """The pretended devices: what is allocated on them, what has not arrived yet, and what was waited for."""

    def __init__(self, n_cuda: int, mps: bool) -> None:
        self.n_cuda, self.mps = n_cuda, mps
        self.current = 0
        """The current CUDA device."""
        self.limit: int | None = None
        """Most bytes on one device."""
        self.out_of_memory: Callable[[], Exception] = lambda: torch.OutOfMemoryError("CUDA out of memory. (pretended)")
        """What a device says then."""
        self.allocated: Counter[str] = Counter()
        self.highest: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        """By device, how often the host waited for it."""
        self.operations: Counter[str] = Counter()
        self.emptied = 0
        """How often cached memory was given back."""
        self.bfloat16 = True
        self.products: Counter[str] = Counter()
        """By precision, how many matrix products ran under which `fp32_precision`."""
        self._late: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self._holders: Counter[int] = Counter()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Inside it nothing more can be allocated."""
        before, self.limit = self.limit, 0
        try:
            yield
        finally:
            self.limit = before

    def place(self, wanted: object) -> torch.device:
        """A device with its number, or one that torch itself knows."""
        device: torch.device = torch.device(wanted)  # type: ignore[call-overload]
        if device.type == "cuda":
            number = self.current if device.index is None else device.index
            if number >= self.n_cuda:
                raise RuntimeError("CUDA error: invalid device ordinal")
            return torch.device("cuda", number)
        if device.type == "mps":
            assert self.mps, "mps without mps"
            return torch.device("mps", 0)
        return device

    def hold(self, storage: int, size: int, place: str) -> None:
        """Count a tensor on a storage."""
        self._holders[storage] += 1
        if self._holders[storage] > 1:
            return
        if self.limit is not None and self.allocated[place] + size > self.limit:
            del self._holders[storage]
            raise self.out_of_memory()
        self.allocated[place] += size
        self.highest[place] = max(self.highest[place], self.allocated[place])

    def release(self, storage: int, size: int, place: str) -> None:
        """The opposite."""
        self._holders[storage] -= 1
        if not self._holders[storage]:
            del self._holders[storage]
            self.allocated[place] -= size

    def send_late(self, destination: Tensor, source: Tensor, place: str) -> None:
        """Begin a copy that arrives when the device is waited for."""
        destination.fill_(_RUBBISH if destination.dtype not in (torch.bool, torch.uint8, torch.int8) else 0)
        self._late[place].append((destination, source.clone()))

    def under_way(self, place: str) -> list[tuple[Tensor, Tensor]]:
        """The copies that have not arrived."""
        return list(self._late[place])

    def wait(self, place: str, copies: list[tuple[Tensor, Tensor]] | None = None) -> None:
        """Let copies arrive, or all of a device's."""
        self.waits[place] += 1
        wanted = {id(copy) for copy in (self._late[place] if copies is None else copies)}
        for copy in [copy for copy in self._late[place] if id(copy) in wanted]:
            with torch.inference_mode():
                copy[0].copy_(copy[1])
            self._late[place].remove(copy)


class Pretended(Tensor):
    """A tensor on a pretended device; `held` has its values."""

    held: Tensor
    home: torch.device
    machine: Machine

    @staticmethod
    def __new__(cls, held: Tensor, home: torch.device, machine: Machine) -> "Pretended":
        if home.type == "mps" and held.dtype in (torch.float64, torch.complex128):
            raise TypeError(_NO_FLOAT64)
        storage = held.untyped_storage()
        key, size, place = storage._cdata, storage.nbytes(), str(home)
        machine.hold(key, size, place)
        with torch.inference_mode(False):  # views of what was made outside inference mode may be taken inside it
            made = Tensor._make_wrapper_subclass(
                cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
                device=torch.device("meta"),
            )  # fmt: skip
        made.held, made.home, made.machine = held, home, machine
        weakref.finalize(made, machine.release, key, size, place)
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        machine = next(a.machine for a in tree_flatten((args, kwargs))[0] if isinstance(a, Pretended))
        return run_operation(machine, operation, args, kwargs or {})

    device = property(lambda self: self.home)
    is_cuda = property(lambda self: self.home.type == "cuda")
    is_mps = property(lambda self: self.home.type == "mps")
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.held}, {self.home})"

    def __deepcopy__(self, memo: object) -> "Pretended":
        return Pretended(self.held.clone(), self.home, self.machine)

    def get_device(self) -> int:
        return self.home.index or 0

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(
            f"can't convert {self.home} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        self.machine.wait(str(self.home))
        return self.held.tolist()


def run_operation(machine: Machine, operation: Any, args: Any, kwargs: Any) -> Any:
    """One operation, as the device of its operands would take or refuse it."""
    name = operation.name().split("::")[1].split(".")[0]
    tensors = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
    mine = [t for t in tensors if isinstance(t, Pretended)]
    if name == "_has_compatible_shallow_copy_type":
        return isinstance(args[0], Pretended) == isinstance(args[1], Pretended)
    wanted = _wanted_device(machine, args, kwargs)
    if not mine and (wanted is None or wanted.type in ("cpu", "meta")):
        return operation(*args, **kwargs)
    machine.operations[name] += 1
    assert not any(t.is_meta for t in tensors), f"{name} takes values that torch made beneath this pretence"
    if name == "copy_":
        return _copy(machine, *args, **kwargs)
    if name not in _COPIES:
        _check_places(name, args, tensors, mine)
    _wait_if_needed(machine, name, args, mine)
    if name in ("mm", "addmm", "bmm", "linear", "baddbmm"):
        machine.products[torch.backends.cuda.matmul.fp32_precision] += 1
    home = wanted or (mine[0].home if mine else torch.device("cpu"))
    if home.type == "mps" and torch.float64 in (*args, kwargs.get("dtype")):
        raise TypeError(_NO_FLOAT64)
    late = bool(kwargs.get("non_blocking")) and home.type == "cpu" and bool(mine)
    with torch.inference_mode():
        out = operation(*_on_host(args), **_on_host(kwargs))
    by_value = {id(t.held): t for t in mine}
    if late and isinstance(out, Tensor):
        copied = out.clone()
        machine.send_late(copied, mine[0].held.to(out.dtype), str(mine[0].home))
        return copied
    if home.type == "cpu" and mine:
        machine.wait(str(mine[0].home))

    def put(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        if home.type in ("cpu", "meta"):
            return t.clone()  # in the mode of whoever asked
        known = by_value.get(id(t))
        if known is not None and known.home == home:
            assert known.shape == t.shape, f"{name} changed a tensor's shape in place"
            return known
        return Pretended(t.clone() if known is not None or (not mine and tensors) else t, home, machine)

    return tree_map(put, out) if name != "_local_scalar_dense" else out


def _wanted_device(machine: Machine, args: Any, kwargs: Any) -> torch.device | None:
    named = kwargs.get("device")
    if named is None:
        named = next((a for a in args if isinstance(a, torch.device)), None)
    return None if named is None else machine.place(named)


def _on_host(values: Any) -> Any:
    """The same arguments for a CPU."""
    if isinstance(values, dict):
        values = {k: v for k, v in values.items() if k != "pin_memory"}

    def one(a: Any) -> Any:
        if isinstance(a, Pretended):
            return a.held
        return torch.device("cpu") if isinstance(a, torch.device) else a

    return tree_map(one, values)


def _check_places(name: str, args: Any, tensors: list[Tensor], mine: list[Pretended]) -> None:
    """Raises as torch does where operands are on two devices; single numbers may be on the host."""
    places = {str(t.home) for t in mine}
    plain = [t for t in tensors if not isinstance(t, Pretended) and t.dim() > 0]
    if name in ("index", "index_put_", "index_put", "_index_put_impl_"):
        numbers = [t for t in args[1] if t is not None]
        if not isinstance(args[0], Pretended) and any(isinstance(t, Pretended) for t in numbers):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        plain = [t for t in plain if not any(t is n for n in numbers)]  # a device's tensor takes indices of the host
    if mine and (plain or len(places) > 1):
        found = ", ".join(sorted(places) + (["cpu"] if plain else []))
        raise RuntimeError(f"Expected all tensors to be on the same device, but found: {found} (in {name})")


def _wait_if_needed(machine: Machine, name: str, args: Any, mine: list[Pretended]) -> None:
    if not mine:
        return
    indices = args[1] if name.startswith(("index", "_index")) and isinstance(args[1], list | tuple) else ()
    masked = any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in indices)
    if name in _WAITS or masked:
        machine.wait(str(mine[0].home))


def _copy(machine: Machine, to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    values = source.held if isinstance(source, Pretended) else source
    if isinstance(to, Pretended):
        with torch.inference_mode():
            to.held.copy_(values)
    elif isinstance(source, Pretended):
        place = str(source.home)
        if non_blocking and getattr(to, _PINNED, False):
            machine.send_late(to, values.to(to.dtype), place)
        else:
            machine.wait(place)
            to.copy_(values)
    return to


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what is made on a device without an operand there."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine = machine

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_operation(self.machine, operation, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Sees what torch does beneath its dispatcher: tensors of Python's numbers, and pinned memory."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = self._with_numbers(function, args), self._with_numbers(function, kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            home = self.machine.place(kwargs["device"])
            if home.type in ("cuda", "mps"):
                given = {name: value for name, value in kwargs.items() if name != "device"}
                if isinstance(args[0], Pretended):
                    return args[0].to(home, **given)
                return Pretended(function(*args, **given), home, self.machine)
        if function is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
            args = (args[0], args[1].device, args[1].dtype, *args[2:])
        if function is Tensor.__setitem__ and isinstance(args[0], Pretended) and not isinstance(args[2], Tensor):
            args = (*args[:2], torch.tensor(args[2], dtype=args[0].dtype))  # torch would make it on `meta`
        if kwargs.get("pin_memory") or getattr(function, "__name__", "") == "pin_memory":
            made: Tensor = function(*args, **{**kwargs, "pin_memory": False}) if kwargs else args[0].clone()
            setattr(made, _PINNED, True)
            return made
        return function(*args, **kwargs)

    def _with_numbers(self, function: Any, values: Any) -> Any:
        """Devices of these arguments with their numbers, which torch would ask the missing backend for."""

        def one(a: Any) -> Any:
            named = isinstance(a, torch.device) or (function is Tensor.to and isinstance(a, str))
            return self.machine.place(a) if named else a

        if isinstance(values, dict):
            return {k: self.machine.place(v) if k == "device" and v is not None else one(v) for k, v in values.items()}
        return tuple(one(a) for a in values)


class _Event:
    """A mark in a device's stream."""

    def __init__(self, machine: Machine, **_: object) -> None:
        self._machine = machine
        self._place: str | None = None
        self._copies: list[tuple[Tensor, Tensor]] = []

    def record(self, stream: "_Stream | None" = None) -> None:
        self._place = stream.place if stream is not None else f"cuda:{self._machine.current}"
        self._copies = self._machine.under_way(self._place)

    def synchronize(self) -> None:
        assert self._place is not None, "waited for before it was recorded"
        self._machine.wait(self._place, self._copies)

    def query(self) -> bool:
        return True


class _Stream:
    """A device's only one."""

    def __init__(self, place: torch.device) -> None:
        self.place = str(place)

    def synchronize(self) -> None:
        pass


@contextlib.contextmanager
def pretended(n_cuda: int = 1, *, mps: bool = False) -> Iterator[Machine]:
    """CUDA devices, or with `mps` Apple's; `n_cuda = 0` for none."""
    machine = Machine(n_cuda, mps)

    def number(device: object = None) -> int:
        return machine.current if device is None else int(machine.place(device).index)

    @contextlib.contextmanager
    def current(device: object) -> Iterator[None]:
        before, machine.current = machine.current, number(device)
        try:
            yield
        finally:
            machine.current = before

    def place(device: object = None) -> str:
        return f"cuda:{number(device)}"

    def forget(device: object = None) -> None:
        machine.highest[place(device)] = machine.allocated[place(device)]

    def empty() -> None:
        machine.emptied += 1

    def limit() -> int:
        return CARD if machine.limit is None else machine.limit

    fakes: dict[str, object] = {
        "is_available": lambda: n_cuda > 0,
        "device_count": lambda: n_cuda,
        "current_device": lambda: machine.current,
        "device": current,
        "set_device": lambda device: setattr(machine, "current", number(device)),
        "Event": lambda **kwargs: _Event(machine, **kwargs),
        "current_stream": lambda device=None: _Stream(torch.device("cuda", number(device))),
        "synchronize": lambda device=None: machine.wait(place(device)),
        "memory_allocated": lambda device=None: machine.allocated[place(device)],
        "max_memory_allocated": lambda device=None: machine.highest[place(device)],
        "memory_reserved": lambda device=None: machine.allocated[place(device)],
        "reset_peak_memory_stats": forget,
        "mem_get_info": lambda device=None: (limit() - machine.allocated[place(device)], limit()),
        "empty_cache": empty,
        "get_device_name": lambda device=None: f"pretended {place(device)}",
        "get_device_capability": lambda device=None: (9, 0) if machine.bfloat16 else (7, 5),
        "is_bf16_supported": lambda including_emulation=True: machine.bfloat16 or including_emulation,
        "_lazy_init": lambda: None,
    }
    with contextlib.ExitStack() as stack:
        for name, fake in fakes.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, fake))
        stack.enter_context(mock.patch.object(torch.backends.mps, "is_available", return_value=mps))
        stack.enter_context(mock.patch.object(torch.mps, "empty_cache", empty))
        stack.enter_context(_Functions(machine))
        stack.enter_context(_Operations(machine))
        yield machine
