"""What a command prints of what somebody else wrote: shown, and never obeyed by a terminal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from autointerp.cli.say import make_console, say, say_error, say_json
from autointerp.errors import RunError

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\ud800c"
SHOWN = r"a\u{1B}]0;owned\u{7}\u{1B}[2J\u{9B}31m\u{202E}b\u{D800}c"


def test_escapes_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """A server's error text cleared the screen and renamed the window; half a character was a traceback."""
    say(f"{HOSTILE}\nsecond line")
    say_error(RunError(f"{HOSTILE}\nforged: line"), "error: ")
    told = capsys.readouterr()
    assert told.out == f"{SHOWN}\nsecond line\n"
    assert told.err == f"error: {SHOWN} forged: line\n"


def test_tables_keep_their_colours_and_not_their_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """A dictionary's `hook_name` went to the terminal as it was."""
    table = Table()
    table.add_row(HOSTILE)
    console = make_console(force_terminal=True, width=200)
    console.print("[red]red[/]", end="")
    console.print(table, markup=False)
    told = capsys.readouterr().out
    assert SHOWN in told
    assert "\x1b[31mred" in told
    assert "\x1b[2J" not in told


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Escaped as JSON escapes, so that a reader gets the very text back; what shows stays readable."""
    say_json({"note": f"é {HOSTILE} \U000e0001"})
    line = capsys.readouterr().out
    assert line.strip().isprintable()
    assert "é" in line
    assert json.loads(line) == {"note": f"é {HOSTILE} \U000e0001"}


@pytest.mark.parametrize(("end", "code"), [("| true", 1), (">&-", 0), ("> /dev/full", 2)])
def test_a_closed_or_full_standard_output_is_no_traceback(tmp_path: Path, end: str, code: int) -> None:
    """`autointerp status RUN | head -1` ended in a traceback."""
    records = tmp_path / "r.jsonl"
    records.write_text('{"tokens": ["a"], "activations": [1]}\n')
    script = (
        f"set -o pipefail; sleep 0.2; (sleep 2; {sys.executable} -c 'from autointerp.cli.main import main; main()' "
        f"import {records} --out {tmp_path / 'run'}) {end}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "records.jsonl").is_file()
    assert (code == 2) == done.stderr.startswith("error: ")
