"""Batches as files: a run's pending requests out, answers in.

A locked run folder and its configuration flow in; files of requests flow out, and from answer files replies flow into
the cache, where the ordinary run finds them. What all features need and the cache lacks is asked together; a stage that
waits for answers has its requests in the next round. Sends nothing and needs no key.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from autointerp import interpretation
from autointerp.batch_import import AnswerImport, Imported
from autointerp.config import RunConfig, change_config
from autointerp.endpoints import known_capabilities
from autointerp.errors import UsageError
from autointerp.listener import Listener
from autointerp.llm.base import ChatRequest, Endpoint, PromptRequest, Purpose
from autointerp.llm.batch_lines import RequestFiles, read_answers
from autointerp.llm.budget import most_tokens
from autointerp.llm.negotiate import Negotiation, route
from autointerp.llm.openai_compat import secret_key
from autointerp.offline import check_given_up
from autointerp.records import Usage
from autointerp.store.batches import BatchBook
from autointerp.store.calls import CallLog
from autointerp.store.folder import RunFolder
from autointerp.store.replies import SqliteReplyCache


class Exported(NamedTuple):
    """What was written."""

    stages: dict[str, int]
    """Requests by what they are for."""
    files: tuple[Path, ...]

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.stages.values())


@dataclass
class Collector:
    """Writes down every request that has no reply."""

    files: RequestFiles
    book: BatchBook
    endpoint: Endpoint
    negotiation: Negotiation
    round: int
    has_room: Callable[[Usage], bool] = lambda most: True
    """Whether the most that all requests of this round can cost is still within the budget."""
    stages: Counter[str] = field(default_factory=Counter)
    in_part: Counter[int] = field(default_factory=Counter)
    held_back: int = 0
    """Requests left out because the budget could be exceeded."""
    _most: Usage = field(default_factory=Usage)

    def missing(self, key: str, request: ChatRequest, purpose: Purpose) -> None:
        """Told each of them.

        Raises:
            GivenUpError: it is not to be asked any more.
        """
        check_given_up(self.book, key)
        question = self.book.question(key)
        if question is not None and question.round == self.round:
            return
        most = self._most + most_tokens(request)
        if not self.has_room(most):
            self.held_back += 1
            return
        self._most = most
        body = self.negotiation.body(request, self.endpoint.model)
        part = self.files.write(key, body, route(request))
        read = request.read if isinstance(request, PromptRequest) else None
        self.book.ask(key, purpose, self.endpoint, (self.round, part), read)
        self.stages[purpose.stage] += 1
        self.in_part[part] += 1


async def export_requests(folder: RunFolder, config: RunConfig, out: Path, listener: Listener) -> Exported:
    """Write every request that can be asked now and has no reply; nothing is sent, and no key is needed.

    Raises:
        UsageError: no language model is named, or a file stands in the way.
    """
    config = _fixed(folder, config, listener)
    with BatchBook(folder.batch_book) as book, RequestFiles(out) as files:
        collector = await collect(folder, config, listener, book, files)
    return Exported(dict(collector.stages), tuple(files.names))


def _fixed(folder: RunFolder, config: RunConfig, listener: Listener) -> RunConfig:
    """The configuration with a simulator that stays the same whatever is learnt of the endpoint later."""
    if config.llm is None:
        raise UsageError("a batch asks a language model; name one with --llm MODEL")
    with SqliteReplyCache(config.cache) as cache:
        known = known_capabilities(config, folder, cache)
    if not known.probed and config.simulator is None:
        config = change_config(config, {"simulator": "structured"})
        folder.begin(config)
        listener.note("nobody asked the endpoint yet what it can do: the simulator of this run is structured from now")
    return config


async def collect(
    folder: RunFolder,
    config: RunConfig,
    listener: Listener,
    book: BatchBook,
    files: RequestFiles,
    has_room: Callable[[Usage], bool] = lambda most: True,
) -> Collector:
    """One round of requests; those of a file in the run's folder are to be uploaded.

    The book is written before the files stand under their names, so that no answer is ever foreign.
    """
    with SqliteReplyCache(config.cache) as cache:
        seen = known_capabilities(config, folder, cache).seen
    negotiation = Negotiation((*seen.rejected, *book.refused(seen.endpoint)))
    with book.step():
        collector = Collector(files, book, seen.endpoint, negotiation, book.next_round(), has_room)
        await interpretation.look_up(folder, config, listener, collector.missing)
        for part, n in collector.in_part.items():
            if files.path.parent == folder.batches:
                name, url = files.names[part - 1].name, files.urls[part - 1]
                book.add_upload((collector.round, part), name, url, n)
    return collector


async def import_answers(folder: RunFolder, config: RunConfig, book: BatchBook, paths: Sequence[Path]) -> AnswerImport:
    """Put every line of answer files where it belongs.

    Raises:
        UsageError: a file cannot be read.
    """
    with SqliteReplyCache(config.cache, folder.replies) as cache, CallLog(folder.calls) as log:
        work = AnswerImport(cache, log, book, secret_key())
        for path in paths:
            try:
                await work.take(read_answers(path, work.secret))
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}") from None
        return work


async def import_files(folder: RunFolder, config: RunConfig, paths: Sequence[Path]) -> Imported:
    """Answer files from anywhere into the cache; nothing is sent, and no key is needed.

    Raises:
        UsageError: the run never exported a request, or a file cannot be read.
    """
    if not folder.batch_book.is_file():
        raise UsageError(f"{folder.path} has exported no requests; `autointerp batch export` comes first")
    with BatchBook(folder.batch_book) as book:
        return (await import_answers(folder, config, book, paths)).result()
