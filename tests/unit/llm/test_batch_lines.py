"""Lines of batch files: requests split to the limits, answers as OpenAI and vLLM write them, and everything else."""

import json
from pathlib import Path

import pytest

from autointerp.errors import UsageError
from autointerp.llm.base import ChatReply
from autointerp.llm.batch_lines import (
    Answered,
    NoAnswer,
    NotAnswered,
    RequestFiles,
    decode_answer,
    read_answer,
    read_answers,
)
from autointerp.llm.decode import classify
from autointerp.llm.errors import ContextTooLongError

KEY = "sk-test-4f9a1c77d2e84b0b"
CHAT = "/chat/completions"
BODY: dict[str, object] = {
    "model": "m",
    "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
}


def line(**values: object) -> bytes:
    return json.dumps({"id": "batch_req_1", "custom_id": "q", **values}).encode()


def response(status: int, body: object) -> dict[str, object]:
    return {"status_code": status, "request_id": "r", "body": body}


def test_one_file_keeps_its_name_and_holds_the_requests_in_order(tmp_path: Path) -> None:
    with RequestFiles(tmp_path / "deep" / "requests.jsonl") as files:
        for i in range(3):
            files.write(f"q{i}", {"model": "m", "messages": [{"role": "user", "content": "ä\u2028"}]}, CHAT)
        assert not files.path.exists(), "a kill would leave a file that looks whole"
    assert files.names == [tmp_path / "deep" / "requests.jsonl"]
    rows = [json.loads(text) for text in files.names[0].read_bytes().split(b"\n") if text]
    assert [row["custom_id"] for row in rows] == ["q0", "q1", "q2"]
    assert {(row["method"], row["url"]) for row in rows} == {("POST", "/v1/chat/completions")}
    assert list((tmp_path / "deep").iterdir()) == files.names


def test_files_are_split_to_both_limits(tmp_path: Path) -> None:
    """A file over a limit is refused whole after the upload; every request stands in exactly one."""
    with RequestFiles(tmp_path / "r.jsonl", most_lines=4, most_bytes=500) as files:
        for i in range(10):
            files.write(f"q{i}", {"text": "x" * (300 if i == 5 else 10)}, CHAT)
    contents = [path.read_bytes() for path in files.names]
    assert [path.name for path in files.names] == ["r-001.jsonl", "r-002.jsonl", "r-003.jsonl"]
    assert all(len(content) <= 500 for content in contents)
    assert [content.count(b"\n") for content in contents] == [4, 2, 4]
    assert [json.loads(text)["custom_id"] for text in b"".join(contents).splitlines()] == [f"q{i}" for i in range(10)]


def test_each_path_of_the_endpoint_has_files_of_its_own(tmp_path: Path) -> None:
    """A batch is created for one path; a line to another one makes the endpoint refuse the whole file."""
    with RequestFiles(tmp_path / "r.jsonl", most_lines=2) as files:
        numbers = [files.write(f"q{i}", {}, CHAT if i % 2 else "/completions") for i in range(6)]
    assert numbers == [1, 2, 1, 2, 3, 4]
    for path, url in zip(files.names, files.urls, strict=True):
        assert {json.loads(text)["url"] for text in path.read_text().splitlines()} == {url}
    assert files.urls == ["/v1/completions", "/v1/chat/completions"] * 2


def test_an_earlier_export_is_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    """A left-over `r-003.jsonl` would be uploaded, and paid for, once more."""
    (tmp_path / "r-003.jsonl").write_text("old")
    with pytest.raises(UsageError, match=r"r-003\.jsonl is there already"), RequestFiles(tmp_path / "r.jsonl"):
        pass


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    def export() -> None:
        with RequestFiles(tmp_path / "r.jsonl") as files:
            files.write("q", {}, CHAT)
            files.write("q", {"text": object()}, CHAT)

    with pytest.raises(TypeError):
        export()
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_decoded_as_a_live_one() -> None:
    nothing: tuple[object, ...] = (None, {})
    for error in nothing:
        read = read_answer(line(response=response(200, BODY), error=error))
        assert isinstance(read, Answered)
        reply = decode_answer(read, None)
        assert isinstance(reply, ChatReply)
        assert (read.key, reply.text, reply.usage.cached_input_tokens) == ("q", "hi", 3)


@pytest.mark.parametrize(
    ("row", "status", "said"),
    [
        (line(response=response(500, {"error": {"message": "it broke"}}), error=None), 500, "it broke"),
        (line(response=response(400, None), error={"message": "bad", "code": 400}), 400, "bad"),
        (line(response=response(200, {"error": {"message": "busy", "code": 503}}), error=None), 503, "busy"),
        (line(response=None, error={"code": "batch_expired", "message": "too late"}), None, "too late"),
        (line(response=response(200, {"choices": []}), error=None), None, "no choices"),
        (line(response=response(401, {"error": {"message": f"wrong key {KEY}"}}), error=None), 401, "wrong key [key]"),
    ],
)
def test_an_error_line_says_why(row: bytes, status: int | None, said: str) -> None:
    """OpenAI puts the error into the response's body, vLLM beside it; an expired line has no response at all."""
    line = read_answer(row, KEY)
    read = decode_answer(line, None, KEY) if isinstance(line, Answered) else line
    assert isinstance(read, NotAnswered)
    assert said in read.why
    assert (read.facts.status if read.facts else None) == status


def test_an_error_line_is_classified_as_a_live_error() -> None:
    said = {"error": {"message": "maximum context length is 8192 tokens", "code": "context_length_exceeded"}}
    read = read_answer(line(response=response(400, said), error=None))
    assert isinstance(read, NotAnswered)
    assert read.facts is not None
    assert isinstance(classify(read.facts), ContextTooLongError)


@pytest.mark.parametrize(
    "row", [b"not json", b"[]", b"{}", b'{"custom_id": 3}', line(), line(response=None, error=None), b"[" * 99999]
)
def test_a_line_of_something_else_is_none(row: bytes) -> None:
    assert isinstance(read_answer(row), NoAnswer)


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line(response=response(200, BODY)) + b"\r\n\n  \n")
    assert [type(read) for read in read_answers(path)] == [Answered]
