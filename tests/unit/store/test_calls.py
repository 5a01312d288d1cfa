"""The log of a run's calls: what was paid stays counted, whatever happens to the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autointerp.errors import RunError
from autointerp.llm.base import Endpoint
from autointerp.llm.fakes import text_reply
from autointerp.llm.purpose import asking_for
from autointerp.provenance import digest
from autointerp.records import FeatureId, Usage
from autointerp.store.calls import Account, Call, CallLog, read_calls

ENDPOINT = Endpoint(provider="openai", base_url="http://h/v1", model="m")
FIRST, SECOND = (FeatureId(dictionary="d", index=i) for i in (1, 2))
WRITER = """
import sys
from pathlib import Path
from autointerp.llm.base import Endpoint
from autointerp.llm.fakes import text_reply
from autointerp.llm.purpose import asking_for
from autointerp.provenance import digest
from autointerp.store.calls import CallLog

log = CallLog(Path(sys.argv[1]))
endpoint = Endpoint(provider="openai", base_url="http://h/v1", model="m")
for i in range(1000000):
    log.used(digest(i), endpoint, text_reply("four"), paid=True)
    print(i, flush=True)
"""


def test_sums_are_by_stage_model_and_way_and_only_payments_count(tmp_path: Path) -> None:
    """A reply from the cache that counted as spending would stop a run on a budget it never touched."""
    path = tmp_path / "calls.jsonl"
    usage = Usage(calls=1, input_tokens=10, cached_input_tokens=4, output_tokens=3)
    reply = text_reply("x", "m").model_copy(update={"usage": usage})
    with CallLog(path) as log:
        with asking_for("explain", FIRST):
            log.used(digest(1), ENDPOINT, reply, paid=True)
        with asking_for("explain", SECOND):
            log.used(digest(2), ENDPOINT, reply, paid=True)
        with asking_for("simulate", FIRST):
            log.used(digest(1), ENDPOINT, reply, paid=False)
        log.note(Call(digest(3), "simulate", "d/1", ENDPOINT, "batch", usage))
        expected = log.accounts()
    assert expected == {
        Account("explain", ENDPOINT, "live"): usage + usage,
        Account("simulate", ENDPOINT, "cache"): usage,
        Account("simulate", ENDPOINT, "batch"): usage,
    }
    with CallLog(path) as again:
        assert again.accounts() == expected
        assert again.total() == usage + usage + usage
    assert [(call.digest, call.feature, call.via) for call in read_calls(path)] == [
        (digest(1), "d/1", "live"),
        (digest(2), "d/2", "live"),
        (digest(1), "d/1", "cache"),
        (digest(3), "d/1", "batch"),
    ]


def test_kill_9_forgets_no_payment(tmp_path: Path) -> None:
    """Lines that wait in a buffer are money that a budget never hears of."""
    path = tmp_path / "calls.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(50):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    told = 50 + writer.stdout.read().count("\n")
    writer.wait()
    with CallLog(path) as log:
        assert told <= log.total().calls <= told + 1


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """The next line appended behind half a line would spoil both."""
    path = tmp_path / "calls.jsonl"
    with CallLog(path) as log:
        log.used(digest(1), ENDPOINT, text_reply("x"), paid=True)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert [call.digest for call in read_calls(path)] == [digest(1)]
    with CallLog(path) as log:
        assert log.total().calls == 1
        log.used(digest(2), ENDPOINT, text_reply("y"), paid=True)
    assert [call.digest for call in read_calls(path)] == [digest(1), digest(2)]


@pytest.mark.parametrize("line", ["{}", "[1]", "not json", '{"digest":"a","stage":"s","feature":"f","model":"m"}'])
def test_a_file_that_is_no_log_is_said(tmp_path: Path, line: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(RunError, match="line 1"):
        CallLog(path)
