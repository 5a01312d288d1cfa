"""The lines of batch files: requests as OpenAI's batch endpoint and `vllm run-batch` take them, and their answers.

Request bodies under their digests flow into files split to the limits; lines of answer files flow out as replies,
failures or something else, in whatever order they come. Opens no connection.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from autointerp.errors import UsageError
from autointerp.files import make_temporary
from autointerp.limits import ANSWER, TooLargeError, lines_of
from autointerp.llm.base import ChatReply
from autointerp.llm.decode import ErrorFacts, decode_chat, decode_echo, embedded_error, without_secret
from autointerp.llm.errors import TransientError
from autointerp.provenance import commit_file

URL_PREFIX = "/v1"
"""Before a request's path, as batch files name it."""
MOST_LINES = 50_000
MOST_BYTES = 200_000_000
"""Limits of one batch file (OpenAI's batch guide)."""


class Answered(NamedTuple):
    """A line that holds an answer to a request, not yet decoded."""

    key: str
    body: bytes


class NotAnswered(NamedTuple):
    """A line that says why a request has no reply."""

    key: str
    facts: ErrorFacts | None
    """What the endpoint said against the request; None where the batch ended without asking or the answer was cut."""
    why: str


class NoAnswer(NamedTuple):
    """A line that is none of a batch's answers."""

    why: str


AnswerLine = Answered | NotAnswered | NoAnswer


@dataclass
class _Part:
    """A file of requests to one path while it is written."""

    url: str
    path: Path
    file: BinaryIO
    lines: int = 0
    bytes: int = 0


@dataclass
class RequestFiles:
    """Writes requests to `NAME.jsonl`, or `NAME-001.jsonl` and so on where one file is too small for the limits.

    All requests of a file go to one path of the endpoint. The files stand under their names only when the block ends
    well.
    """

    path: Path
    most_lines: int = MOST_LINES
    most_bytes: int = MOST_BYTES
    n: int = 0
    """Requests so far."""
    _parts: list[_Part] = field(default_factory=list)
    _open: dict[str, int] = field(default_factory=dict)
    """The part that is written, by path."""

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            UsageError: files of an earlier export stand there; one that stayed behind would be paid for again.
        """
        taken = [
            p for p in (self.path, *self.path.parent.glob(f"{self.path.stem}-[0-9][0-9][0-9].jsonl")) if p.exists()
        ]
        if taken:
            raise UsageError(f"{taken[0]} is there already; move it away or choose another --out")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {self.path.parent}: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in self._parts:
            _close(part)
        if kind is not None:
            for part in self._parts:
                part.path.unlink(missing_ok=True)
            return
        for part, name in zip(self._parts, self.names, strict=True):
            commit_file(part.path, name)

    @property
    def names(self) -> list[Path]:
        """The files; none where nothing was written."""
        if len(self._parts) < 2:
            return [self.path for _ in self._parts]
        return [self.path.with_name(f"{self.path.stem}-{i:03d}.jsonl") for i in range(1, len(self._parts) + 1)]

    @property
    def urls(self) -> list[str]:
        """The path that each file's requests go to."""
        return [part.url for part in self._parts]

    def write(self, key: str, body: dict[str, object], path: str) -> int:
        """One request under its digest, to a path of the endpoint such as `/chat/completions`.

        Returns:
            The number of its file, from 1.
        """
        url = URL_PREFIX + path
        value = {"custom_id": key, "method": "POST", "url": url, "body": body}
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        number = self._open.get(url)
        part = None if number is None else self._parts[number]
        if part is None or part.lines >= self.most_lines or part.bytes + len(line) > self.most_bytes:
            part = self._next(url)
        part.file.write(line)
        part.lines += 1
        part.bytes += len(line)
        self.n += 1
        return self._open[url] + 1

    def _next(self, url: str) -> _Part:
        if url in self._open:
            _close(self._parts[self._open[url]])
        self._open[url] = len(self._parts)
        self._parts.append(_Part(url, *make_temporary(self.path)))
        return self._parts[-1]


def _close(part: _Part) -> None:
    if not part.file.closed:
        part.file.flush()
        os.fsync(part.file.fileno())
        part.file.close()


def read_answers(path: Path, secret: str = "") -> Iterator[AnswerLine]:
    """Every line of an answer file; `secret` is blotted out of what it says. Blank lines are passed over.

    Raises:
        OSError: the file cannot be read.
        UsageError: a line is longer than any answer.
    """
    with path.open("rb") as file:
        try:
            for line in lines_of(file, ANSWER):
                if line.strip():
                    yield read_answer(line, secret)
        except TooLargeError as error:
            raise UsageError(f"{path} is no file of answers: {error}") from None


def read_answer(line: bytes, secret: str = "") -> AnswerLine:
    """One line: OpenAI's output or error file, or what `vllm run-batch` writes."""
    try:
        value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return NoAnswer("no JSON")
    key = value.get("custom_id") if isinstance(value, dict) else None
    if not isinstance(key, str) or not key:
        return NoAnswer("no custom_id")
    response, error = value.get("response"), value.get("error")
    status = response.get("status_code") if isinstance(response, dict) else None
    body = response.get("body") if isinstance(response, dict) else None
    if status == 200 and isinstance(body, dict):
        return Answered(key, json.dumps(body).encode())
    said = body or error
    if isinstance(status, int) and status != 200:
        facts = ErrorFacts(status, {}, said, blot=secret)
        return NotAnswered(key, facts, facts.message)
    if error:
        return NotAnswered(key, None, ErrorFacts(0, {}, error, blot=secret).message)
    return NoAnswer("neither a response nor an error")


def decode_answer(answered: Answered, read: str | None, secret: str = "") -> ChatReply | NotAnswered:
    """The reply in an answer, decoded as a live one; `read` is the text that a `PromptRequest` asked to be read."""
    try:
        reply = decode_chat(answered.body) if read is None else decode_echo(answered.body, read)
        return without_secret(reply, secret)
    except TransientError as error:
        embedded = embedded_error(answered.body)
        if embedded is None:
            return NotAnswered(answered.key, None, str(error))
        facts = ErrorFacts(embedded[0], {}, embedded[1], blot=secret)
        return NotAnswered(answered.key, facts, facts.message)
