"""Every reply that a run used: what it was for, whether it was paid for, and what it took, one line each.

Replies flow in as they are used; a line is one write to the end of `RUN/calls.jsonl`, so a kill loses none and tears at
most the last, which is left out. Totals flow out, read once at opening. Holds no answer (`store.replies` does), and in
memory only sums: a reply that is used again has a further line, which costs nothing where it came from the cache.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from autointerp.errors import RunError, StoppedError
from autointerp.files import open_in_place
from autointerp.llm.base import ChatReply, Endpoint
from autointerp.llm.purpose import purpose
from autointerp.records import Usage

Via = Literal["live", "batch", "cache"]
"""Paid for as it was asked, paid for in a batch, or found in the cache."""
_SUMMED = 4
"""Calls, input tokens, cached ones among them, output tokens: a line's `usage`."""


class Call(NamedTuple):
    """One use of a reply."""

    digest: str
    """Where the reply stands in the cache."""
    stage: str
    feature: str
    endpoint: Endpoint
    """Who was asked."""
    via: Via
    usage: Usage


class Account(NamedTuple):
    """What calls are summed by."""

    stage: str
    endpoint: Endpoint
    via: Via


class CallLog:
    """A run's `CallNotes`; one writer, guarded by the run's lock. Close it, or use it in a `with` block."""

    def __init__(self, path: Path) -> None:
        """Sum what an earlier process wrote; a torn last line is cut off.

        Raises:
            RunError: the file holds something else.
            UsageError: the name is a link.
        """
        self.path = path
        self._file = open_in_place(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            self._sums, whole = _read_sums(path)
            os.truncate(self._file, whole)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def used(self, key: str, endpoint: Endpoint, reply: ChatReply, *, paid: bool) -> None:
        """As `CallNotes.used`."""
        self.note(Call(key, *purpose(), endpoint, "live" if paid else "cache", reply.usage))

    def note(self, call: Call) -> None:
        """Write a line; it is with the system when this returns.

        Raises:
            StoppedError: the file cannot be written.
        """
        counts = _counts(call.usage)
        key = _Key(call.stage, call.endpoint.provider, call.endpoint.base_url, call.endpoint.model, call.via)
        values = {"digest": call.digest, "feature": call.feature, **key._asdict(), "usage": counts}
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            advice = "make room or make it writable, then run the same command again"
            raise StoppedError(f"cannot write {self.path}: {error.strerror}; {advice}") from None
        _add(self._sums, key, counts)

    def accounts(self) -> Mapping[Account, Usage]:
        """Sums by stage, endpoint and how the replies came."""
        return _accounts(self._sums)

    def total(self) -> Usage:
        """Everything that was paid for."""
        return sum((_usage(sums) for key, sums in self._sums.items() if key.via != "cache"), Usage())


class _Key(NamedTuple):
    """An account as a line has it."""

    stage: str
    provider: str
    base_url: str
    model: str
    via: Via

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(provider=self.provider, base_url=self.base_url, model=self.model)


_DIGEST = re.compile(r"blake2b:[0-9a-f]{40}")
_FIELDS = {"digest", "feature", *_Key._fields, "usage"}


def read_accounts(path: Path) -> Mapping[Account, Usage]:
    """As `CallLog.accounts`, without touching the file; none where there is no file.

    Raises:
        RunError: the file holds something else.
    """
    return _accounts(_read_sums(path)[0])


def _read_sums(path: Path) -> tuple[dict[_Key, list[int]], int]:
    """Sums by account, and where the last whole line ends."""
    sums: dict[_Key, list[int]] = {}
    whole = 0
    for values, end in _read(path):
        _add(sums, _Key(*(values[name] for name in _Key._fields)), values["usage"])
        whole = end
    return sums, whole


def _add(sums: dict[_Key, list[int]], key: _Key, counts: Sequence[int]) -> None:
    own = sums.setdefault(key, [0] * _SUMMED)
    for i, count in enumerate(counts):
        own[i] += count


def _accounts(sums: Mapping[_Key, Sequence[int]]) -> Mapping[Account, Usage]:
    return {Account(key.stage, key.endpoint, key.via): _usage(own) for key, own in sums.items()}


def read_calls(path: Path) -> Iterator[Call]:
    """The calls of a run in their order, without touching the file; none where there is no file.

    Raises:
        RunError: the file holds something else.
    """
    for values, _ in _read(path):
        key = _Key(*(values[name] for name in _Key._fields))
        usage = _usage(values["usage"])
        yield Call(values["digest"], key.stage, values["feature"], key.endpoint, key.via, usage)


def _read(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole line's values, and where it ends."""
    if not path.is_file():
        return
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                values = None
            if not _is_call(values):
                raise RunError(f"{path}, line {number}, is no record of a call; move the file away and run again")
            yield values, end


def _is_call(values: object) -> bool:
    if not isinstance(values, dict) or values.keys() != _FIELDS:
        return False
    usage, names = values["usage"], [values[name] for name in _FIELDS - {"usage"}]
    if not all(isinstance(name, str) for name in names) or not _DIGEST.fullmatch(values["digest"]):
        return False
    return isinstance(usage, list) and len(usage) == _SUMMED and all(type(count) is int for count in usage)


def _counts(usage: Usage) -> list[int]:
    return [usage.calls, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens]


def _usage(counts: Sequence[int]) -> Usage:
    calls, read, cached, written = counts
    return Usage(calls=calls, input_tokens=read, cached_input_tokens=cached, output_tokens=written)
