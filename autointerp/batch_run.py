"""A run through a hosted batch endpoint: round after round up, watched, down and into the cache, to the end.

A locked run folder and its configuration flow in; the run ends as any other. Where every upload stands is in the run's
record of batches before and after each step, so that a kill at any moment sends nothing twice.
"""

import asyncio
import secrets
from dataclasses import dataclass

from autointerp import interpretation
from autointerp.asking import may_send_key, say_asked
from autointerp.backends import budget_for, probe_endpoint
from autointerp.batch import collect, import_answers
from autointerp.config import RunConfig
from autointerp.errors import RunError, UsageError
from autointerp.interpretation import Summaries
from autointerp.listener import Listener
from autointerp.llm.base import Endpoint
from autointerp.llm.batch_client import BatchClient, Job
from autointerp.llm.batch_lines import RequestFiles
from autointerp.llm.errors import DrainedError
from autointerp.llm.gate import Gate
from autointerp.llm.registry import connect_model
from autointerp.store.batches import BatchBook, Upload
from autointerp.store.calls import CallLog
from autointerp.store.folder import RunFolder

POLL_S = 30.0
NO_ROOM = "limit"
"""In the code by which an endpoint says that the account's queue is full (`token_limit_exceeded`)."""


async def run_batches(folder: RunFolder, config: RunConfig, listener: Listener, poll_s: float = POLL_S) -> Summaries:
    """Round after round through the endpoint's batches, until nothing is pending; then the run ends as any other.

    Raises:
        UsageError: no language model, no key, or no price where there is a budget in dollars.
        StoppedError: stopped from outside, by the budget, or by the endpoint; the same command goes on.
        RunError: the endpoint cannot be reached, or fails a batch as a whole.
    """
    if config.llm is None:
        raise UsageError("a batch asks a language model; name one with --llm MODEL")
    for line in say_asked(config, folder.named()):
        listener.note(line)
    await probe_endpoint(config, folder, listener)
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        loop.call_soon_threadsafe(stopped.set)

    listener.stoppable(stop)
    connected = connect_model(
        config.llm, base_url=config.base_url, say=listener.note, with_key=may_send_key(config, folder.named())
    )
    try:
        with BatchBook(folder.batch_book) as book:
            rounds = _Rounds(
                folder, config, listener, connected.endpoint, BatchClient(connected.provider), book, poll_s, stopped
            )
            await rounds.run()
    finally:
        listener.stoppable(None)
        await connected.aclose()
    return await interpretation.interpret(folder, config, listener, offline=True)


@dataclass
class _Rounds:
    """Uploads and downloads, one round after the other."""

    folder: RunFolder
    config: RunConfig
    listener: Listener
    endpoint: Endpoint
    client: BatchClient
    book: BatchBook
    poll_s: float
    stopped: asyncio.Event

    async def run(self) -> None:
        """Go on from wherever the book says, until nothing is pending."""
        await self._through()
        while True:
            with CallLog(self.folder.calls) as calls:
                budget = budget_for(self.config, self.endpoint, calls, Gate(), batch=True)
            self.listener.spent(budget.spending())
            path = self.folder.batches / f"autointerp-{secrets.token_hex(8)}.jsonl"
            with RequestFiles(path) as files:
                collector = await collect(self.folder, self.config, self.listener, self.book, files, budget.fits)
            if not files.n and collector.held_back:
                raise budget.exceeded()
            if not files.n:
                return
            stages = ", ".join(f"{stage} {n}" for stage, n in collector.stages.items())
            self.listener.note(f"{files.n} requests in {len(files.names)} batch files: {stages}")
            await self._through()

    async def _through(self) -> None:
        """Every upload to its end."""
        while uploads := self.book.uploads():
            for upload in uploads:
                await self._step(upload)
            left = self.book.uploads()
            if left and all(upload.state == "created" or upload.tries for upload in left):
                await self._wait()

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self.stopped.wait(), self.poll_s)
        except TimeoutError:
            return
        raise DrainedError

    async def _step(self, upload: Upload) -> None:
        """What comes next for an upload: up, into a job, down."""
        path = self.folder.batches / upload.file
        if upload.state == "written" and not path.is_file():  # killed before the file had its name
            with self.book.step():
                self.book.drop_upload(upload)
        elif upload.state == "written":
            file_id = await self.client.upload(path)
            with self.book.step():
                self.book.move_upload(upload, "uploaded", file_id=file_id)
        elif upload.state == "uploaded":
            assert upload.file_id is not None
            job = await self.client.create(upload.file_id, upload.label, upload.url)
            with self.book.step():
                self.book.move_upload(upload, "created", batch_id=job.id)
        else:
            assert upload.batch_id is not None
            job = await self.client.job(upload.batch_id)
            self.listener.progress(f"batch {job.id}", job.n_done, upload.n)
            if job.ended:
                await self._end(upload, job)

    async def _end(self, upload: Upload, job: Job) -> None:
        """Its answers into the cache; what it left out is back."""
        if job.status == "failed":
            self._refused(upload, job)
            return
        name = self.folder.batches / upload.file
        answers = [
            (file, name.with_suffix(f".{kind}.jsonl"))
            for file, kind in ((job.output_file, "output"), (job.error_file, "errors"))
            if file is not None
        ]
        for file, path in answers:
            await self.client.download(file, path)
        work = await import_answers(self.folder, self.config, self.book, [path for _, path in answers])
        with self.book.step():
            n = self.book.end_upload(upload, f"the batch ended as {job.status} without this answer")
        said = work.result().told()
        self.listener.note(f"batch {job.id} {job.status}: {said}{f', {n} left out' if n else ''}")
        for path in (name, *(path for _, path in answers)):
            path.unlink(missing_ok=True)
        if work.stopped is not None:
            raise work.stopped

    def _refused(self, upload: Upload, job: Job) -> None:
        """The endpoint took none of it: another job when there is room, else the run ends."""
        if NO_ROOM in job.message.partition(":")[0] and len(self.book.uploads()) > 1:
            self.listener.note(f"batch {job.id} waits for room: {job.message}")
            with self.book.step():
                self.book.retry_upload(upload)
            return
        with self.book.step():
            self.book.drop_upload(upload)
        raise RunError(f"the endpoint failed batch {job.id} as a whole: {job.message or 'it does not say why'}")
