"""Replies in a file: what went in comes out elsewhere, and a file that was cut or changed is refused whole."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autointerp.errors import UsageError
from autointerp.llm.base import Capabilities, Endpoint
from autointerp.llm.fakes import text_reply
from autointerp.provenance import digest
from autointerp.store.moved_replies import Moved, read_replies, write_replies
from autointerp.store.replies import SqliteReplyCache

ENDPOINT = Endpoint(provider="openai", base_url="http://h/v1", model="m")
SEEN = Capabilities(
    endpoint=ENDPOINT,
    answers_differ=True,
    top_logprobs=20,
    logprobs_differ=True,
    json_schema=True,
    ten_is_one_token=None,
    rejected=("max_tokens",),
)
REPLIES = [Moved(digest(i), text_reply(f"answer {i} \u2028 ä")) for i in range(3)]
Lines = list[dict[str, object]]


def test_what_was_written_is_read_and_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "deep" / "a.gz", tmp_path / "b.gz"
    assert write_replies(first, [SEEN], REPLIES) == write_replies(second, [SEEN], REPLIES) == 3
    assert first.read_bytes() == second.read_bytes()
    seen, replies = read_replies(first)
    assert (seen, list(replies)) == ([SEEN], REPLIES)


def _forget_a_reply(lines: Lines) -> None:
    del lines[2]


def _forget_the_end(lines: Lines) -> None:
    del lines[-1]


def _change_an_answer(lines: Lines) -> None:
    lines[1]["reply"] = {**text_reply("another").model_dump(mode="json")}


def _swap_keys(lines: Lines) -> None:
    lines[1]["key"], lines[2]["key"] = lines[2]["key"], lines[1]["key"]


def _another_shape(lines: Lines) -> None:
    lines[1]["reply"] = {"text": 3}
    lines[1]["digest"] = digest([lines[1]["key"], lines[1]["reply"]])


def _no_key(lines: Lines) -> None:
    lines[1]["key"] = "../../etc"


def _later(lines: Lines) -> None:
    lines[0]["version"] = 2


def _no_header(lines: Lines) -> None:
    del lines[0]


def _wrong_capabilities(lines: Lines) -> None:
    lines[0]["capabilities"] = [{"endpoint": 3}]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_forget_a_reply, "holds 2"),
        (_forget_the_end, "ends in the middle"),
        (_change_an_answer, "reply 1 was changed"),
        (_swap_keys, "reply 1 was changed"),
        (_another_shape, "another shape"),
        (_no_key, "no key"),
        (_later, "version 2"),
        (_no_header, "first line"),
        (_wrong_capabilities, "endpoints"),
    ],
)
def test_a_spoilt_file_is_refused_with_its_fault(tmp_path: Path, spoil: Callable[[Lines], None], why: str) -> None:
    """A table recomputed from replies that were swapped or lost on the way would be wrong without a word."""
    path = tmp_path / "replies.gz"
    write_replies(path, [SEEN], REPLIES)
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    spoil(lines)
    path.write_bytes(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    with pytest.raises(UsageError, match=why):
        read_replies(path)


@pytest.mark.parametrize(
    "content", [b"", b"not gzip at all", gzip.compress(b"\x00\xff\n", mtime=0), gzip.compress(b"[" * 99999)]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "replies.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_replies(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_replies(tmp_path / "none.gz")
    with pytest.raises(UsageError, match="cannot read"):
        read_replies(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "replies.gz"
    write_replies(path, [SEEN], REPLIES)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UsageError, match="get it again"):
        read_replies(path)


def test_the_cache_keeps_what_an_endpoint_was_seen_to_do(tmp_path: Path) -> None:
    """Without it a run from imported replies would have to ask the endpoint which simulator it was made with."""
    with SqliteReplyCache(tmp_path / "replies.sqlite") as cache:
        assert cache.capabilities(ENDPOINT) is None
        cache.put_capabilities(SEEN)
        cache.put_capabilities(SEEN.model_copy(update={"top_logprobs": 5}))
        assert cache.capabilities(ENDPOINT) == SEEN.model_copy(update={"top_logprobs": 5})
        assert cache.capabilities(ENDPOINT.model_copy(update={"model": "other"})) is None
