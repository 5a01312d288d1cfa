"""Files and batch jobs of a test server, in OpenAI's batch file format: validated, answered unordered, sometimes badly.

Uploaded bytes and job requests flow in; job states and files of JSON lines flow out. Kept in memory alone. Knows no
HTTP; what a line is answered with is the caller's function.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from autointerp.llm.answers import RequestBody
from autointerp.llm.testserver.bodies import Said
from autointerp.llm.testserver.faults import Faults, Problem
from autointerp.provenance import digest, generator

MOST_LINES = 50_000
MOST_BYTES = 200_000_000
WINDOW_S = 24 * 3600
LINE_FAULTS = ("missing", "duplicate", "error", "foreign", "expired")
"""What can become of a line: no answer anywhere, two answers, an error, an answer to nobody's question besides, and no
answer before the window ended."""
AnswerLine = Callable[[str, RequestBody, str], Said]
"""(path, body, batch id) to an answer."""


class StoredFile(NamedTuple):
    """A file as its listing tells it, and what it holds."""

    listing: dict[str, object]
    content: bytes


class Question(NamedTuple):
    """One line of an input file."""

    custom_id: str
    url: str
    body: RequestBody


@dataclass
class Batches:
    """All files and jobs of one server."""

    answer: AnswerLine
    delay_s: float = 0.0
    """Seconds in each state before the next one."""
    faults: Faults = field(default_factory=Faults)
    """Shares of lines by `LINE_FAULTS`; a line meets its fault in the first job that asks it."""
    fails: bool = False
    """Every job ends as failed after it was taken."""
    files: dict[str, StoredFile] = field(default_factory=dict)
    jobs: dict[str, dict[str, object]] = field(default_factory=dict)
    _work: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)

    def store(self, content: bytes, name: str, purpose: str) -> dict[str, object]:
        """Keep a file; its listing."""
        listing: dict[str, object] = {
            "id": f"file-{len(self.files) + 1:06d}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self.files[str(listing["id"])] = StoredFile(listing, content)
        return listing

    def create(self, asked: RequestBody, paths: tuple[str, ...]) -> dict[str, object] | Problem:
        """Take a job; it is worked on until it ends."""
        source, endpoint = asked.get("input_file_id"), asked.get("endpoint")
        if source not in self.files:
            return Problem(404, f"No such File object: {source}", "file_not_found", "input_file_id")
        if endpoint not in paths:
            return Problem(400, f"endpoint must be one of {', '.join(paths)}", "invalid_request", "endpoint")
        if asked.get("completion_window") != "24h":
            return Problem(400, "completion_window must be 24h", "invalid_request", "completion_window")
        now = int(time.time())
        job: dict[str, object] = {
            "id": f"batch_{len(self.jobs) + 1:06d}",
            "object": "batch",
            "endpoint": endpoint,
            "errors": None,
            "input_file_id": source,
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "expires_at": now + WINDOW_S,
            **dict.fromkeys(f"{state}_at" for state in _STATES),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": asked.get("metadata"),
        }
        self.jobs[str(job["id"])] = job
        self._work[str(job["id"])] = asyncio.get_running_loop().create_task(self._run(job))
        return job

    async def cancel(self, job: dict[str, object]) -> None:
        """End a job that has not ended; what it answered so far stays."""
        task = self._work.get(str(job["id"]))
        if task is not None and not task.done():
            _enter(job, "cancelling")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            _enter(job, "cancelled")

    async def close(self) -> None:
        """Stop all work."""
        for task in self._work.values():
            task.cancel()
        await asyncio.gather(*self._work.values(), return_exceptions=True)

    async def _run(self, job: dict[str, object]) -> None:
        content = self.files[str(job["input_file_id"])].content
        await asyncio.sleep(self.delay_s)
        questions, errors = read_questions(content, str(job["endpoint"]))
        if self.fails and not errors:
            errors = [_complaint("server_error", None, "The batch could not be processed.")]
        if errors:
            job["errors"] = {"object": "list", "data": errors}
            _enter(job, "failed")
            return
        counts = {"total": len(questions), "completed": 0, "failed": 0}
        job["request_counts"] = counts
        _enter(job, "in_progress")
        await asyncio.sleep(self.delay_s)
        lines: list[tuple[bool, str]] = []
        for i, question in enumerate(questions):
            answered = list(self._lines(question, str(job["id"])))
            lines += answered
            counts["completed" if any(well for well, _ in answered) else "failed"] += 1
            if i % 50 == 0:
                await asyncio.sleep(0)
        _enter(job, "finalizing")
        self._write(job, lines)
        await asyncio.sleep(self.delay_s)
        _enter(job, "expired" if any('"batch_expired"' in line for _, line in lines) else "completed")

    def _lines(self, question: Question, job: str) -> Iterator[tuple[bool, str]]:
        """(answered well, line) for what the files say of one question."""
        key = digest([question.url, question.body])
        fault = None if key in self._asked else self.faults.drawn(key, 1)
        self._asked.add(key)
        if fault == "missing":
            return
        if fault == "expired":
            said = "This request could not be executed before the completion window expired."
            yield False, _line(question.custom_id, None, {"code": "batch_expired", "message": said})
            return
        if fault == "error":
            problem = Problem(500, "The server had an error while processing your request", "server_error")
            yield False, _line(question.custom_id, Said(problem.status, problem.body))
            return
        said_now = self.answer(question.url, question.body, job)
        line = _line(question.custom_id, said_now)
        yield said_now.status == 200, line
        if fault == "duplicate":
            yield True, line
        if fault == "foreign":
            yield True, _line(f"foreign-{question.custom_id[-8:]}", said_now)

    def _write(self, job: dict[str, object], lines: list[tuple[bool, str]]) -> None:
        """The output file and the error file, each in an order of its own, and none of a kind that has no line."""
        order = generator("batch", job["id"]).permutation(len(lines))
        for name, well in (("output", True), ("error", False)):
            own = [lines[i][1] for i in order if lines[i][0] == well]
            if own:
                stored = self.store("".join(own).encode(), f"{job['id']}_{name}.jsonl", "batch_output")
                job[f"{name}_file_id"] = stored["id"]


_STATES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def _enter(job: dict[str, object], state: str) -> None:
    job["status"] = state
    job[f"{state}_at"] = int(time.time())


def _line(custom_id: str, said: Said | None, error: dict[str, str] | None = None) -> str:
    """A line of an output or error file; an error that a request was answered with stands in the response's body."""
    name = digest([custom_id, error]).partition(":")[2][:24]
    response = said and {"status_code": said.status, "request_id": f"req_{name}", "body": said.body}
    row = {"id": f"batch_req_{name}", "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(row) + "\n"


def _complaint(code: str, line: int | None, message: str) -> dict[str, object]:
    return {"code": code, "line": line, "message": message, "param": None}


def read_questions(content: bytes, endpoint: str) -> tuple[list[Question], list[dict[str, object]]]:
    """The questions of an input file, and the errors for which the whole job is refused."""
    questions: list[Question] = []
    errors: list[dict[str, object]] = []
    seen: set[str] = set()
    models: set[object] = set()
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            question = Question(str(row["custom_id"]), str(row["url"]), dict(row["body"]))
        except (ValueError, KeyError, TypeError):
            errors.append(_complaint("invalid_json_line", number, "This line is not parseable as valid JSON."))
            continue
        if question.custom_id in seen:
            errors.append(_complaint("duplicate_custom_id", number, "The custom_id of this line was used before."))
        if question.url != endpoint or row.get("method") != "POST":
            errors.append(_complaint("mismatched_endpoint", number, f"This line is no POST to {endpoint}."))
        seen.add(question.custom_id)
        models.add(question.body.get("model"))
        questions.append(question)
    if len(models) > 1:
        errors.append(_complaint("mismatched_model", None, "All lines of a file must ask the same model."))
    if not questions and not errors:
        errors.append(_complaint("empty_file", None, "The input file has no requests."))
    if len(questions) > MOST_LINES:
        errors.append(_complaint("too_many_tasks", None, f"At most {MOST_LINES} requests in one file."))
    return questions, errors
