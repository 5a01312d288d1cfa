"""A hosted batch endpoint: files of requests up, jobs watched, files of answers down.

Files and labels of ours flow in, the endpoint's names and a job's state flow out. A label stands in the file's name and
the job's metadata, so that what was sent before a kill or a lost connection is found again instead of sent again. Knows
no run and no request.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from autointerp.llm.errors import MalformedReplyError, TransientError
from autointerp.llm.openai_compat import OpenAICompatible
from autointerp.llm.wire import clean
from autointerp.provenance import write_atomically

WINDOW = "24h"
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
LABEL = "autointerp"
PAGES = 50
"""Jobs are looked for on so many pages of a hundred."""
ATTEMPTS = 8
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
T = TypeVar("T")


class Job(NamedTuple):
    """A batch as the endpoint tells it."""

    id: str
    status: str
    output_file: str | None
    error_file: str | None
    n_done: int
    """Requests answered or failed so far."""
    message: str
    """Why it failed as a whole; empty where it did not."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


class BatchClient:
    """Batches on an endpoint; every call is repeated after a transient failure, without doing a thing twice."""

    def __init__(self, provider: OpenAICompatible, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._provider = provider
        self._sleep = sleep

    async def upload(self, path: Path) -> str:
        """The id of the file of this name on the endpoint, which is uploaded where it is not there.

        Raises:
            LlmError: the endpoint could not be reached or says no.
        """

        async def once() -> str:
            return await self._file_of(path.name) or await self._provider.upload(path, "batch")

        return await self._patiently(once)

    async def create(self, file_id: str, label: str, url: str) -> Job:
        """The job with this label, which is created where there is none.

        Args:
            url: the path that the file's requests go to, such as `/v1/chat/completions`.

        Raises:
            LlmError: the endpoint could not be reached or says no.
        """

        async def once() -> Job:
            found = await self._job_of(label)
            if found is not None:
                return found
            body: dict[str, object] = {
                "input_file_id": file_id,
                "endpoint": url,
                "completion_window": WINDOW,
                "metadata": {LABEL: label},
            }
            return _job(_object(await self._provider.exchange("POST", "/batches", body)))

        return await self._patiently(once)

    async def job(self, name: str) -> Job:
        """A job's state now.

        Raises:
            LlmError: the endpoint could not be reached or says no.
        """

        async def once() -> Job:
            return _job(_object(await self._provider.exchange("GET", f"/batches/{name}")))

        return await self._patiently(once)

    async def download(self, file_id: str, to: Path) -> None:
        """A file's content.

        Raises:
            LlmError: the endpoint could not be reached or says no.
        """

        async def once() -> bytes:
            return await self._provider.exchange("GET", f"/files/{file_id}/content")

        write_atomically(to, await self._patiently(once))

    async def _file_of(self, name: str) -> str | None:
        listed = _object(await self._provider.exchange("GET", "/files?purpose=batch&limit=10000"))
        for file in _rows(listed):
            if file.get("filename") == name and isinstance(file.get("id"), str):
                return str(file["id"])
        return None

    async def _job_of(self, label: str) -> Job | None:
        after = ""
        for _ in range(PAGES):
            listed = _object(await self._provider.exchange("GET", f"/batches?limit=100{after}"))
            rows = _rows(listed)
            for row in rows:
                metadata = row.get("metadata")
                if isinstance(metadata, dict) and metadata.get(LABEL) == label:
                    return _job(row)
            if not rows or not listed.get("has_more"):
                return None
            after = f"&after={rows[-1].get('id')}"
        return None

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        pause = FIRST_PAUSE_S
        for _ in range(ATTEMPTS - 1):
            try:
                return await once()
            except TransientError as error:
                await self._sleep(max(pause, error.retry_after_s or 0.0))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        return await once()


def _object(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise MalformedReplyError(f"{len(body)} bytes that are no JSON object")
    return value


def _rows(listed: dict[str, object]) -> list[dict[str, object]]:
    data = listed.get("data")
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def _job(row: dict[str, object]) -> Job:
    name, status, counts = row.get("id"), row.get("status"), row.get("request_counts")
    if not isinstance(name, str) or not isinstance(status, str):
        raise MalformedReplyError("a batch without id or status")
    done = [counts.get(kind) for kind in ("completed", "failed")] if isinstance(counts, dict) else []
    files = [row.get(f"{kind}_file_id") for kind in ("output", "error")]
    output, error = (file if isinstance(file, str) and file else None for file in files)
    errors = row.get("errors")
    said = [_said(one) for one in _rows(errors)] if isinstance(errors, dict) else []
    return Job(name, status, output, error, sum(n for n in done if isinstance(n, int)), "; ".join(said[:3]))


def _said(error: dict[str, object]) -> str:
    line = error.get("line")
    place = f" (line {line})" if isinstance(line, int) else ""
    return clean(f"{error.get('code')}: {error.get('message')}{place}")
